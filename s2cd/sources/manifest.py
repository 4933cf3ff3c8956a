"""What ``manifest.safe`` says of a product's files: sizes and checksums."""

import re

from s2cd.errors import S2cdError
from s2cd.scenes.metadata import parse_xml

_DIGITS = {"MD5": 32, "SHA3-256": 64, "SHA-256": 64, "SHA256": 64}
_NAMES = {"MD5": "md5", "SHA3-256": "sha3-256", "SHA-256": "sha256", "SHA256": "sha256"}
_SAFE = re.compile(r"[\w.-]+(?:/[\w.-]+){0,7}", re.ASCII)


def read_manifest(content: bytes, said: str) -> dict[str, tuple[int | None, tuple[str, str]]]:
    """Size and checksum of each file by its name in the product, ``GRANULE/…/MTD_TL.xml``.

    Args:
        content: The file.
        said: Its name in messages.

    Raises:
        S2cdError: where it is no such XML, or lists nothing.
    """
    files = {}
    for stream in parse_xml(content, said).iter("byteStream"):
        place, sum_ = stream.find("fileLocation"), stream.find("checksum")
        if place is None or sum_ is None:
            continue
        name = place.get("href", "").removeprefix("./")
        kind, digits = (sum_.get("checksumName") or "").upper(), (sum_.text or "").strip()
        if not is_safe(name) or kind not in _DIGITS:
            continue
        if not re.fullmatch(rf"[0-9a-fA-F]{{{_DIGITS[kind]}}}", digits):
            continue
        size = stream.get("size", "")
        whole = int(size) if re.fullmatch(r"[0-9]{1,12}", size) else None
        files[name] = (whole, (_NAMES[kind], digits.lower()))
    if not files:
        raise S2cdError(f"{said} lists no file with a checksum. Take another product")
    return files


def is_safe(name: str) -> bool:
    """Whether a file's name, from outside, stays within its product, and has nothing odd in it."""
    parts = name.split("/")
    return bool(_SAFE.fullmatch(name)) and not any(part.strip(".") == "" for part in parts)
