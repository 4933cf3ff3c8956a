"""Networks as detectors: the two steps of every detector, for a checkpoint."""

import logging
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.networks.agreement import Agreement
from s2cd.networks.checkpoint import read_spec, sha256_of
from s2cd.networks.classical.irmad import FrozenIrMad, IrMad
from s2cd.networks.classical.normalize import learnable
from s2cd.networks.detector import NOTHING_VALID, Frozen
from s2cd.networks.familiar import strange_bands
from s2cd.networks.inputs import Statistics, network_input, statistics_of
from s2cd.networks.runtime import (
    backend_at,
    check_backend,
    check_precision,
    choose_device,
    probabilities,
)
from s2cd.networks.scaling import UNSCALED, Scaling
from s2cd.networks.selection import choose_way, ways
from s2cd.networks.spec import Spec
from s2cd.scenes.pair import Pair

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrozenNetwork:
    """A network with the statistics of one pair; it is sent by its path, and loads itself.

    Which device ``auto`` is, each process says for itself: workers may have what others have not.
    """

    path: str
    sha256: str
    device: str
    precision: str
    statistics: Statistics | None
    scaling: Scaling
    backend: str = "torch"

    def predict(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Probabilities of windows (n, band, height, width), as `Frozen.predict` says."""
        facts = (self.path, self.sha256, self.device, self.precision)
        seen = network_input(before, after, self.statistics)
        found = probabilities(backend_at(self.backend, *facts), seen, self.scaling)
        return found[:, 0] if found.shape[1] == 1 else found

    def numbers(self) -> dict[str, Any]:
        """What was learned, fit for JSON."""
        learned = None if self.statistics is None else asdict(self.statistics)
        return {"statistics": learned, "backend": self.backend, "precision": self.precision}


@dataclass(frozen=True)
class Together:
    """A network and its partner, both of which have learned from the pair.

    Attributes:
        network: Its probabilities are not scaled yet.
        partner: What it is heard with.
        agreement: How the two become one.
        margin: Pixels at each side of a window where the partner is not asked: its own reach is
            less than the network's halo, and nobody uses those.
    """

    network: FrozenNetwork
    partner: FrozenIrMad
    agreement: Agreement
    margin: int

    def predict(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Probabilities (n, height, width) of windows (n, band, height, width)."""
        found = self.network.predict(before, after)
        inner = slice(self.margin, -self.margin or None)
        seen = (date[..., inner, inner] for date in (before, after))
        own = found[..., inner, inner]
        found[..., inner, inner] = self.agreement.probabilities(own, self.partner.predict(*seen))
        return found

    def numbers(self) -> dict[str, Any]:
        """What was learned, fit for JSON."""
        return {**self.network.numbers(), "partner": self.partner.numbers()}


@dataclass(frozen=True)
class Network:
    """A checkpoint as a detector; made by `open_network`."""

    path: Path
    sha256: str
    spec: Spec
    device: str = "cpu"
    precision: str = "fp32"
    backend: str = "torch"

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands it takes, in this order."""
        return self.spec.bands

    @property
    def window(self) -> int:
        """Height and width of a window, in pixels."""
        return self.spec.window

    @property
    def halo(self) -> int:
        """Pixels at each side of a window that are not used."""
        return self.spec.halo

    @property
    def threshold(self) -> float:
        """Probabilities from here on are change."""
        return self.spec.threshold

    @property
    def classes(self) -> int:
        """Classes of change that it tells apart."""
        return self.spec.classes

    @property
    def calibrated(self) -> bool:
        """Whether a score is a probability."""
        return self.spec.calibrated

    @property
    def normalization(self) -> str:
        """The network was trained on its dates as they are, or is normalised by its spec."""
        return "none"

    def fit(self, pair: Pair) -> Frozen:
        """Learn the statistics of each date and band, where the network is normalised by them.

        Its partner learns from the pair as well, where it has one. What ``auto`` is, is learned
        here too: it must agree on this pair with torch in fp32.

        Raises:
            S2cdError: where no pixel is valid in both dates, or the weights cannot be loaded.
        """
        statistics, partner = self._learned(pair)
        where = _device(self.device, self.backend)
        possible = ways(self.backend, self.precision, where)
        frozen = self._frozen(statistics, *possible[-1])
        heard = partial(self._heard, partner)
        way = choose_way(possible, heard, (frozen, pair, self))
        frozen = replace(frozen, backend=way.backend, precision=way.precision)
        return heard(frozen)

    def _learned(self, pair: Pair) -> tuple[Statistics | None, FrozenIrMad | None]:
        """What network and partner learn, from the same windows, which are read once."""
        partner = IrMad() if self.spec.partner else None
        windows = learnable(pair, partner.halo) if partner else pair.sample(0)
        statistics = None
        if self.spec.normalization == "zscore":
            statistics = statistics_of(windows, len(pair.bands))
            if statistics is None:
                raise S2cdError(NOTHING_VALID)
            self._warn_of(statistics)
        return statistics, partner.learned(list(windows)) if partner else None

    def restore(self, numbers: dict[str, Any]) -> Frozen:
        """The frozen network that gave these numbers."""
        learned, statistics = numbers["statistics"], None
        if learned is not None:
            mean, std = (tuple(map(tuple, learned[key])) for key in ("mean", "std"))
            statistics = Statistics(mean, std)
        partner = IrMad().restore(numbers["partner"]) if self.spec.partner else None
        frozen = self._frozen(statistics, numbers["backend"], numbers["precision"])
        return self._heard(partner, frozen)

    def _heard(self, partner: FrozenIrMad | None, own: FrozenNetwork) -> Frozen:
        """Alone, or with its partner, which then is given what is not scaled yet."""
        agreement = self.spec.agreement
        if partner is None or agreement is None:
            return own
        margin = max(0, self.halo - IrMad.halo)
        return Together(replace(own, scaling=UNSCALED), partner, agreement, margin)

    def _frozen(self, statistics: Statistics | None, backend: str, precision: str) -> FrozenNetwork:
        facts = (str(self.path), self.sha256, self.device, precision)
        backend_at(backend, *facts)
        return FrozenNetwork(*facts, statistics, self.spec.scaling, backend)

    def _warn_of(self, statistics: Statistics) -> None:
        """Say where a date looks like nothing that the network was trained on."""
        if not self.spec.ranges:
            return
        found = strange_bands(statistics, self.spec.ranges)
        for role, strange in zip(("before", "after"), found, strict=True):
            if strange:
                logger.warning(
                    "%s lies far from what %s was trained on (%s): expect more errors, and compare "
                    "with --model irmad",
                    role,
                    self.name,
                    " ".join(self.bands[index] for index in strange),
                )


def open_network(
    path: Path, device: str = "auto", precision: str = "fp32", backend: str = "torch"
) -> Network:
    """A checkpoint as a detector; its weights are loaded when it is first needed.

    Raises:
        S2cdError: where the file is no checkpoint, or device, precision or backend cannot be had.
    """
    spec = read_spec(path)
    check_backend(backend, device)
    where = _device(device, backend)
    if precision != "auto":
        check_precision(precision, where)
    if spec.licence:
        _say_licence(path.stem, spec.licence)
    return Network(path.resolve(), sha256_of(path), spec, device, precision, backend)


def _device(device: str, backend: str) -> str:
    return "cpu" if backend == "openvino" else choose_device(device)


@cache
def _say_licence(name: str, licence: str) -> None:
    """Say what a network may be used for, once a process."""
    logger.warning("the weights of %s are for %s", name, licence)
