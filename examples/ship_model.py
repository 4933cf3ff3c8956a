"""Make a network that ships, and its card, from a run and the cross-validation of its recipe.

    python examples/ship_model.py runs/final runs/experiments/lite0-imagenet
        -o s2cd/weights/oscd10.safetensors --data ../shared/data/oscd     (one line)

RUN is a folder of `s2cd train`; SCORES is one of `s2cd evaluate --cross-validate` (or a row of
experiments.py) of the same recipe. Threshold, calibration and every score of the card come from
maps of places that the network behind them never saw; RUN's own weights have no such maps.
"""

import argparse
import csv
import json
import os
import platform
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from s2cd.detection.blocks import classify, lattice_of
from s2cd.learning.agree import agreed_counts, agreed_map, fit_agreement, joint_counts
from s2cd.learning.calibrate import fit_scaling, scaled_by_others, scaled_threshold
from s2cd.learning.crossvalidate import scores_of
from s2cd.learning.curves import calibration
from s2cd.learning.metrics import nearness
from s2cd.learning.recipe import Recipe
from s2cd.learning.scenes import best_threshold, confusion_at, lit_for, stored_map
from s2cd.networks.checkpoint import load_network, read_spec, save_checkpoint, sha256_of
from s2cd.networks.learned import open_network
from s2cd.networks.registry import find_detector
from s2cd.output import completed

HEARD = """
It is heard together with IR-MAD, which learns from the pair alone: a logistic regression on the
log odds of both, learned from maps of places that neither had seen. IR-MAD's own constants were
chosen on these scenes, though by no label of a fold."""
LICENCE = "non-commercial use: the labels that they learned from are CC BY-NC-SA"
OTHER = {"run", "data", "data_sha256", "seed", "device", "threshold", "mlflow"}
"""Settings that may differ between a run and its recipe's cross-validation."""
MOST_ERROR = 0.05
"""Expected calibration error up to which probabilities are called calibrated."""
SECONDS = 10
"""For which speed is measured."""
SIZE, LEAST = 128, 100
"""Pixels of a window that is pictured, and least pixels of labelled change in it."""


@dataclass
class Judged:
    """What cross-validation found: histograms by place, names by fold, and all scores."""

    counts: dict[str, Any]
    parts: list[list[str]]
    scores: dict[str, Any]
    folder: Path
    partner: str = ""
    joint: dict[str, Any] = field(default_factory=dict)

    def agreement(self, without: Iterable[str] = ()) -> Any:
        """How much network and partner count, learned from the other places."""
        return fit_agreement(sum(v for n, v in self.joint.items() if n not in without))

    def map_of(self, name: str) -> Any:
        """Stored probabilities of a place, by networks and an agreement that never saw it."""
        (path,) = self.folder.glob(f"fold*/maps/{name}.npy")
        if not self.partner:
            return np.load(path)
        part = next(part for part in self.parts if name in part)
        other = np.load(self.folder / self.partner / f"{name}.npy")
        return agreed_map(np.load(path), other, self.agreement(part))

    @property
    def whole(self) -> Any:
        """The histogram of all places."""
        return sum(self.counts.values())

    @property
    def chosen(self) -> dict[str, float]:
        """Of each place, the threshold that the other folds gave."""
        thresholds = self.scores["chosen"]["threshold"]
        return {n: t for part, t in zip(self.parts, thresholds, strict=True) for n in part}


def judged(folder: Path) -> Judged:
    """Read a cross-validation that is done."""
    if not (folder / "scores.json").exists():
        raise SystemExit(f"error: {folder} holds no scores.json. Finish its cross-validation")
    paths = sorted(folder.glob("fold*/counts.json"), key=lambda p: int(p.parent.name[4:]))
    parts = [json.loads(path.read_text()) for path in paths]
    counts = {name: np.array(values) for part in parts for name, values in part.items()}
    return Judged(
        counts, [list(p) for p in parts], json.loads((folder / "scores.json").read_text()), folder
    )


