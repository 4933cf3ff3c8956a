"""The detectors at hand, by the names that users type."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from s2cd.errors import S2cdError
from s2cd.networks.detector import Detector
from s2cd.networks.shipped import SHIPPED, best_for, shipped

DEFAULT = "default"
"""The name of whatever serves best without a choice."""
BUILT_IN = {
    "cva": "change vector analysis, smoothed, under Otsu's threshold (Malila 1980); no weights",
    "pca-kmeans": "blocks of the difference in two clusters (Celik 2009); no weights",
    "irmad": "iteratively reweighted differences of variates (Nielsen 2007); no weights",
}


@dataclass(frozen=True)
class Compute:
    """What networks compute on, and how: names of `networks.runtime`."""

    device: str = "auto"
    precision: str = "auto"
    backend: str = "auto"


def detectors() -> dict[str, str]:
    """Names and descriptions of the detectors that are there without a file of one's own."""
    return BUILT_IN | {name: SHIPPED[name] for name in shipped()}


def find_detector(name: str, compute: Compute | None = None, bands: Iterable[str] = ()) -> Detector:
    """The detector of that name: one of `detectors`, ``default``, or a checkpoint by its path.

    Args:
        name: What the user calls it.
        compute: What a network computes on.
        bands: Those that both dates have; ``default`` goes by them.

    Raises:
        S2cdError: where there is none, or the file is no checkpoint.
    """
    from s2cd.networks.classical import Cva, IrMad, PcaKmeans

    if name == DEFAULT:
        name = best_for(bands)
    if name == "cva":
        return Cva()
    if name == "pca-kmeans":
        return PcaKmeans()
    if name == "irmad":
        return IrMad()
    path = checkpoint_path(name)
    from s2cd.networks.learned import open_network

    chosen = compute or Compute()
    return open_network(path, chosen.device, chosen.precision, chosen.backend)


def model_identity(name: str) -> dict[str, str]:
    """What tells whether a detector of that name is still the same: names, and SHA-256 of files.

    Raises:
        S2cdError: where there is none.
    """
    from s2cd.networks.checkpoint import sha256_of

    if name in BUILT_IN:
        return {name: ""}
    paths = shipped() if name == DEFAULT else {name: checkpoint_path(name)}
    return {held: sha256_of(path) for held, path in paths.items()}


def checkpoint_path(name: str) -> Path:
    """The file that a network's name means.

    Raises:
        S2cdError: where there is neither a network nor a file of that name.
    """
    path = shipped().get(name, Path(name))
    if not path.is_file():
        raise S2cdError(
            f"There is no model {name!r}. Name one of {', '.join(detectors())}, or a checkpoint "
            "file"
        )
    return path
