"""What came: seen to be the piece that was asked for before it is kept."""

from pathlib import Path

from s2cd.errors import S2cdError
from s2cd.scenes.raster import reading
from s2cd.sources.http.part import digest_of
from s2cd.sources.process_api.pieces import Piece

_NEAR = 0.01
"""Metres by which a corner may be off."""


def check_answer(path: Path, piece: Piece) -> None:
    """Refuse a file that is not a piece: of another size, type or place, or cut short.

    The server gives no checksum, so that all of it is decoded.

    Raises:
        S2cdError: where it is not.
    """
    grid, bands = piece.geobox, len(piece.layer.bands) + 1
    with reading(path) as source:
        if source.driver != "GTiff" or source.count != bands or set(source.dtypes) != {"uint16"}:
            raise S2cdError(
                f"{source.count} x {source.dtypes[0]} came, and {bands} x uint16 was asked for"
            )
        height, width = grid.shape
        if (source.height, source.width) != (height, width):
            raise S2cdError(
                f"{source.width} x {source.height} pixels came, and {width} x {height} were asked "
                "for"
            )
        epsg = source.crs.to_epsg() if source.crs else None
        corners = zip(source.transform[:6], grid.affine[:6], strict=True)
        if epsg != grid.crs.epsg or any(abs(a - b) > _NEAR for a, b in corners):
            raise S2cdError(
                f"it lies elsewhere (EPSG:{epsg}, corner {source.transform.c:g} "
                f"{source.transform.f:g}) than asked (EPSG:{grid.crs.epsg}, corner "
                f"{grid.affine.c:g} {grid.affine.f:g})"
            )
        for _, window in source.block_windows(1):
            source.read(window=window)


def note_beside(path: Path) -> Path:
    """Where the checksum of a piece stands."""
    return path.with_suffix(".sha256")


def is_kept(path: Path) -> bool:
    """Whether a piece is there as it was noted when it came."""
    try:
        return digest_of(path, "sha256") == note_beside(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return False