def heard(asked: argparse.Namespace, alone: Judged, places: list[Any]) -> Judged:
    """The same with a partner: each fold under an agreement that was learned from the others."""
    if not places:
        raise SystemExit("error: --partner needs the places themselves. Give --data")
    detector, joint = find_detector(asked.partner), {}
    for sample in places:
        name, label = sample.place.name, np.asarray(sample.label)
        path = asked.scores / asked.partner / f"{name}.npy"
        if not path.exists():
            lit = lit_for(detector, sample)
            stored = stored_map(lit, detector.fit(lit.pair), lattice_of(detector))
            path.parent.mkdir(exist_ok=True)
            np.save(path, stored)
        joint[name] = joint_counts(alone.map_of(name), np.load(path), label)
    found = replace(alone, partner=asked.partner, joint=joint)
    counts = {
        name: agreed_counts(joint[name], found.agreement(part))
        for part in found.parts
        for name in part
    }
    labels = {sample.place.name: np.asarray(sample.label) for sample in places}

    def near(name: str, threshold: float) -> Any:
        return nearness(classify(found.map_of(name), threshold), labels[name])

    return replace(found, counts=counts, scores=scores_of(counts, found.parts, near))


def check_recipe(run: Path, scores: Path) -> dict[str, Any]:
    """The settings of a run; refuse scores of another recipe."""
    usual = json.loads(json.dumps(asdict(Recipe())))
    one, other = (
        usual | tomllib.loads((folder / "config.toml").read_text())
        for folder in (run, scores / "fold0")
    )
    if strange := [k for k in one if k not in OTHER and one.get(k) != other.get(k)]:
        raise SystemExit(f"error: {run} and {scores} differ in {', '.join(strange)}. Name its own")
    return one


def samples(data: Path, cache: Path, bands: tuple[str, ...]) -> Iterator[Any]:
    """The labelled places, made ready."""
    from s2cd.learning.places import find_places
    from s2cd.learning.prepared import prepare

    for place in find_places(data):
        yield prepare(place, bands, cache)


def pictured(found: Judged, places: list[Any], path: Path) -> str:
    """Draw windows of places that the network never saw: a good, a middling and the worst."""
    from s2cd.learning.metrics import confusion
    from s2cd.learning.pictures import draw, shown

    windows = []
    for sample in places:
        name, label = sample.place.name, np.asarray(sample.label)
        stored = found.map_of(name)
        for top in range(0, label.shape[0] - SIZE + 1, SIZE):
            for left in range(0, label.shape[1] - SIZE + 1, SIZE):
                area = (slice(top, top + SIZE), slice(left, left + SIZE))
                predicted = classify(stored[area], found.chosen[name])
                counts = confusion(predicted, label[area])
                if counts.tp + counts.fn >= LEAST:
                    windows.append((counts.f1 or 0.0, name, sample, area, predicted))
    if not windows:
        return ""
    windows.sort(key=lambda one: one[:2])
    picks = [windows[round((len(windows) - 1) * part)] for part in (0.9, 0.5, 0.0)]
    draw([shown(s, s.pair.window(*area), area, p == 1) for _, _, s, area, p in picks], path)
    said = ", ".join(f"{name} (F1 {f1:.2f})" for f1, name, *_ in picks)
    return f"![Before, after, truth, prediction]({path.name})\n\nFrom above, all unseen: {said}."


