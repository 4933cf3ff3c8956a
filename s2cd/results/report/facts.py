"""What a page says in words and figures: areas, and where a map comes from."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from odc.geo.geobox import GeoBox

from s2cd.networks.registry import BUILT_IN
from s2cd.networks.shipped import SHIPPED
from s2cd.results.dates import sensed
from s2cd.results.places import degrees_at
from s2cd.results.report.pictures import Seen

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()

Row = tuple[str, float, float]
"""Name, area in m2, and share of what it is a part of."""


def day(iso: str | None) -> str | None:
    """A day as people write it: 20 Nov 2015."""
    if iso is None:
        return None
    year, month, of_month = iso.split("-")
    return f"{int(of_month)} {_MONTHS[int(month) - 1]} {year}"


def hectares(m2: float) -> str:
    """An area in hectares, in about three figures."""
    value = m2 / 1e4
    digits = (
        0 if value == 0 else 3 if value < 0.1 else 2 if value < 10 else 1 if value < 1000 else 0
    )
    return f"{value:,.{digits}f}"


def percent(share: float) -> str:
    """A share in percent, in about two figures."""
    value = 100 * share
    digits = 0 if value == 0 or value > 99.95 else 2 if value < 1 else 1
    return f"{value:.{digits}f} %"


def place(geobox: GeoBox) -> str:
    """The middle of a map in degrees: 33.87° N, 35.51° E."""
    height, width = geobox.shape
    (lon,), (lat,) = degrees_at(geobox, np.array([width / 2]), np.array([height / 2]))
    return f"{abs(lat):.2f}° {'S' if lat < 0 else 'N'}, {abs(lon):.2f}° {'W' if lon < 0 else 'E'}"


def area_rows(seen: Seen) -> list[Row]:
    """How the map's area divides: no change, change and its kinds, not observed."""
    total = seen.observed + seen.unseen
    rows: list[Row] = [
        ("Changed", seen.changed, seen.changed / total),
        ("No change", seen.observed - seen.changed, 1 - (seen.changed + seen.unseen) / total),
        ("Not observed in both dates", seen.unseen, seen.unseen / total),
    ]
    return rows


def kind_rows(table: "GeoDataFrame") -> list[Row]:
    """Areas of the listed changes by kind, the largest first; empty where kinds are unknown."""
    if "kind" not in table.columns or table["kind"].isna().all():
        return []
    areas = table.groupby("kind")["area_m2"].sum().sort_values(ascending=False)
    total = max(float(areas.sum()), 1e-9)
    return [(str(kind), float(area), float(area) / total) for kind, area in areas.items()]


def provenance(change: Path, geobox: GeoBox, tags: dict[str, str]) -> list[tuple[str, str]]:
    """What made a map, as far as it says: names and texts, in the order of the work."""
    rows = [("Before", _source(tags, "BEFORE")), ("After", _source(tags, "AFTER"))]
    rows.append(("Registration", _registration(tags)))
    name = tags.get("MODEL", "")
    known = BUILT_IN | SHIPPED
    rows.append(("Model", f"{name}: {known[name]}" if name in known else name))
    rows.append(("Weights, SHA-256", tags.get("MODEL_SHA256", "")))
    rows.append(("Threshold", _threshold(tags)))
    rows.append(("Bands", tags.get("BANDS", "")))
    rows.append(("Grid", _grid(geobox)))
    rows.append(("Map", f"{change.name}, SHA-256 {digest(change)}"))
    rows.append(("Made with", f"s2cd {tags['S2CD_VERSION']}" if "S2CD_VERSION" in tags else ""))
    return [(name, text or "not said by the map") for name, text in rows]


def _source(tags: dict[str, str], role: str) -> str:
    parts = (day(sensed(tags, role)), tags.get(f"{role}_PRODUCT"), tags.get(role))
    return ", ".join(part for part in parts if part)


def _registration(tags: dict[str, str]) -> str:
    text = tags.get("REGISTRATION", "")
    if "SHIFT_ROWS" not in tags:
        return text
    return f"{text}: {tags['SHIFT_ROWS']} rows, {tags.get('SHIFT_COLUMNS')} columns"


def _threshold(tags: dict[str, str]) -> str:
    if "THRESHOLD" not in tags:
        return ""
    scale = {
        "calibrated": "of a calibrated probability",
        "uncalibrated": "of a score that is no probability",
    }
    return f"{tags['THRESHOLD']} {scale.get(tags.get('CALIBRATION', ''), '')}".strip()


def _grid(geobox: GeoBox) -> str:
    height, width = geobox.shape
    crs = geobox.crs.proj
    code = crs.to_epsg()
    name = crs.name if code is None else f"{crs.name} (EPSG:{code})"
    unit = "degrees" if geobox.crs.geographic else crs.axis_info[0].unit_name
    size = f"{abs(geobox.affine.a):.8g} x {abs(geobox.affine.e):.8g} {unit}"
    return f"{width} x {height} pixels of {size}, {name}"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
