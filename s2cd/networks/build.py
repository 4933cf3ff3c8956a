"""From a spec to its network."""

from torch import nn

from s2cd.networks.fcsiam import FcSiam
from s2cd.networks.resnetfusion import ResnetFusion
from s2cd.networks.siamese import SiameseUnet
from s2cd.networks.spec import Spec
from s2cd.networks.unet import Unet

_OWN = {"siamese": SiameseUnet, "unet": Unet, "unet-resnet50-fusion": ResnetFusion}


def build(spec: Spec) -> nn.Module:
    """The network of a spec, with random weights: (n, 2, band, y, x) to (n, output, y, x) logits.

    Raises:
        S2cdError: where its encoder is unknown.
    """
    return _OWN.get(spec.architecture, FcSiam)(spec)


def freeze_encoder(network: nn.Module) -> None:
    """Keep the encoder as it is: no gradients, and its batch normalisation in evaluation mode.

    Raises:
        AttributeError: where the network has no encoder of its own.
    """
    encoder = network.get_submodule("encoder")
    for weight in encoder.parameters():
        weight.requires_grad_(False)
    encoder.eval()
    encoder.train = lambda mode=True: encoder  # type: ignore[method-assign]