def machine() -> str:
    """What this was made on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [one.partition(":")[2].strip() for one in lines if one.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.processor()}"


def minutes(run: Path) -> float:
    """Minutes that the epochs took."""
    rows = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    return sum(float(row["seconds"]) for row in rows) / 60


def speed(path: Path, places: list[Any]) -> str:
    """What the file that ships computes here, with its partner, as the card says it."""
    import torch

    if not places:
        return "speed was not measured"
    detector = open_network(path, "cpu", backend="torch")
    frozen, count = detector.fit(places[0].pair), 0
    shape = (4, len(detector.bands), detector.window, detector.window)
    dates = np.random.default_rng(0).uniform(0.05, 0.4, (2, *shape)).astype(np.float32)
    frozen.predict(*dates)
    began = time.monotonic()
    while time.monotonic() - began < SECONDS:
        frozen.predict(*dates)
        count += len(dates[0])
    rate, side = count / (time.monotonic() - began), detector.window
    together = f", {detector.spec.partner} included" if detector.spec.partner else ""
    return (
        f"{rate:.1f} windows of {side} x {side} pixels a second{together}: torch in fp32, "
        f"{torch.get_num_threads()} threads of {machine()}, batches of 4"
    )


def number(value: float | None) -> str:
    """A score as it stands in the card."""
    return "undefined" if value is None else f"{value:.3f}"


def scene_rows(found: Judged) -> str:
    """Scores by place, each at the threshold of the other folds."""
    lines = ["| scene | F1 | precision | recall | changed pixels |", "|---|---|---|---|---|"]
    for name in sorted(found.counts):
        one = confusion_at(found.counts[name], found.chosen[name])
        share = (one.tp + one.fn) / max(1, one.pixels)
        cells = (name, number(one.f1), number(one.precision), number(one.recall), f"{share:.1%}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def card(facts: dict[str, Any], found: Judged, run: Path, picture: str) -> str:
    """The card: measured numbers, and what they stand for."""
    spec, settings, errors = facts["spec"], facts["settings"], facts["errors"]
    chosen, half = found.scores["chosen"], found.scores
    if found.partner:
        half = facts["alone"].scores["chosen"]
    low, high = chosen["f1_interval"]
    kept = [n for n in settings if n not in OTHER | {"patience"}]
    recipe = ", ".join(f"{n} {settings[n]}" for n in kept if settings[n] not in ("", [], None))
    said = (run / "card.md").read_text().replace("\n  ", " ").splitlines()  # items on a line each
    made = [one for one in said if one.startswith("- seed")]
    worst = sorted(
        found.counts, key=lambda n: confusion_at(found.counts[n], found.chosen[n]).f1 or 0
    )
    return f"""# {facts["name"]}

Change between two Sentinel-2 Level-1C dates: {spec.architecture} {spec.encoder}, {len(spec.bands)}
bands ({" ".join(spec.bands)}). SHA-256 {facts["sha256"]}.{HEARD if found.partner else ""}

**Licence.** Weights for {LICENCE} (OSCD, Caye Daudt et al., IGARSS 2018). Images: modified
Copernicus Sentinel data.

## What to expect

Every scene below was predicted by a network of the same recipe that never saw its place
({len(found.parts)} folds, neighbouring places together), at the threshold that the other folds
gave. The network that ships learned from all scenes ({spec.trained_on}) and has no held-out score
of its own. Scores are of the change class, over all pixels of whole scenes.

| | F1 | 95 % over places | precision | recall | F1, one pixel of tolerance |
|---|---|---|---|---|---|
| threshold of the other folds | {number(chosen["f1"])} | {low:.2f} to {high:.2f} | \
{number(chosen["precision"])} | {number(chosen["recall"])} | {number(chosen["f1_one_pixel"])} |
| {"the network alone, its own" if found.partner else "threshold 0.5, not calibrated"} | \
{number(half["f1"])} | \
{half["f1_interval"][0]:.2f} to {half["f1_interval"][1]:.2f} | {number(half["precision"])} | \
{number(half["recall"])} | {number(half["f1_one_pixel"])} |

{scene_rows(found)}

**Calibration.** Expected calibration error (10 bins, all pixels) {errors[1]:.4f}; {errors[0]:.4f}
before. Temperature {spec.temperature}, bias {spec.bias}{weighed(spec)} ship; the error is that of
each fold under numbers fitted on the others. \
{"" if spec.calibrated else "That is too much: uncalibrated. "}\
Most pixels are far from any change and weigh most in it.

**Threshold.** {spec.threshold:g} of the calibrated probability: of the highest F1 over the same
maps, all folds together.

{picture}

## Recipe

- {recipe}
{chr(10).join(made)}
- trained in {minutes(run):.0f} minutes on {machine()}
- {facts["speed"]}

## Limits

- Worst scenes above: {", ".join(worst[:3])}. A score there says what a bad day looks like.
- The labels are urban change of 2015 to 2018. Crops, seasons, water, snow and burnt land were
  labelled as no change, or are not in the data at all: on such scenes compare with `irmad`.
- 13 scenes are few. `s2cd detect` warns where more than a quarter of a date's bands have a mean or
  a standard deviation more than a quarter beyond those of all dates it learned from.
