"""What networks can learn by heart, and what the demo of training takes."""

import json
import subprocess
import sys
import time

import pytest

from s2cd.networks.spec import FUSIONS_OF

DROPPING = {"rate": 5e-3, "steps": 1200}
LITE = {"encoder": "efficientnet-lite0", "depth": 4, "detail": True, "rate": 3e-3, "steps": 150}
KINDS = [(arch, fusion) for arch, fusions in FUSIONS_OF.items() for fusion in fusions]


@pytest.mark.parametrize(("arch", "fusion"), KINDS)
def test_every_architecture_learns_two_real_windows_by_heart(
    learned_by_heart, arch, fusion, figure
):
    own = DROPPING if arch.startswith("fc") else LITE if arch == "siamese" else {"steps": 80}
    began = time.monotonic()
    f1 = learned_by_heart(arch=arch, fusion=fusion, **own)
    took = f"{own['steps']} steps, {time.monotonic() - began:.0f} s"
    figure(f"{arch}, {fusion}: F1 on two windows learned by heart", f"{f1:.3f} ({took})", "0.95")
    assert f1 > 0.95


def test_the_demo_of_training_learns_in_two_minutes(tmp_path, figure):
    began = time.monotonic()
    line = [sys.executable, "-m", "s2cd", "demo", "--train", str(tmp_path / "d")]
    subprocess.run(line, check=True, capture_output=True)
    seconds = time.monotonic() - began
    rows = (tmp_path / "d" / "run" / "metrics.csv").read_text().splitlines()
    names = rows[0].split(",")
    scores = [float(row.split(",")[names.index("f1")]) for row in rows[1:]]
    print(f"demo --train: {seconds:.0f} s, F1 by epoch {json.dumps(scores)}")
    figure("`demo --train`", f"{seconds:.0f} s, F1 {scores[-1]:.2f}", "120 s, F1 0.6")
    assert seconds < 120 and scores[-1] > 0.6
