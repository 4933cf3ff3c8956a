"""The files of a product, in a folder or in a zip; neither is trusted."""

import os
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from s2cd.errors import S2cdError
from s2cd.output import one_line

_MOST_FILES = 20_000
"""A product has about a hundred files; whatever has more is a folder of something else."""
_DEEPEST = 6
"""Folders within a product, and within the folder that holds it."""
_MOST_BYTES = 4 << 30
"""Of one file: a 10 m band is 250 MB where it does not compress at all."""


@dataclass(frozen=True)
class Archive:
    """The files of a folder or of a zip by their names in it, ``GRANULE/…/MTD_TL.xml``, and sizes.

    Nothing is extracted: GDAL reads members of a zip by `gdal_name`.
    """

    path: Path
    zipped: bool
    sizes: Mapping[str, int] = field(repr=False)

    def read(self, name: str, most: int) -> bytes:
        """The content of a file.

        Raises:
            S2cdError: where it cannot be read, or is longer than ``most`` bytes.
        """
        try:
            if self.zipped:
                with zipfile.ZipFile(self.path) as archive, archive.open(name) as file:
                    content = file.read(most + 1)
            else:
                with (self.path / name).open("rb") as file:
                    content = file.read(most + 1)
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as e:
            raise S2cdError(
                f"{self.said(name)} cannot be read: {one_line(e)}. Fetch it again"
            ) from e
        if len(content) > most:
            raise S2cdError(
                f"{self.said(name)} is longer than {most >> 20} MiB, which none of its kind is. "
                "Fetch the product again"
            )
        return content

    def head(self, name: str, length: int) -> bytes:
        """The first bytes of a file."""
        try:
            if self.zipped:
                with zipfile.ZipFile(self.path) as archive, archive.open(name) as file:
                    return file.read(length)
            with (self.path / name).open("rb") as file:
                return file.read(length)
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as e:
            raise S2cdError(
                f"{self.said(name)} cannot be read: {one_line(e)}. Fetch it again"
            ) from e

    def gdal_name(self, name: str) -> str:
        """The name by which GDAL opens a file."""
        place = self.path.absolute()
        return f"/vsizip/{{{place}}}/{name}" if self.zipped else str(place / name)

    def said(self, name: str) -> str:
        """The name by which a message speaks of a file."""
        return f"{name} in {self.path}" if self.zipped else str(self.path / name)


def open_archive(path: Path) -> Archive:
    """The files of a folder or a zip.

    Raises:
        S2cdError: where it is neither, or a zip holds what no product does: names that lead
            elsewhere, links, passwords, a name twice, more or longer files than a product has.
    """
    if path.is_dir():
        return Archive(path, False, _walk(path))
    if not path.exists():
        raise S2cdError(f"{path} does not exist. Check the name")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as e:
        raise S2cdError(
            f"{path} is no product: neither a folder nor a whole zip ({one_line(e)}). "
            "Name a .SAFE folder or its zip"
        ) from e
    return Archive(path, True, _members(path, members))


def _walk(folder: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for place, folders, names in os.walk(folder, onerror=_refuse):
        relative = Path(place).relative_to(folder)
        if len(relative.parts) >= _DEEPEST:
            folders.clear()
        folders.sort()
        for name in names:
            if (file := Path(place) / name).is_file():
                sizes[(relative / name).as_posix()] = file.stat().st_size
        if len(sizes) > _MOST_FILES:
            raise S2cdError(f"{folder} holds too many files for a product. Name the product itself")
    return sizes


def _refuse(error: OSError) -> None:
    raise S2cdError(f"{error.filename} cannot be read: {error.strerror}. Change its mode")


def _members(path: Path, members: list[zipfile.ZipInfo]) -> dict[str, int]:
    if len(members) > _MOST_FILES:
        raise S2cdError(f"{path} holds {len(members)} files, more than a product. Fetch it again")
    sizes: dict[str, int] = {}
    for member in members:
        if (fault := _fault(member)) or member.filename in sizes:
            name = member.filename[:200].encode("unicode_escape").decode()
            raise S2cdError(
                f"{path} is no product's zip: {name} {fault or 'is in it twice'}. "
                "Fetch the product from where you trust it"
            )
        if not member.is_dir():
            sizes[member.filename] = member.file_size
    return sizes


def _fault(member: zipfile.ZipInfo) -> str:
    """What is wrong with a member of a zip; empty where nothing is."""
    name = member.orig_filename
    if "\\" in name or "\0" in name or ":" in name or name.startswith("/"):
        return "has a name that is no path in it"
    if ".." in PurePosixPath(name).parts:
        return "leads out of it"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.file_size > _MOST_BYTES:
        return f"claims {member.file_size >> 20} MiB"
    return ""
