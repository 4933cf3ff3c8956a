"""The detectors at hand, by the names that users type."""

from s2cd.errors import S2cdError
from s2cd.networks.detector import Detector

DEFAULT = "default"
"""The name of whatever serves best without a choice."""
BUILT_IN = ("cva", "pca-kmeans", "irmad")


def find_detector(name: str) -> Detector:
    """The detector of that name: a built-in one, or ``default``.

    Raises:
        S2cdError: where there is none.
    """
    from s2cd.networks.classical import Cva, IrMad, PcaKmeans

    if name in (DEFAULT, "cva"):
        return Cva()
    if name == "pca-kmeans":
        return PcaKmeans()
    if name == "irmad":
        return IrMad()
    raise S2cdError(f"There is no model {name!r}. Name one of {', '.join(BUILT_IN)}")
