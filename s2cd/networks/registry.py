"""The detectors at hand, by the names that users type."""

from dataclasses import dataclass
from pathlib import Path

from s2cd.errors import S2cdError
from s2cd.networks.detector import Detector

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
    precision: str = "fp32"


def find_detector(name: str, compute: Compute | None = None) -> Detector:
    """The detector of that name: a built-in one, ``default``, or a checkpoint by its path.

    Raises:
        S2cdError: where there is none, or the file is no checkpoint.
    """
    from s2cd.networks.classical import Cva, IrMad, PcaKmeans

    if name in (DEFAULT, "cva"):
        return Cva()
    if name == "pca-kmeans":
        return PcaKmeans()
    if name == "irmad":
        return IrMad()
    path = checkpoint_path(name)
    from s2cd.networks.learned import open_network

    chosen = compute or Compute()
    return open_network(path, chosen.device, chosen.precision)


def checkpoint_path(name: str) -> Path:
    """The file that a model's name means.

    Raises:
        S2cdError: where there is neither a built-in model nor a file of that name.
    """
    path = Path(name)
    if not path.is_file():
        raise S2cdError(
            f"There is no model {name!r}. Name one of {', '.join(BUILT_IN)}, or a checkpoint file"
        )
    return path
