"""The detectors at hand, by the names that users type."""

from s2cd.errors import S2cdError
from s2cd.networks.detector import Detector

DEFAULT = "default"
"""The name of whatever serves best without a choice."""
BUILT_IN = ("cva",)


def find_detector(name: str) -> Detector:
    """The detector of that name: a built-in one, or ``default``.

    Raises:
        S2cdError: where there is none.
    """
    from s2cd.networks.classical import Cva

    if name in (DEFAULT, "cva"):
        return Cva()
    raise S2cdError(f"There is no model {name!r}. Name one of {', '.join(BUILT_IN)}")
