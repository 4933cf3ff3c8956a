"""Measure detectors on the labelled scenes of OSCD with the commands a user would type.

    python examples/oscd_baselines.py ../shared/data/oscd work --model cva,irmad
    python examples/oscd_baselines.py ../shared/data/oscd work --normalize none,linear,ir-mad

Prints a table of F1 by scene and over all pixels of all scenes (micro), or, with --normalize, of
each model under each normalisation. Scenes whose map is in the work folder already are not
computed again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path


def s2cd(*words: object) -> str:
    """Run one command and give what it prints on standard output."""
    line = [sys.executable, "-m", "s2cd", *map(str, words)]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout


def scores(scene: str, model: str, chosen: argparse.Namespace) -> dict[str, float]:
    """Stack, detect and evaluate one scene; ``model`` may name a normalisation after a colon."""
    data, work = chosen.data, chosen.work
    dates = [work / f"{scene}_{role}.tif" for role in ("before", "after")]
    for date, folder in zip(dates, ("imgs_1", "imgs_2"), strict=True):
        if not date.exists():
            s2cd("stack", data / "Images" / scene / folder, "-o", date)
    change = work / f"{scene}_{model.replace(':', '_')}.tif"
    name, _, method = model.partition(":")
    if not change.exists():
        s2cd(
            "detect",
            *dates,
            "-o",
            change,
            "--model",
            name,
            *(["--normalize", method] * bool(method)),
        )
    label = data / "Train Labels" / scene / "cm" / f"{scene}-cm.tif"
    return json.loads(s2cd("evaluate", "--prediction", change, "--label", label, "--json"))


def f1(rows: list[dict[str, float]]) -> float:
    """F1 over all pixels of several scenes."""
    tp, fp, fn = (sum(row[key] for row in rows) for key in ("tp", "fp", "fn"))
    return 2 * tp / max(1, 2 * tp + fp + fn)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", default="cva", help="several are separated by commas")
    parser.add_argument("--normalize", default="", help="several are separated by commas")
    chosen = parser.parse_args()
    chosen.work.mkdir(exist_ok=True)
    models = chosen.model.split(",")
    if chosen.normalize:
        models = [f"{m}:{n}" for m in models for n in chosen.normalize.split(",")]
    scenes = sorted(path.name for path in (chosen.data / "Train Labels").iterdir())
    table = {m: [scores(s, m, chosen) for s in scenes] for m in models}
    print("| scene |", " | ".join(models), "|")
    print("|---|" + "---|" * len(models))
    for row, scene in enumerate(scenes):
        print(f"| {scene} |", " | ".join(f"{table[m][row]['f1']:.3f}" for m in models), "|")
    print("| **all pixels** |", " | ".join(f"**{f1(table[m]):.3f}**" for m in models), "|")


if __name__ == "__main__":
    main()
