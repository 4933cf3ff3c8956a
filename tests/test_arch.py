"""Architectures: shapes, laws, and that each learns."""

import pytest

from s2cd.errors import S2cdError
from s2cd.networks.spec import FUSIONS_OF, Spec, stride_of
from s2cd.scenes.bands import BANDS as ALL

torch = pytest.importorskip("torch")
BANDS = ("B02", "B03", "B04", "B08", "B11")
KINDS = [(a, f) for a, fusions in FUSIONS_OF.items() for f in fusions]


def spec(architecture: str, fusion: str, **changed) -> Spec:
    encoder = {"siamese": "resnet18", "unet-resnet50-fusion": "resnet50"}.get(architecture, "")
    usual = {"encoder": encoder, "bands": BANDS, "stride": stride_of(architecture)}
    return Spec(architecture, fusion=fusion, **{**usual, **changed})


def network_of(*kind: str, **changed):
    from s2cd.networks.build import build

    torch.manual_seed(0)
    return build(spec(*kind, **changed))


@pytest.mark.parametrize(("architecture", "fusion"), KINDS)
def test_every_architecture_takes_any_bands_and_gives_any_classes(architecture, fusion):
    dates = torch.randn(1, 2, 5, 64, 96)
    with torch.inference_mode():
        assert network_of(architecture, fusion).eval()(dates).shape == (1, 1, 64, 96)
        many = network_of(architecture, fusion, classes=3, bands=BANDS[:3]).eval()
        assert many(dates[:, :, :3]).shape == (1, 4, 64, 96)


@pytest.mark.parametrize("architecture", ["unet", "fc-ef", "fc-siam-conc", "fc-siam-diff"])
def test_a_network_is_equivariant_to_shifts_by_its_stride(architecture):
    network = network_of(architecture, FUSIONS_OF[architecture][0]).eval()
    dates = torch.randn(1, 2, 5, 336, 336)
    with torch.inference_mode():
        whole = network(dates)[..., 160:176, 160:176]
        moved = network(dates[..., 16:, 16:])[..., 144:160, 144:160]
    assert torch.allclose(whole, moved, atol=1e-4)


def test_fc_ef_and_its_siblings_have_the_weights_of_the_paper():
    # 13 bands: 1.35, 1.35 and 1.55 million, as the official code counts them
    sizes = {}
    for kind, fusion in (("fc-ef", "concat"), ("fc-siam-diff", "diff"), ("fc-siam-conc", "concat")):
        network = network_of(kind, fusion, bands=tuple(ALL), classes=1)
        sizes[kind] = sum(w.numel() for w in network.parameters())
    rounded = {kind: round(size / 1e6, 2) for kind, size in sizes.items()}
    assert rounded == {"fc-ef": 1.35, "fc-siam-diff": 1.35, "fc-siam-conc": 1.55}


