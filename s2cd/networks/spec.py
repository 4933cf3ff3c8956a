"""What a trained network is, apart from its weights."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from s2cd.errors import S2cdError
from s2cd.networks.agreement import MOST_WEIGHT, PARTNERS, Agreement
from s2cd.networks.scaling import Scaling
from s2cd.scenes.bands import BANDS

FUSIONS_OF = {
    "siamese": ("diff", "concat", "concat+diff", "diff+sum", "attention"),
    "unet": ("concat", "diff"),
    "unet-resnet50-fusion": ("concat",),
    "fc-ef": ("concat",),
    "fc-siam-conc": ("concat",),
    "fc-siam-diff": ("diff",),
}
"""How each architecture can bring the dates together, the usual way first."""
ENCODERS_OF = {"siamese": "resnet18", "unet-resnet50-fusion": "resnet50"}
"""The usual encoder of the architectures that have one; the others' name is empty."""
_LEAST_DEPTH, _MOST_DEPTH = 3, 5
"""Stages of an encoder; each halves the size."""
ARCHITECTURES = tuple(FUSIONS_OF)
FUSIONS = ("diff", "concat", "concat+diff", "diff+sum", "attention")
NORMALIZATIONS = ("zscore", "reflectance")
_MOST_WINDOW = 4096
_MOST_CLASSES = 100


def stride_of(architecture: str, depth: int = _MOST_DEPTH) -> int:
    """Product of an architecture's poolings."""
    return 2**depth if architecture == "siamese" else 16


@dataclass(frozen=True)
class Spec:
    """All that rebuilds a network and says how it is to be used.

    Attributes:
        architecture: One of `ARCHITECTURES`.
        encoder: An encoder of segmentation_models_pytorch or timm, by name; empty where the
            architecture has its own.
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
        classes: Kinds of change it tells apart; 1 where it tells change from none.
        depth: Stages of the encoder of ``siamese`` that are used, each half as large.
        detail: Whether ``siamese`` also has a skip at full resolution.
        temperature: Of its `Scaling`; what `probabilities` are made with.
        bias: Of the same.
        partner: A detector that it is heard together with, of `agreement.PARTNERS`.
        weight: Of that one, see `Agreement`.
        ranges: What it was trained on looked like, see `familiar.ranges_of`; empty: not known.
        licence: What its weights are for, in words; empty: anything.
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
    classes: int = 1
    depth: int = _MOST_DEPTH
    detail: bool = False
    temperature: float = 1.0
    bias: float = 0.0
    partner: str = ""
    weight: float = 0.0
    ranges: tuple[tuple[float, ...], ...] = ()
    licence: str = ""

    @property
    def scaling(self) -> Scaling:
        """What turns its log odds into probabilities."""
        return Scaling(self.temperature, self.bias)

    @property
    def agreement(self) -> Agreement | None:
        """How it is heard together with its partner; None where it has none."""
        return Agreement(self.scaling, self.weight) if self.partner else None

    @property
    def outputs(self) -> int:
        """Channels of its output: one logit of change, or one for each class and for none."""
        return 1 if self.classes == 1 else self.classes + 1

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
        if self.fusion not in FUSIONS_OF[self.architecture]:
            raise S2cdError(
                f"{self.architecture} has no fusion {self.fusion!r}. Name one of "
                f"{', '.join(FUSIONS_OF[self.architecture])}"
            )
        self._check_encoder()
        self._check_sizes()
        if not self.bands or len(set(self.bands)) < len(self.bands) or set(self.bands) - set(BANDS):
            raise S2cdError("A network's bands are no list of Sentinel-2 bands. Train it anew")
        if not 1 <= self.classes <= _MOST_CLASSES:
            raise S2cdError(f"A network of {self.classes} classes makes no sense. Name 1 to 100")
        if not (math.isfinite(self.threshold) and 0 < self.threshold <= 1):
            raise S2cdError("A network's threshold is not within 0..1. Train it anew")
        fits = 0 <= self.weight <= MOST_WEIGHT and (self.classes == 1 or not self.partner)
        if not (self.scaling.makes_sense and fits):
            raise S2cdError(
                "A network's temperature, bias or weight makes no sense. Calibrate it anew"
            )
        self._check_ranges()

    def _check_sizes(self) -> None:
        core = self.window - 2 * self.halo
        sizes = (self.stride, core, self.halo, self.window)
        if min(self.stride, core) < 1 or self.halo < 0 or self.window > _MOST_WINDOW:
            raise S2cdError(f"A network's stride, core, halo and window {sizes} make no sense")
        if self.window % self.stride or core % self.stride:
            raise S2cdError(
                f"A network's window of {self.window} pixels, or its core of {core} in a halo of "
                f"{self.halo}, is no multiple of {self.stride}. Give another --window or --halo"
            )

    def _check_ranges(self) -> None:
        lengths = {len(row) for row in self.ranges}
        whole = not self.ranges or (len(self.ranges) == 4 and lengths == {len(self.bands)})
        if not whole or not all(math.isfinite(v) for row in self.ranges for v in row):
            raise S2cdError("A network's ranges do not fit its bands. Train it anew")

    def _check_encoder(self) -> None:
        usual = ENCODERS_OF.get(self.architecture, "")
        fixed = self.architecture != "siamese"
        if fixed and self.encoder != usual:
            raise S2cdError(
                f"{self.architecture} takes no encoder of choice. Leave it out, or choose siamese"
            )
        if not _LEAST_DEPTH <= self.depth <= _MOST_DEPTH:
            raise S2cdError(f"An encoder of {self.depth} stages makes no sense. Name 3 to 5")
        if fixed and (self.depth != _MOST_DEPTH or self.detail):
            raise S2cdError(
                f"{self.architecture} takes no depth or detail. Leave them out, or choose siamese"
            )

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
    "partner": PARTNERS,
}
_TYPES: dict[str, Any] = {
    "bands": list,
    "stride": int,
    "window": int,
    "halo": int,
    "threshold": (int, float),
    "calibrated": bool,
    "classes": int,
    "depth": int,
    "detail": bool,
    "temperature": (int, float),
    "bias": (int, float),
    "weight": (int, float),
    "ranges": list,
}
_LATER = {
    *("classes", "depth", "detail", "temperature", "bias", "ranges", "licence"),
    *("partner", "weight"),
}
"""Fields that older checkpoints lack: they mean what is usual."""


def _checked(values: Any) -> dict[str, Any]:
    """The fields of a spec, each of its type."""
    known = {field.name for field in fields(Spec)}
    if not isinstance(values, dict) or not known - _LATER <= set(values) <= known:
        strange = sorted(set(values) ^ known) if isinstance(values, dict) else ["its kind"]
        raise S2cdError(
            f"The checkpoint's spec differs in {', '.join(map(str, strange))[:80]}. "
            "It is of another version of s2cd, or damaged"
        )
    for name, value in values.items():
        expected = _TYPES.get(name, str)
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            raise S2cdError(f"The checkpoint's {name} is of the wrong kind. It is damaged")
    if not all(isinstance(band, str) for band in values["bands"]):
        raise S2cdError("The checkpoint's bands are of the wrong kind. It is damaged")
    rows = values.get("ranges", [])
    if not all(isinstance(row, list) and all(type(v) is float for v in row) for row in rows):
        raise S2cdError("The checkpoint's ranges are of the wrong kind. It is damaged")
    return {**values, "bands": tuple(values["bands"]), "ranges": tuple(map(tuple, rows))}
