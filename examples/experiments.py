"""Compare recipes on labelled places, each place judged by a network that never saw it.

    python examples/experiments.py ../shared/data/oscd runs/experiments

On a machine that others use, too, set OMP_NUM_THREADS=1: threads that wait for each other are slow.
Rows stand in experiments.toml. A row that is done is not done again, and one that was stopped
goes on; the table is written after each, into the work folder, and says which were not run.
"""

import argparse
import json
import time
import tomllib
from pathlib import Path
from typing import Any

HEAD = ("row", "F1", "95 %", "F1, threshold of other folds", "best F1 of all thresholds",
        "precision", "recall", "F1, 1 px", "ECE", "weights", "windows/s", "minutes")  # fmt: skip


def claimed(folder: Path, row: dict[str, Any]) -> None:
    """Take the row's folder; refuse one that holds another recipe under the same name."""
    note = folder / "row.json"
    folder.mkdir(parents=True, exist_ok=True)
    if note.exists() and json.loads(note.read_text()) != row:
        raise SystemExit(f"error: {folder} holds a row of another recipe. Rename the row")
    note.write_text(json.dumps(row))


def measured(data: Path, folder: Path, row: dict[str, Any], budget: dict[str, Any]) -> None:
    """Do what is missing of one row, and write its scores."""
    if (folder / "scores.json").exists():
        return
    from s2cd.learning.crossvalidate import cross_validate, folds_of
    from s2cd.learning.evaluate import Options, evaluate_data
    from s2cd.learning.recipe import recipe_of

    cache = folder.parent / ".prepared"
    if "model" in row:
        scores = evaluate_data(data, row["model"], Options("all", cache=cache))
        (folder / "scores.json").write_text(json.dumps(scores))
        return
    recipe = recipe_of({**budget, **row})
    cross_validate(folds_of(data, cache), folder, recipe)
    (folder / "speed.json").write_text(json.dumps(speed(folder / "fold0" / "best.safetensors")))


def speed(checkpoint: Path) -> dict[str, float]:
    """Weights, and windows of 512 x 512 pixels a second through the network, in batches of 4."""
    import numpy as np

    from s2cd.networks.checkpoint import load_network, read_spec
    from s2cd.networks.runtime import Eager, probabilities

    network = load_network(checkpoint)
    dates = np.zeros((4, 2, len(read_spec(checkpoint).bands), 512, 512), np.float32)
    probabilities(Eager(network), dates)
    began, count = time.monotonic(), 0
    while time.monotonic() - began < 5:
        probabilities(Eager(network), dates)
        count += len(dates)
    rate = count / (time.monotonic() - began)
    return {"weights": sum(w.numel() for w in network.parameters()), "rate": rate}


def line(name: str, folder: Path) -> str:
    """A row of the table."""
    if not (folder / "scores.json").exists():
        return f"| {name} | not run |" + " |" * (len(HEAD) - 2)
    scores = json.loads((folder / "scores.json").read_text())
    low, high = scores["f1_interval"]
    others = [scores[key]["f1"] if key in scores else None for key in ("chosen", "best")]
    values = [scores["f1"], None, *others, *(scores[k] for k in HEAD_SCORES)]
    cells = ["" if v is None else f"{v:.3f}" for v in values]
    cells[1] = f"{low:.2f} to {high:.2f}"
    if (folder / "speed.json").exists():
        quick = json.loads((folder / "speed.json").read_text())
        logs = sorted(folder.glob("fold*/metrics.csv"))
        cells += [f"{quick['weights'] / 1e6:.2f} M", f"{quick['rate']:.1f}", f"{minutes(logs):.0f}"]
    return f"| {' | '.join([name, *cells])} |" + " |" * (len(HEAD) - 1 - len(cells))


HEAD_SCORES = ("precision", "recall", "f1_one_pixel", "calibration_error")


def minutes(logs: list[Path]) -> float:
    """Minutes that the epochs took."""
    import csv

    rows = [row for log in logs for row in csv.DictReader(log.read_text().splitlines())]
    return sum(float(row["seconds"]) for row in rows) / 60


def main() -> None:
    """Run the rows that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rows", type=Path, default=Path(__file__).with_suffix(".toml"))
    parser.add_argument("--only", default="", help="rows to run, separated by commas; - for none")
    chosen = parser.parse_args()
    file = tomllib.loads(chosen.rows.read_text())
    wanted = chosen.only.split(",") if chosen.only else list(file["rows"])
    for name, row in file["rows"].items():
        folder = chosen.work / name
        if name in wanted:
            claimed(folder, row if "model" in row else {**file["budget"], **row})
            measured(chosen.data, folder, row, file["budget"])
        lines = [line(one, chosen.work / one) for one in file["rows"]]
        text = "\n".join([f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *lines]) + "\n"
        chosen.work.mkdir(parents=True, exist_ok=True)
        (chosen.work / "table.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
