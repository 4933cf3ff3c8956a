"""OpenVINO says what torch says, or is not taken; and what is said where it is not there."""

import json
import logging
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from conftest import refused

from s2cd.detection.detect import Request, detect_files
from s2cd.detection.schedule import Workers
from s2cd.errors import S2cdError
from s2cd.networks import openvino as vino
from s2cd.networks import runtime, selection
from s2cd.networks.checkpoint import save_checkpoint
from s2cd.networks.learned import open_network
from s2cd.networks.registry import Compute
from s2cd.networks.spec import Spec
from s2cd.scenes.pair import make_pair
from s2cd.scenes.stack import open_stack

torch = pytest.importorskip("torch")
BANDS = ("B02", "B03", "B04", "B08")
needs_openvino = pytest.mark.skipif(not vino.has_openvino(), reason="OpenVINO is not installed")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small network with seeded random weights, whose probabilities spread."""
    from s2cd.networks.build import build

    torch.manual_seed(0)
    spec = Spec("fc-siam-diff", "", "diff", BANDS, window=96, halo=16, stride=16)
    network = build(spec)
    path = tmp_path_factory.mktemp("net") / "tiny.safetensors"
    save_checkpoint(path, spec, network)
    return path


@pytest.fixture
def place(make_place):
    return make_place((200, 230), bands=BANDS)


@pytest.fixture
def pair(place):
    return make_pair(open_stack(place.before), open_stack(place.after), BANDS)


@pytest.fixture
def worth_it(monkeypatch):
    """Any pair is large enough to compare ways to compute, and nothing was found yet."""
    monkeypatch.setattr(selection, "LEAST_PIXELS", 1)
    monkeypatch.setattr(selection, "_VERDICTS", {})


def read(path):
    with rasterio.open(path) as file:
        return file.read(1).astype(int), file.tags()


def maps_of(place, checkpoint, backend, threads=None):
    paths = [place.folder / f"{backend}_{role}.tif" for role in "cp"]
    how = Compute("cpu", "fp32", backend)
    detect_files(
        Request(
            place.before,
            place.after,
            *paths,
            str(checkpoint),
            how,
            workers=Workers(threads),
            overwrite=True,
        )
    )
    return read(paths[1])


@needs_openvino
def test_the_map_of_openvino_is_that_of_torch(place, checkpoint):
    (one, tags), (two, others) = (
        maps_of(place, checkpoint, backend) for backend in ("torch", "openvino")
    )
    assert len(np.unique(one)) > 10
    assert (np.abs(one - two) <= 1).mean() >= 0.999
    np.testing.assert_array_equal(one == 255, two == 255)
    assert tags["BACKEND"] == "torch" and others["BACKEND"] == "openvino"


@needs_openvino
def test_the_map_of_openvino_does_not_depend_on_threads(place, checkpoint):
    (one, _), (two, _) = (maps_of(place, checkpoint, "openvino", n) for n in (1, 3))
    assert (np.abs(one - two) <= 1).all() and (one != two).mean() < 1e-3


@needs_openvino
def test_pixels_without_data_give_finite_probabilities(pair, checkpoint):
    frozen = open_network(checkpoint, "cpu", backend="openvino").fit(pair)
    window = pair.window(slice(-48, 48), slice(-48, 48))
    assert np.isnan(window.before).any()
    dates = window.before[None].repeat(3, axis=0), window.after[None].repeat(3, axis=0)
    found = frozen.predict(*dates)
    assert found.shape == (3, 96, 96) and np.isfinite(found).all()
    plain = replace(frozen, backend="torch").predict(*dates)
    np.testing.assert_allclose(found, plain, atol=1e-4)


@needs_openvino
def test_auto_takes_openvino_where_it_agrees_and_says_so_once(pair, checkpoint, worth_it, caplog):
    detector = open_network(checkpoint, "cpu", backend="auto")
    with caplog.at_level(logging.INFO, "s2cd"):
        assert detector.fit(pair).backend == "openvino"
        assert detector.fit(pair).backend == "openvino"
    assert caplog.text.count("openvino in fp32: agrees with torch in fp32 in 100.00 %") == 1


def wrong(monkeypatch, alter):
    """Make OpenVINO give altered log odds."""

    class Wrong:
        def __init__(self, path, sha256, precision):
            self._plain = runtime.Eager(runtime.network_at(path, sha256, "cpu"))

        def logits(self, dates):
            return alter(self._plain.logits(dates))

    monkeypatch.setattr(runtime, "OpenVino", Wrong)
    monkeypatch.setattr(runtime, "has_openvino", lambda: True)
    monkeypatch.setattr(selection, "has_openvino", lambda: True)


@pytest.mark.parametrize(
    "alter",
    [lambda x: -x, lambda x: x + 0.5, lambda x: x * float("nan")],
    ids=["other side", "shifted", "NaN"],
)
def test_a_backend_that_disagrees_is_not_taken(
    pair, checkpoint, worth_it, monkeypatch, caplog, alter
):
    wrong(monkeypatch, alter)
    frozen = open_network(checkpoint, "cpu", backend="auto").fit(pair)
    assert frozen.backend == "torch"
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 1 and said[0].startswith("not openvino in fp32: it agrees with ")


def test_a_backend_that_agrees_is_taken(pair, checkpoint, worth_it, monkeypatch):
    wrong(monkeypatch, lambda x: x + 1e-5)
    assert open_network(checkpoint, "cpu", backend="auto").fit(pair).backend == "openvino"


def test_a_network_that_cannot_be_converted_is_computed_by_torch(
    pair, checkpoint, worth_it, monkeypatch, caplog
):
    def refuse(_):
        raise S2cdError("OpenVINO cannot compute it")

    wrong(monkeypatch, refuse)
    assert open_network(checkpoint, "cpu", backend="auto").fit(pair).backend == "torch"
    assert "not openvino in fp32: OpenVINO cannot compute it" in caplog.text


def test_auto_is_torch_for_small_pairs_and_where_openvino_is_absent(
    pair, checkpoint, monkeypatch, caplog
):
    detector = open_network(checkpoint, "cpu", backend="auto")
    plain = open_network(checkpoint, "cpu").fit(pair)
    assert detector.fit(pair) == plain
    monkeypatch.setattr(selection, "LEAST_PIXELS", 1)
    monkeypatch.setattr(selection, "has_openvino", lambda: False)
    with caplog.at_level(logging.INFO, "s2cd"):
        assert detector.fit(pair) == plain
    assert not caplog.records


def test_asking_for_what_is_not_installed_says_what_to_install(checkpoint, monkeypatch):
    monkeypatch.setattr(runtime, "has_openvino", lambda: False)
    with pytest.raises(S2cdError, match=r"pip install 's2cd\[openvino\]'"):
        open_network(checkpoint, "cpu", backend="openvino")


def test_backends_that_cannot_be_are_refused_in_one_line(place, checkpoint, run):
    words = ("detect", place.before, place.after, "-o", "c.tif", "--model", checkpoint)
    assert "no backend 'tpu'" in refused(run(*words, "--backend", "tpu"))
    said = refused(run(*words, "--backend", "openvino", "--device", "cuda"))
    assert "--device cpu" in said


@needs_openvino
def test_a_frozen_network_of_openvino_can_be_sent(pair, checkpoint):
    frozen = open_network(checkpoint, "cpu", backend="openvino").fit(pair)
    window = pair.window(slice(0, 96), slice(0, 96))
    dates = window.before[None], window.after[None]
    found = frozen.predict(*dates)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frozen)).predict(*dates), found)


def test_what_was_chosen_is_kept_when_a_run_continues(pair, checkpoint):
    detector = open_network(checkpoint, "cpu", backend="auto")
    numbers = json.loads(json.dumps(detector.fit(pair).numbers()))
    assert detector.restore(numbers).backend == "torch"
    assert detector.restore({**numbers, "precision": "bf16"}).precision == "bf16"
    if vino.has_openvino():
        assert detector.restore({**numbers, "backend": "openvino"}).backend == "openvino"


def precisions(monkeypatch, native, there):
    monkeypatch.setattr(selection, "has_native_bf16", lambda device: native)
    monkeypatch.setattr(selection, "has_openvino", lambda: there)
    asked = [("auto", "auto"), ("auto", "fp32"), ("torch", "auto"), ("openvino", "auto")]
    return [[str(way) for way in selection.ways(*both, "cpu")] for both in asked]


def test_bf16_is_tried_only_where_it_is_native_and_the_fast_ways_first(monkeypatch):
    torch_in, vino_in = "torch in {}".format, "openvino in {}".format
    plain, half = torch_in("fp32"), torch_in("bf16")
    both = [vino_in("bf16"), vino_in("fp32")]
    assert precisions(monkeypatch, True, True) == [
        [*both, half, plain], [vino_in("fp32"), plain], [half, plain], both,
    ]  # fmt: skip
    assert precisions(monkeypatch, False, False)[:3] == [[plain]] * 3


def bf16(monkeypatch, alter):
    """Make torch in bf16 native, and give altered log odds."""
    real = runtime.Eager.logits

    def logits(self, dates):
        plain = real(replace(self, precision="fp32"), dates)
        return alter(plain) if self.precision == "bf16" else plain

    monkeypatch.setattr(runtime.Eager, "logits", logits)
    monkeypatch.setattr(selection, "has_native_bf16", lambda device: True)
    monkeypatch.setattr(selection, "has_openvino", lambda: False)


@pytest.mark.parametrize(
    ("alter", "taken"), [(lambda x: x + 0.02, "bf16"), (lambda x: x + 0.5, "fp32")]
)
def test_bf16_is_taken_only_where_the_map_is_that_of_fp32(
    pair, checkpoint, worth_it, monkeypatch, alter, taken
):
    bf16(monkeypatch, alter)
    detector = open_network(checkpoint, "cpu", "auto", "auto")
    assert detector.fit(pair).precision == taken


def test_an_unknown_precision_is_refused_in_one_line(place, checkpoint, run):
    words = ("detect", place.before, place.after, "-o", "c.tif", "--model", checkpoint)
    assert "no precision 'fp8'" in refused(run(*words, "--precision", "fp8"))


def test_a_detection_leaves_the_threads_of_its_caller_as_they_are():
    code = """
import torch
from s2cd.detection.schedule import Workers, run_all
list(run_all([(int, ())] * 8, Workers(threads=64)))
print(torch.get_num_threads())
"""
    alone = "import torch; print(torch.get_num_threads())"
    one, other = (
        subprocess.run([sys.executable, "-c", c], check=True, capture_output=True).stdout
        for c in (alone, code)
    )
    assert one == other
