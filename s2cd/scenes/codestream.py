"""What a JPEG 2000 file says of its tiles without decoding one: which are coded alike.

Source: ISO/IEC 15444-1, annexes A (codestream) and I (file format).
"""

import hashlib
import struct
from dataclasses import dataclass

from s2cd.errors import S2cdError

_SIZ, _SOT, _SOD, _EOC = 0xFF51, 0xFF90, 0xFF93, 0xFFD9
_MOST_TILES = 65_535


@dataclass(frozen=True)
class TileCodes:
    """The tiles of a codestream.

    Attributes:
        columns: Tiles side by side.
        size: Height and width of a tile, in pixels.
        digests: Of each tile's code, row by row; equal ones of equal size decode to equal pixels.
    """

    columns: int
    size: tuple[int, int]
    digests: tuple[bytes, ...]


def tile_codes(content: bytes, said: str) -> TileCodes:
    """The tiles of a whole JP2 file.

    Raises:
        S2cdError: where it holds no codestream that can be walked.
    """
    try:
        return _walked(content, content.index(struct.pack(">HH", 0xFF4F, _SIZ)) + 2)
    except (ValueError, struct.error, IndexError) as e:
        raise S2cdError(f"{said} is no whole JPEG 2000 file. Fetch it again") from e


def _walked(content: bytes, at: int) -> TileCodes:
    """Walk the main header, then tile part after tile part."""
    width, height, left, top, tile_width, tile_height = struct.unpack_from(">6I", content, at + 6)
    if left or top or not (tile_width and tile_height):
        raise ValueError("an image off its origin, or without tiles")
    columns, rows = -(-width // tile_width), -(-height // tile_height)
    if not 0 < rows * columns <= _MOST_TILES:
        raise ValueError("too many tiles")
    while (marker := struct.unpack_from(">H", content, at)[0]) != _SOT:
        if marker in (_SOD, _EOC):
            raise ValueError("a marker out of place")
        at += 2 + struct.unpack_from(">H", content, at + 2)[0]
    digests = [hashlib.sha256() for _ in range(rows * columns)]
    while struct.unpack_from(">H", content, at)[0] == _SOT:
        tile, length = struct.unpack_from(">HI", content, at + 4)
        end = at + length if length else len(content) - 2
        if end < at + 14 or end > len(content):
            raise ValueError("a tile part that is no part")
        digests[tile].update(content[at + 10 : end])
        at = end
    return TileCodes(columns, (tile_height, tile_width), tuple(d.digest() for d in digests))
