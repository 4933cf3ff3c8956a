"""What a trained network is, apart from its weights."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from s2cd.errors import S2cdError
from s2cd.scenes.bands import BANDS

ARCHITECTURES = ("siamese",)
FUSIONS = ("diff", "concat")
NORMALIZATIONS = ("zscore", "reflectance")
_MOST_WINDOW = 4096


@dataclass(frozen=True)
class Spec:
    """All that rebuilds a network and says how it is to be used.

    Attributes:
        architecture: One of `ARCHITECTURES`.
        encoder: An encoder of segmentation_models_pytorch, by name.
        fusion: How the dates' features are brought together, one of `FUSIONS`.
        bands: The bands it takes, in this order.
        normalization: ``zscore``: each image and band by its own mean and standard deviation;
            ``reflectance``: as it is.
        stride: Windows are multiples of it, in pixels; a U-Net is equivariant by no other shift.
        window: Usual height and width of a window at inference, in pixels.
        halo: Pixels at each side of a window whose scores are not used.
        threshold: Probabilities from here on are change.
        calibrated: Whether its probabilities were calibrated.
        trained_on: What it has seen, in words; empty for random weights.
    """

    architecture: str
    encoder: str
    fusion: str
    bands: tuple[str, ...]
    normalization: str = "zscore"
    stride: int = 32
    window: int = 512
    halo: int = 64
    threshold: float = 0.5
    calibrated: bool = False
    trained_on: str = ""

    def __post_init__(self) -> None:
        """Refuse what makes no sense: a spec may come from anywhere.

        Raises:
            S2cdError: naming the field.
        """
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                raise S2cdError(
                    f"A network's {name} is {str(getattr(self, name))[:40]!r}, not one of "
                    f"{', '.join(known)}. Train it with this version"
                )
        if not self.bands or len(set(self.bands)) < len(self.bands) or set(self.bands) - set(BANDS):
            raise S2cdError("A network's bands are no list of Sentinel-2 bands. Train it anew")
        core = self.window - 2 * self.halo
        sizes = (self.stride, core, self.halo, self.window)
        if min(self.stride, core) < 1 or self.halo < 0 or self.window > _MOST_WINDOW:
            raise S2cdError(f"A network's stride, core, halo and window {sizes} make no sense")
        if self.window % self.stride or core % self.stride:
            raise S2cdError(f"A network's window and core {sizes} are no multiples of its stride")
        if not (math.isfinite(self.threshold) and 0 < self.threshold <= 1):
            raise S2cdError("A network's threshold is not within 0..1. Train it anew")

    def to_json(self) -> str:
        """The spec as it stands in a checkpoint."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Spec":
        """Read what `to_json` wrote.

        Raises:
            S2cdError: where it is no spec, has unknown or missing fields, or makes no sense.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as e:
            raise S2cdError("The checkpoint's spec is no JSON. Save it with s2cd") from e
        return cls(**_checked(values))


_KNOWN = {
    "architecture": ARCHITECTURES,
    "fusion": FUSIONS,
    "normalization": NORMALIZATIONS,
}
_TYPES: dict[str, Any] = {
    "bands": list,
    "stride": int,
    "window": int,
    "halo": int,
    "threshold": (int, float),
    "calibrated": bool,
}


def _checked(values: Any) -> dict[str, Any]:
    """The fields of a spec, each of its type."""
    known = {field.name for field in fields(Spec)}
    if not isinstance(values, dict) or set(values) != known:
        strange = sorted(set(values) ^ known) if isinstance(values, dict) else ["its kind"]
        raise S2cdError(
            f"The checkpoint's spec differs in {', '.join(map(str, strange))[:80]}. "
            "It is of another version of s2cd, or damaged"
        )
    for name, value in values.items():
        expected = _TYPES.get(name, str)
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            raise S2cdError(f"The checkpoint's {name} is of the wrong kind. It is damaged")
    if not all(isinstance(band, str) for band in values["bands"]):
        raise S2cdError("The checkpoint's bands are of the wrong kind. It is damaged")
    return {**values, "bands": tuple(values["bands"])}
