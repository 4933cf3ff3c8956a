"""Networks: what a checkpoint may hold, and that the same laws hold for its maps."""

import json
import pickle
import struct

import numpy as np
import pytest
import rasterio
from conftest import grid, landscape, refused

from s2cd.detection.detect import Request, detect_files
from s2cd.detection.schedule import Workers
from s2cd.errors import S2cdError
from s2cd.networks import runtime
from s2cd.networks.checkpoint import load_network, read_spec, save_checkpoint
from s2cd.networks.inputs import network_input, statistics_of
from s2cd.networks.learned import open_network
from s2cd.networks.spec import Spec
from s2cd.scenes.pair import Window, make_pair
from s2cd.scenes.stack import open_stack, stack_array, write_stack

torch = pytest.importorskip("torch")
BANDS = ("B02", "B03", "B04", "B08")


def spec(**changed) -> Spec:
    usual = {"architecture": "siamese", "encoder": "resnet18", "fusion": "diff", "bands": BANDS}
    return Spec(**{**usual, "window": 192, "halo": 32, **changed})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A siamese U-Net with seeded random weights: it maps nonsense, but always the same."""
    from s2cd.networks.build import build

    torch.manual_seed(0)
    network = build(spec())
    with torch.no_grad():
        network.head.weight.mul_(20)
    path = tmp_path_factory.mktemp("net") / "tiny.safetensors"
    save_checkpoint(path, spec(), network)
    return path


@pytest.fixture
def pair_of_four(make_place):
    return make_place((300, 340), bands=BANDS)


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_a_spec_survives_json():
    one = spec(fusion="concat", threshold=0.38, trained_on="13 scenes", calibrated=True)
    assert Spec.from_json(one.to_json()) == one


@pytest.mark.parametrize(
    "changed",
    [
        {"architecture": "magic"},
        {"fusion": "sum"},
        {"normalization": "none"},
        {"bands": ()},
        {"bands": ("B02", "B02")},
        {"bands": ("B99",)},
        {"window": 190},
        {"window": 1 << 30, "halo": 0},
        {"halo": -32},
        {"halo": 96},
        {"halo": 20},
        {"stride": 0},
        {"threshold": 0.0},
        {"threshold": float("nan")},
    ],
)
def test_a_spec_without_sense_is_refused(changed):
    with pytest.raises(S2cdError):
        spec(**changed)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"encoder": "resnet18"}', "[" * 100_000])
def test_a_spec_that_is_none_is_refused(text):
    with pytest.raises(S2cdError):
        Spec.from_json(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [("bands", "B02"), ("bands", [1]), ("stride", "32"), ("stride", True), ("encoder", 3),
     ("threshold", "0.5"), ("calibrated", 1), ("surprise", 1)],
)  # fmt: skip
def test_a_spec_with_a_field_of_another_kind_is_refused(name, value):
    values = {**json.loads(spec().to_json()), name: value}
    with pytest.raises(S2cdError):
        Spec.from_json(json.dumps(values))


def test_save_then_load_predicts_the_same_bits(checkpoint):
    from s2cd.networks.build import build

    torch.manual_seed(0)
    network = build(spec()).eval()
    with torch.no_grad():
        network.head.weight.mul_(20)
    dates = torch.randn(2, 2, 4, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network(dates), load_network(checkpoint)(dates))
    assert read_spec(checkpoint) == spec()


def test_diff_is_blind_to_the_order_of_the_dates_and_concat_is_not():
    from s2cd.networks.build import build

    dates = torch.randn(1, 2, 4, 64, 64)
    for fusion, same in (("diff", True), ("concat", False)):
        network = build(spec(fusion=fusion)).eval()
        with torch.inference_mode():
            assert torch.allclose(network(dates), network(dates.flip(1)), atol=1e-5) == same


def test_both_dates_pass_one_encoder_once():
    from s2cd.networks.build import build

    network, seen = build(spec()).eval(), []
    network.encoder.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    with torch.inference_mode():
        network(torch.randn(3, 2, 4, 64, 64))
    assert seen == [6]


@pytest.mark.parametrize("encoder", ["mit_b0", "efficientnet-b0", "mobilenet_v2"])
def test_other_encoders_fit_in(encoder):
    from s2cd.networks.build import build

    network = build(spec(encoder=encoder)).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 2, 4, 64, 64)).shape == (1, 1, 64, 64)


class Bomb:
    def __reduce__(self):
        return (print, ("boom",))


def header_of(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rewritten(path, header, body):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def test_a_pickle_is_refused_and_never_opened(tmp_path, capfd):
    for name, content in (("a.pt", pickle.dumps(Bomb())), ("b.safetensors", b"PK\x03\x04zip")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(S2cdError, match="is a pickle"):
            read_spec(tmp_path / name)
    torch.save({"w": Bomb()}, tmp_path / "c.ckpt")
    with pytest.raises(S2cdError, match="is a pickle"):
        open_network(tmp_path / "c.ckpt")
    assert "boom" not in capfd.readouterr().out


def test_damaged_checkpoints_are_refused(checkpoint, tmp_path):
    data = checkpoint.read_bytes()
    path = tmp_path / "x.safetensors"
    for content in (
        b"", b"abc", b"\xff" * 100, data[:5], data[:200], data[: len(data) // 2], data[:-1],
        struct.pack("<Q", 1 << 60) + data[8:], struct.pack("<Q", 10) + b"[1, 2, 3] ",
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(S2cdError, match=r"x\.safetensors"):
            load_network(path)


def test_tampered_metadata_is_refused(checkpoint, tmp_path):
    header, body = header_of(checkpoint)
    path = tmp_path / "x.safetensors"
    usual = json.loads(header["__metadata__"]["s2cd"])
    for changed in (
        {"encoder": "resnet50"},
        {"fusion": "concat"},
        {"bands": ["B02"]},
        {"encoder": "os.system"},
        {"window": 10**9},
    ):
        text = json.dumps({**usual, **changed})
        bad = {**header, "__metadata__": {"s2cd": text}}
        with pytest.raises(S2cdError):
            load_network(rewritten(path, bad, body))
    for metadata in ({}, {"s2cd": 3}, [], None):
        with pytest.raises(S2cdError):
            read_spec(rewritten(path, {**header, "__metadata__": metadata}, body))


def test_sizes_that_would_exhaust_memory_are_refused(checkpoint, tmp_path):
    header, body = header_of(checkpoint)
    name = next(n for n in header if n != "__metadata__")
    header[name] = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}
    with pytest.raises(S2cdError, match="other weights than its spec"):
        load_network(rewritten(tmp_path / "x.safetensors", header, body))


def test_the_command_takes_a_checkpoint_and_says_so_in_the_map(pair_of_four, checkpoint, run):
    place = pair_of_four
    done = run("detect", place.before, place.after, "-o", "c.tif", "--model", checkpoint, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["model"] == "tiny" and said["bands"] == list(BANDS)
    with rasterio.open(place.folder / "c.tif") as file:
        tags = file.tags()
    import hashlib

    assert tags["MODEL_SHA256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_bands_that_the_stacks_lack_are_named(make_place, checkpoint, run):
    place = make_place((100, 100), bands=("B02", "B03", "B04"))
    line = refused(run("detect", place.before, place.after, "-o", "c.tif", "--model", checkpoint))
    assert "no band B08" in line


def test_a_network_map_depends_on_blocks_and_workers_by_rounding_only(make_place, checkpoint):
    place = make_place((700, 530), bands=BANDS, hole=True)
    maps = []
    for name, block, threads in (("a", 128, 1), ("b", 512, 2), ("c", 1024, 1)):
        out = place.folder / name
        out.mkdir()
        request = Request(
            place.before, place.after, out / "c.tif", out / "p.tif", str(checkpoint),
            block=block, workers=Workers(threads),
        )  # fmt: skip
        detect_files(request)
        maps.append(read(out / "p.tif").astype(int))
    assert len(np.unique(maps[0])) > 20
    for other in maps[1:]:
        # float32 sums in another order: at most one step of 0.5 %, in at most 1 pixel of 1000
        assert np.abs(maps[0] - other).max() <= 1
        assert (maps[0] != other).mean() < 1e-3
        np.testing.assert_array_equal(maps[0] == 255, other == 255)


def test_windows_are_placed_by_the_lattice_without_seams(make_place, checkpoint):
    place = make_place((320, 320), bands=BANDS)
    pair = make_pair(open_stack(place.before), open_stack(place.after), BANDS)
    frozen = open_network(checkpoint, "cpu").fit(pair)
    detect_files(
        Request(
            place.before,
            place.after,
            place.folder / "c.tif",
            place.folder / "p.tif",
            str(checkpoint),
        )
    )
    window = pair.window(slice(128 - 32, 256 + 32), slice(128 - 32, 256 + 32))
    alone = frozen.predict(window.before[None], window.after[None])[0, 32:-32, 32:-32]
    stored = read(place.folder / "p.tif")[128:256, 128:256].astype(int)
    assert np.abs(np.rint(alone * 200) - stored).max() <= 1


def test_training_and_detection_see_the_same_numbers():
    values = landscape((64, 64), 4)
    other = values * 2
    other[:, :8] = np.nan
    window = Window(values, other, np.isfinite(other[0]))
    statistics = statistics_of([window], 4)
    seen = network_input(values[None], other[None], statistics)
    assert seen.shape == (1, 2, 4, 64, 64) and seen.dtype == np.float32
    inside = seen[0, :, :, 8:]
    np.testing.assert_allclose(inside.mean(axis=(2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(inside.std(axis=(2, 3)), 1, atol=1e-3)
    assert (seen[0, 1, :, :8] == 0).all()
    raw = network_input(values[None], other[None], None)
    np.testing.assert_array_equal(raw[0, 0], values)


def test_identical_dates_give_what_no_difference_gives(tmp_path, checkpoint):
    ground = landscape((200, 200), 4)
    write_stack(stack_array(ground, grid((200, 200)), BANDS), tmp_path / "a.tif")
    request = Request(
        tmp_path / "a.tif",
        tmp_path / "a.tif",
        tmp_path / "c.tif",
        tmp_path / "p.tif",
        str(checkpoint),
    )
    detect_files(request)
    # |f1 - f2| = 0 at every scale: whatever the ground, inside the network only its biases speak
    inner = read(tmp_path / "p.tif")[70:130, 70:130]
    assert np.ptp(inner.astype(int)) <= 1


def test_bf16_is_refused_where_the_processor_would_emulate_it(monkeypatch, checkpoint):
    monkeypatch.setattr(runtime, "has_native_bf16", lambda device: False)
    with pytest.raises(S2cdError, match="no bfloat16 of its own"):
        open_network(checkpoint, "cpu", "bf16")
    monkeypatch.setattr(runtime, "has_native_bf16", lambda device: True)
    assert open_network(checkpoint, "cpu", "bf16").precision == "bf16"


def test_bf16_agrees_with_fp32_where_it_is_native(pair_of_four, checkpoint):
    if not runtime.has_native_bf16("cpu"):
        pytest.skip("this processor has no native bfloat16")
    pair = make_pair(open_stack(pair_of_four.before), open_stack(pair_of_four.after), BANDS)
    window = pair.window(slice(0, 192), slice(0, 192))
    both = [
        open_network(checkpoint, "cpu", p)
        .fit(pair)
        .predict(window.before[None], window.after[None])
        for p in ("fp32", "bf16")
    ]
    assert np.abs(both[0] - both[1]).mean() < 0.05
    assert not np.array_equal(*both)


def test_a_device_that_is_not_there_is_refused(checkpoint):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(S2cdError, match="No CUDA device"):
        open_network(checkpoint, "cuda")


def test_models_are_listed_and_explained(run, checkpoint):
    listed = run("models", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert {"cva", "pca-kmeans", "irmad"} <= set(json.loads(listed.stdout)["models"])
    assert "cva" in run("models").stdout
    said = json.loads(run("models", "info", checkpoint, "--json").stdout)
    assert said["encoder"] == "resnet18" and said["bands"] == list(BANDS)
    assert "no model" in refused(run("models", "info", "nothing"))


def test_which_device_auto_is_is_said_where_it_computes(pair_of_four, checkpoint, monkeypatch):
    pair = make_pair(*(open_stack(path) for path in (pair_of_four.before, pair_of_four.after)))
    frozen = pickle.loads(pickle.dumps(open_network(checkpoint).fit(pair)))
    asked = []
    monkeypatch.setattr(runtime, "choose_device", lambda device: asked.append(device) or "cpu")
    runtime.network_at.cache_clear()
    window = pair.window(slice(0, 192), slice(0, 192))
    assert frozen.predict(window.before[None], window.after[None]).shape == (1, 192, 192)
    assert asked == ["auto"]