- Bands of 20 m carry no finer detail; a third of labelled change lies on an object's border.
- Clouds and haze must be masked (the QA band of `s2cd stack`).
"""


def weighed(spec: Any) -> str:
    """What the card says of the partner's weight."""
    return f" and {spec.partner}'s weight {spec.weight}" if spec.partner else ""


def shipped_spec(
    run: Path, found: Judged, alone: Judged, places: list[Any]
) -> tuple[Any, tuple[float, float]]:
    """The spec with threshold and calibration from all folds, and the errors before and after."""
    from s2cd.networks.familiar import ranges_of

    spec = read_spec(run / "best.safetensors")
    ranges = spec.ranges or (ranges_of(s.statistics for s in places) if places else ())
    if not ranges:
        raise SystemExit(f"error: {run} does not say what its data looked like. Give --data")
    if found.partner:
        agreement = found.agreement()
        scaling = agreement.scaling
        whole = agreed_counts(sum(found.joint.values()), agreement)
        errors = calibration(alone.whole).error, calibration(found.whole).error
        threshold, weight = best_threshold(whole), agreement.weight
    else:
        scaling, weight = fit_scaling(found.whole), 0.0
        honest = scaled_by_others(found.counts, found.parts)
        errors = calibration(found.whole).error, calibration(honest).error
        threshold = scaled_threshold(best_threshold(found.whole), scaling)
    changed = {
        "threshold": threshold,
        "temperature": scaling.temperature,
        "bias": scaling.bias,
        "partner": found.partner,
        "weight": weight,
        "calibrated": errors[1] <= MOST_ERROR,
        "ranges": ranges,
        "licence": LICENCE,
    }
    return replace(spec, **changed), errors


def check_half(path: Path, run: Path, bands: int) -> None:
    """Refuse 16 bits where they move a probability by more than a stored step."""
    from s2cd.networks.runtime import Eager, probabilities

    noise = np.random.default_rng(0).normal(size=(2, 2, bands, 256, 256)).astype(np.float32)
    one, other = (
        probabilities(Eager(load_network(p)), noise) for p in (path, run / "best.safetensors")
    )
    if (most := float(np.abs(one - other).max())) > 1 / 200:
        path.unlink()
        raise SystemExit(f"error: 16 bits move a probability by {most:.3f}. Leave --half out")


def main() -> None:
    """Write the network, its card and its picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("scores", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="labelled places: pictures, ranges of the bands")
    parser.add_argument("--cache", type=Path, help="where they are made ready; beside SCORES")
    parser.add_argument("--partner", default="", help="irmad: heard together with it")
    parser.add_argument("--half", action="store_true", help="16 bits a weight, checked")
    asked = parser.parse_args()
    settings, found = check_recipe(asked.run, asked.scores), judged(asked.scores)
    alone = found
    bands = read_spec(asked.run / "best.safetensors").bands
    cache = asked.cache or asked.scores.parent / ".prepared"
    places = list(samples(asked.data, cache, bands)) if asked.data else []
    if asked.partner:
        found = heard(asked, alone, places)
    spec, errors = shipped_spec(asked.run, found, alone, places)
    network = load_network(asked.run / "best.safetensors")
    save_checkpoint(asked.output, spec, network, overwrite=True, half=asked.half)
    if asked.half:
        check_half(asked.output, asked.run, len(bands))
    picture = ""
    if places:
        picture = pictured(found, places, asked.output.with_suffix(".png"))
    facts = {"name": asked.output.stem, "sha256": sha256_of(asked.output), "spec": spec,
             "settings": settings, "errors": errors, "alone": alone,
             "speed": speed(asked.output, places)}  # fmt: skip
    with completed(asked.output.with_suffix(".md"), overwrite=True) as temporary:
        temporary.write_text(card(facts, found, asked.run, picture), encoding="utf-8")
    size, score = asked.output.stat().st_size / 1e6, found.scores["chosen"]["f1"]
    print(f"{asked.output}: {size:.1f} MB, threshold {spec.threshold}, temperature ", end="")
    print(f"{spec.temperature}, bias {spec.bias}, ECE {errors[1]:.4f}, F1 {score:.4f}")


if __name__ == "__main__":
    main()
