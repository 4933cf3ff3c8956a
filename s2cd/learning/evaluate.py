"""Honest scores: whole scenes, all pixels, by the map that `detect` wrote."""

from pathlib import Path
from typing import Any

from s2cd.detection.changemap import read_map
from s2cd.errors import S2cdError
from s2cd.learning.metrics import confusion
from s2cd.scenes.mask import read_label


def evaluate_map(prediction: Path, label: Path) -> dict[str, Any]:
    """Scores of a change map against a mask: what `s2cd evaluate --json` prints.

    Pixels that the map did not observe, or nobody labelled, are left out; ``evaluated_fraction``
    says how many remain, and ``missed_change_fraction`` how much labelled change was left out.

    Raises:
        S2cdError: where either cannot be read, or they do not go together.
    """
    predicted, geobox, tags = read_map(prediction)
    truth = read_label(label, geobox)
    counts = confusion(predicted, truth)
    if counts.pixels == 0:
        raise S2cdError(f"No pixel is both observed in {prediction} and labelled in {label}")
    labelled = truth == 1
    left_out = int((labelled & (predicted == 255)).sum())
    scores: dict[str, Any] = counts.scores()
    scores["threshold"] = float(tags["THRESHOLD"]) if "THRESHOLD" in tags else None
    scores["model"] = tags.get("MODEL")
    scores["evaluated_fraction"] = counts.pixels / predicted.size
    scores["missed_change_fraction"] = left_out / max(1, int(labelled.sum()))
    return {**scores, "scenes": {prediction.stem: dict(scores)}}
