"""Networks that come with s2cd, and which detector serves a pair best."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from s2cd.errors import S2cdError

logger = logging.getLogger(__name__)

VARIABLE = "S2CD_WEIGHTS"
"""Environment variable: a folder to take these networks from instead; an empty one has none."""
SHIPPED = {
    "oscd10": "network on ten bands, trained on OSCD's 13 labelled scenes; urban change",
    "oscdrgb": "network on red, green and blue, trained on OSCD's 13 labelled scenes; urban change",
}
"""Their names, the best first: files of the folder, where they are there."""
WITHOUT_WEIGHTS = "cva"
"""What serves where no network fits."""


def shipped() -> dict[str, Path]:
    """The networks that are there, the best first."""
    folder = Path(os.environ.get(VARIABLE) or Path(__file__).parents[1] / "weights")
    paths = {name: folder / f"{name}.safetensors" for name in SHIPPED}
    return {name: path for name, path in paths.items() if path.is_file()}


def best_for(bands: Iterable[str]) -> str:
    """The name of the detector that serves a pair best: the first network whose bands it has.

    Raises:
        S2cdError: where a network that ships is damaged.
    """
    from s2cd.networks.checkpoint import read_spec

    held, known = set(bands), shipped()
    for name, path in known.items():
        needed = read_spec(path).bands
        if held.issuperset(needed):
            logger.info("model %s: both dates have its %d bands", name, len(needed))
            return name
    why = "none of the networks takes the bands at hand" if known else "no network is installed"
    logger.info("model %s: %s", WITHOUT_WEIGHTS, why)
    return WITHOUT_WEIGHTS


def made_by(tags: Mapping[str, str]) -> Path | None:
    """The network that ships and made a map, as the checksum in the map's tags tells."""
    from s2cd.networks.checkpoint import sha256_of

    path = shipped().get(tags.get("MODEL", ""))
    return path if path is not None and sha256_of(path) == tags.get("MODEL_SHA256") else None


def card_of(path: Path) -> str:
    """What a network's card says; empty without one.

    Raises:
        S2cdError: where it is there and cannot be read.
    """
    card = path.with_suffix(".md")
    if not card.is_file():
        return ""
    try:
        return card.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise S2cdError(f"{card} cannot be read. Install s2cd again") from e