def test_the_features_of_unet_resnet50_fusion_are_those_it_is_named_for():
    network = network_of("unet-resnet50-fusion", "concat").eval()
    with torch.inference_mode():
        levels = network.features(torch.randn(1, 5, 64, 64))
    assert [(f.shape[1], 64 // f.shape[2]) for f in levels] == [
        (64, 2), (256, 2), (512, 4), (1024, 8), (2048, 16)
    ]  # fmt: skip
    fused = [(f[0].in_channels, f[0].out_channels) for f in network.fusions]
    assert fused == [(128, 64), (512, 128), (1024, 256), (2048, 512), (4096, 512)]
    assert network.dropout.p == 0.3
    assert network(torch.randn(1, 2, 5, 64, 64)).shape == (1, 1, 64, 64)


def test_a_frozen_unet_resnet50_fusion_keeps_its_statistics_and_its_decoder_learns():
    from s2cd.networks.build import freeze_encoder

    network = network_of("unet-resnet50-fusion", "concat")
    freeze_encoder(network)
    network.train()
    assert not any(module.training for module in network.encoder.modules())
    assert network.dropout.training and network.join3.training
    kept = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    network(torch.randn(2, 2, 5, 64, 64)).mean().backward()
    assert all(torch.equal(v, kept[n]) for n, v in network.encoder.state_dict().items())
    learns = [name for name, weight in network.named_parameters() if weight.grad is not None]
    assert learns and not any(name.startswith("encoder.") for name in learns)


def test_a_frozen_encoder_stays_as_it_is_in_training():
    from s2cd.networks.build import freeze_encoder

    network = network_of("siamese", "diff")
    freeze_encoder(network)
    network.train()
    kept = {n: v.clone() for n, v in network.encoder.state_dict().items()}
    loss = network(torch.randn(2, 2, 5, 64, 64)).square().mean()
    loss.backward()
    assert all(w.grad is None for w in network.encoder.parameters())
    assert network.head.weight.grad is not None and network.decoder.training
    assert all(torch.equal(v, kept[n]) for n, v in network.encoder.state_dict().items())


@pytest.mark.parametrize("encoder", ["mit_b0", "swin_tiny_patch4_window7_224"])
def test_transformers_are_encoders_and_come_back_from_disk(encoder, tmp_path):
    from s2cd.networks.build import build
    from s2cd.networks.checkpoint import load_network, save_checkpoint

    one = spec("siamese", "diff", encoder=encoder)
    network = build(one).eval()
    save_checkpoint(tmp_path / "t.safetensors", one, network)
    dates = torch.randn(1, 2, 5, 64, 96)
    with torch.inference_mode():
        assert torch.equal(network(dates), load_network(tmp_path / "t.safetensors")(dates))


@pytest.mark.parametrize(
    ("encoder", "fusion", "bands", "classes"),
    [
        ("resnet50", "concat", 3, 1),
        ("efficientnet-b0", "diff", 4, 3),
        ("convnext_tiny", "concat+diff", 10, 1),
        ("mit_b2", "attention", 10, 4),
        ("swin_tiny_patch4_window7_224", "attention", 3, 1),
    ],
)
def test_the_encoders_people_name_learn_and_come_back_from_disk(
    encoder, fusion, bands, classes, tmp_path
):
    from s2cd.learning.losses import make_loss
    from s2cd.networks.checkpoint import load_network, save_checkpoint

    names = tuple(list(ALL)[1 : bands + 1])
    one = spec("siamese", fusion, encoder=encoder, bands=names, classes=classes)
    network = network_of("siamese", fusion, encoder=encoder, bands=names, classes=classes)
    dates, mask = torch.randn(2, 2, bands, 64, 64), torch.randint(0, classes + 1, (2, 64, 64))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    network.train()
    before = network.encoder.state_dict()
    before = {name: value.clone() for name, value in before.items() if value.ndim > 1}
    make_loss("bce+iou")(network(dates), mask).backward()
    optimizer.step()
    after = network.encoder.state_dict()
    moved = [not torch.equal(value, after[name]) for name, value in before.items()]
    assert sum(moved) > 0.9 * len(moved)  # some hold a head that nothing asks for
    idle = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert all(name.startswith("encoder.") for name in idle)
    save_checkpoint(tmp_path / "n.safetensors", one, network.eval())
    again = load_network(tmp_path / "n.safetensors")
    with torch.inference_mode():
        for size in (96, 128):
            window = torch.randn(1, 2, bands, size, size)
            found = network(window)
            assert found.shape == (1, one.outputs, size, size)
            assert torch.equal(found, again(window))


def test_an_unknown_encoder_or_fusion_is_refused_with_what_there_is():
    from s2cd.networks.build import build

    with pytest.raises(S2cdError, match="no encoder 'resnet19'"):
        build(spec("siamese", "diff", encoder="resnet19"))
    with pytest.raises(S2cdError, match="no fusion 'attention'"):
        spec("unet", "attention")
    with pytest.raises(S2cdError, match="takes no encoder of choice"):
        spec("unet", "diff", encoder="resnet18")


def test_attention_finds_what_moved_by_one_pixel():
    from s2cd.networks.fusion import NeighbourAttention

    search = NeighbourAttention(8)
    with torch.no_grad():
        for layer in (search.query, search.key, search.value):
            layer.weight.copy_(torch.eye(8)[:, :, None, None])
            layer.bias.zero_()
        search.query.weight.mul_(100)
        one = torch.nn.functional.normalize(torch.randn(1, 8, 16, 16), dim=1)
        found = search(one, one.roll(1, dims=3))
    assert torch.allclose(found[..., 1:-1, 1:-2], one[..., 1:-1, 1:-2], atol=0.05)
