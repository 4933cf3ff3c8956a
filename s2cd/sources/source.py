"""What every source of Level-1C data is asked for, and what it answers with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol

from s2cd.scenes.aoi import Aoi
from s2cd.scenes.bands import CLOUD_BANDS, DEFAULT_BANDS

Told = Callable[[int], None]
"""Is told of bytes as they come."""


@dataclass(frozen=True)
class Search:
    """What to look for.

    Attributes:
        aoi: The area.
        spans: Dates from and to, both included; what lies in any of them counts.
        max_cloud: Percent of cloud over a product, at most, where the source knows it.
    """

    aoi: Aoi
    spans: tuple[tuple[date, date], ...]
    max_cloud: float = 100

    def holds(self, day: date) -> bool:
        """Whether a day lies in one of the spans."""
        return any(start <= day <= end for start, end in self.spans)

    @property
    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Boxes around the area, west, south, east, north: one on each side of 180 degrees."""
        import shapely

        west, _, east, _ = self.aoi.outline.bounds
        parts = [self.aoi.outline]
        if east - west > 180:
            halves = shapely.box(-180, -90, 0, 90), shapely.box(0, -90, 180, 90)
            parts = [self.aoi.outline.intersection(half) for half in halves]
        return [part.bounds for part in parts if not part.is_empty]

    def keeps(self, found: "Found") -> bool:
        """Whether a product is one of those looked for, whatever a server made of the question."""
        clear = found.cloud is None or found.cloud <= self.max_cloud
        return clear and self.holds(found.day) and found.footprint.intersects(self.aoi.outline)


@dataclass(frozen=True)
class Found:
    """One tile of one datatake, as a source has it.

    Attributes:
        source: Which source has it.
        name: ``S2A_MSIL1C_…`` without an ending.
        sensed: When, in UTC.
        made: When it was processed, as ESA writes it.
        tile: Such as ``43QBF``.
        orbit: Relative orbit number.
        baseline: Of the processing, such as ``05.00``.
        datatake: What the satellite took in one go, without the processing baseline.
        cloud: Percent of the product, by its own metadata; None where nobody says.
        footprint: Where it has data: a shapely polygon or multipolygon in degrees.
        size: Bytes of the whole product; None where the source does not say.
        place: Where the source keeps it: a key, an id, a URL.
        extra: More that the source says.
    """

    source: str
    name: str
    sensed: datetime
    made: str
    tile: str
    orbit: int
    baseline: str
    datatake: str
    cloud: float | None
    footprint: Any = field(repr=False)
    size: int | None = None
    place: str = ""
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def day(self) -> date:
        """The date in UTC."""
        return self.sensed.date()


@dataclass(frozen=True)
class Scene:
    """One date: the tiles of one datatake that cover an AOI, as far as they do.

    Attributes:
        products: Those that are needed, the one that covers most first.
        coverage: Share of the AOI that their footprints cover, 0 to 1.
        cloud: Percent, weighted by what each product covers; None where one says nothing.
        looked_at: Whether ``cloud`` is of the AOI, by the products' own masks; else it is of the
            whole products, by their metadata.
        spare: The datatake's other tiles over the AOI, which add nothing to these.
    """

    products: tuple[Found, ...]
    coverage: float
    cloud: float | None
    looked_at: bool = False
    spare: tuple[Found, ...] = field(default=(), repr=False, compare=False)

    @property
    def day(self) -> date:
        """The date in UTC."""
        return self.products[0].day

    @property
    def orbit(self) -> int:
        """The relative orbit number."""
        return self.products[0].orbit


@dataclass(frozen=True)
class Order:
    """What to get of a scene.

    Attributes:
        aoi: The area.
        folder: Where all of it goes; sources keep theirs in a folder of their own in it.
        bands: Of the stack, in its order.
        clouds: Whether clouds are looked for, which needs more bands.
    """

    aoi: Aoi
    folder: Path
    bands: tuple[str, ...] = DEFAULT_BANDS
    clouds: bool = True

    @property
    def needed(self) -> tuple[str, ...]:
        """The bands to get."""
        more = CLOUD_BANDS if self.clouds else ()
        return tuple(dict.fromkeys((*self.bands, *more)))


@dataclass(frozen=True)
class Cost:
    """What getting a scene takes.

    Attributes:
        size: Bytes of all of it.
        units: Processing units that are still to be spent, where a source counts them.
        there: Of those bytes the ones that the folder has already, by the sizes of its files.
    """

    size: int
    units: float = 0.0
    there: int = 0


@dataclass(frozen=True)
class Kept:
    """A file that was brought and seen to be right.

    Attributes:
        product: Name of the product that it is of, or is made from.
        path: Where it lies.
        url: Where it came from, without query.
        size: Bytes.
        checksum: Name of the hash and its digits, as the source gave it or as it was computed.
    """

    product: str
    path: Path
    url: str
    size: int
    checksum: tuple[str, str]


@dataclass(frozen=True)
class Opened:
    """A scene as a lazy stack.

    Attributes:
        stack: Reflectance (band, y, x), NaN = no data, tags as attributes.
        qa: Flags (y, x); None where only what is observed counts.
        later: Asked for more flags when the stack is written, as `write_stack` takes it.
    """

    stack: Any
    qa: Any = None
    later: Callable[[], Any] | None = None


class Source(Protocol):
    """Where Level-1C data comes from.

    `find` and `cost` write nothing but a cache; `download` takes all dates at once, since their
    files come side by side, can be called again, and brings only what is missing or broken;
    `open` reads what it left, without a network.
    """

    @property
    def name(self) -> str:
        """As in ``--source``."""

    def find(self, search: Search) -> list[Found]:
        """Products whose footprint meets the AOI, of those dates, in any order."""

    def clouds_over(self, parts: Sequence[tuple[Found, Any]]) -> list[float | None]:
        """Percent of cloud over a part of each product (shapely, degrees); None where not known."""

    def cost(self, scene: Scene, order: Order) -> Cost:
        """What `download` would bring, and what of it is there."""

    def download(self, scenes: Sequence[Scene], order: Order, told: Told) -> list[Kept]:
        """Bring scenes into ``order.folder``; all that is needed of them, each file checked."""

    def open(self, scene: Scene, order: Order) -> Opened:
        """The scene that `download` left."""


def whole_days(spans: Iterable[tuple[date, date]]) -> str:
    """Spans in words, for messages."""
    return ", ".join(f"{start} to {end}" for start, end in spans)
