"""How a network is trained: all choices in one place, by the names of the command's options."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from s2cd.errors import S2cdError
from s2cd.networks.spec import ENCODERS_OF, FUSIONS_OF, Spec, stride_of

_MOST = 1e6
_LIMITS = {
    "epochs": (1, _MOST),
    "steps": (0, _MOST),
    "batch": (1, _MOST),
    "rate": (1e-9, 10),
    "size": (32, 4096),
    "change_weight": (1e-6, _MOST),
    "validation": (0, 0.9),
    "threshold": (0, 1),
    "patience": (1, _MOST),
    "ema": (0, 0.9999),
    "clip": (0, _MOST),
    "seed": (0, 2**32 - 1),
}
"""Least and most of the numbers of a recipe."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; `config.toml` holds it.

    Attributes:
        arch: One of `s2cd.networks.spec.ARCHITECTURES`.
        encoder: Its encoder; the usual one where empty.
        fusion: How dates are fused; the usual way where empty.
        depth: Stages of the encoder of ``siamese``.
        detail: Whether ``siamese`` has a skip at full resolution.
        weights: ``none``, ``imagenet``, or a file of an encoder's weights.
        freeze_encoder: Whether the encoder is kept as it is; None: as is usual, see `frozen`.
        bands: Bands to use; those that all dates have by default.
        loss: See `make_loss`.
        change_weight: How much more a changed pixel weighs.
        class_weights: The same for each class of change apart; empty: ``change_weight`` for all.
        optimizer: One of `s2cd.learning.optimizers.OPTIMIZERS`.
        epochs: Most epochs.
        steps: Batches in an epoch; 0: as many as cover the places once.
        batch: Windows in a batch.
        rate: Highest learning rate.
        size: Height and width of training windows, in pixels.
        window: The same at inference.
        halo: Pixels at each side of it that are not used.
        validation: Share of the places kept for validation, where DATA does not say; 0: all
            places are learned from, and the last weights are kept.
        threshold: Probabilities from here on are change; 0: chosen on the validation places.
        patience: Epochs without a better F1 before it stops.
        ema: Weight of the past in the averaged weights, which are what is kept; 0: none.
        clip: Largest norm of the gradient.
        augment: How windows are altered, one of `s2cd.learning.augment.AUGMENTATIONS`.
        seed: Another seed, other weights and windows.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``fp32``, or ``bf16`` where it is native.
        mlflow: Whether MLflow is told of the run, too.
    """

    arch: str = "unet"
    encoder: str = ""
    fusion: str = ""
    depth: int = 5
    detail: bool = False
    weights: str = "none"
    freeze_encoder: bool | None = None
    bands: tuple[str, ...] = ()
    loss: str = "bce+iou"
    change_weight: float = 1.0
    class_weights: tuple[float, ...] = ()
    optimizer: str = "adamw"
    epochs: int = 50
    steps: int = 0
    batch: int = 16
    rate: float = 1e-3
    size: int = 128
    window: int = 512
    halo: int = 64
    validation: float = 0.2
    threshold: float = 0.0
    patience: int = 15
    ema: float = 0.0
    clip: float = 1.0
    augment: str = "strong"
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    mlflow: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that nothing can be learned with.

        Raises:
            S2cdError: naming the option.
        """
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:  # so is what is no number
                raise S2cdError(f"{name.replace('_', '-')} is {value}. Give {low:g} to {high:g}")
        if not all(0 < weight <= _MOST for weight in self.class_weights):
            raise S2cdError(f"class-weights are {self.class_weights}. Give numbers above 0")

    @property
    def frozen(self) -> bool:
        """Whether the encoder is kept: usually that of unet-resnet50-fusion, once pretrained.

        A random encoder that never learns would be of no use, so without weights it learns.
        """
        if self.freeze_encoder is not None:
            return self.freeze_encoder
        return self.arch == "unet-resnet50-fusion" and self.weights != "none"

    def spec(self, bands: tuple[str, ...], classes: int = 1) -> Spec:
        """What the network will be.

        Raises:
            S2cdError: where the parts do not go together.
        """
        if self.arch not in FUSIONS_OF:
            raise S2cdError(f"There is no {self.arch!r}. Name one of {', '.join(FUSIONS_OF)}")
        if self.size % (stride := stride_of(self.arch, self.depth)):
            raise S2cdError(f"size is {self.size}. Give a multiple of {stride} for {self.arch}")
        return Spec(
            self.arch,
            self.encoder or ENCODERS_OF.get(self.arch, ""),
            self.fusion or FUSIONS_OF[self.arch][0],
            bands,
            stride=stride_of(self.arch, self.depth),
            window=self.window,
            halo=self.halo,
            threshold=self.threshold or 0.5,
            classes=classes,
            depth=self.depth,
            detail=self.detail,
        )


def recipe_of(values: dict[str, Any], base: Recipe | None = None) -> Recipe:
    """A recipe from options by their long names, as they stand in TOML.

    Raises:
        S2cdError: where there is no such option, or a value is of another kind.
    """
    base = base or Recipe()
    known = {field.name.replace("_", "-"): field.name for field in fields(Recipe)}
    chosen: dict[str, Any] = {}
    for key, value in values.items():
        name = known.get(key.replace("_", "-"))
        if name is None:
            raise S2cdError(f"A recipe has no {key!r}. It has {', '.join(sorted(known))}")
        chosen[name] = _as(type(getattr(base, name)), key, value)
    if "class_weights" in chosen:
        chosen["class_weights"] = weights_of(chosen["class_weights"])
    return replace(base, **chosen)


def weights_of(texts: Sequence[str]) -> tuple[float, ...]:
    """Weights as they are typed, as numbers.

    Raises:
        S2cdError: where one is no number.
    """
    try:
        return tuple(float(text) for text in texts)
    except ValueError as e:
        raise S2cdError(f"class-weights are {','.join(texts)[:40]}. Give numbers above 0") from e


def _as(kind: type, key: str, value: Any) -> Any:
    """A value of TOML as that kind; what is None usually is a yes or no."""
    if kind is tuple and isinstance(value, str | list):
        return tuple(value.split(",") if isinstance(value, str) else map(str, value))
    if kind is float and type(value) is int:
        return float(value)
    kind = bool if kind is type(None) else kind
    if type(value) is not kind:
        raise S2cdError(f"{key} = {value!r}: it must be a {kind.__name__}. Correct it")
    return value


def read_recipe(path: Path) -> Recipe:
    """The recipe of a TOML file, at its top or in a table ``train``, as `train --config` takes it.

    Raises:
        S2cdError: where it cannot be read or understood.
    """
    import tomllib

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise S2cdError(f"{path} cannot be read as TOML: {' '.join(str(e).split())}") from e
    facts = ("data", "data_sha256")  # which config.toml of a run tells, too
    top = {k: v for k, v in values.items() if not isinstance(v, dict) and k not in facts}
    try:
        return recipe_of({**top, **values.get("train", {})})
    except S2cdError as e:
        raise S2cdError(f"{path}: {e}") from e
