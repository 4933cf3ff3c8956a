"""Results appear under their name when they are complete and synced, or not at all."""

import errno
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from s2cd.errors import ResultExistsError, S2cdError, UnwritableError
from s2cd.remote import Remote, told, upload


def check_writable(path: Path, overwrite: bool = False) -> None:
    """Refuse a result that cannot be written, before any work is done.

    Raises:
        ResultExistsError: where the result is there and ``overwrite`` is false.
        S2cdError: where its folder is missing or closed, or ``path`` is a folder.
    """
    if isinstance(path, Remote):
        _check_remote(path, overwrite)
        return
    folder = path.parent
    if not folder.is_dir():
        raise S2cdError(f"The folder {folder} for {path.name} does not exist. Create it first")
    if path.is_dir():
        raise S2cdError(f"{path} is a folder. Name a file as the result")
    if path.exists() and not overwrite:
        raise ResultExistsError(f"{path} exists. Give --overwrite to replace it")
    if not os.access(folder, os.W_OK):
        raise S2cdError(
            f"The folder {folder} cannot be written. Choose another, or change its mode"
        )


def _check_remote(path: Remote, overwrite: bool) -> None:
    if path.scheme != "s3":
        raise S2cdError(f"{path} cannot be written. Name a file or s3://BUCKET/KEY as the result")
    if path.exists() and not overwrite:
        raise ResultExistsError(f"{path} exists. Give --overwrite to replace it")


@contextmanager
def completed(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary name to write to, as `temporary_for`; on success it becomes ``path``.

    Raises:
        S2cdError: where it cannot be written; nothing is left behind then.
    """
    check_writable(path, overwrite)
    with temporary_for(path) as temporary, write_errors(path):
        yield temporary
        publish(temporary, path, overwrite)


@contextmanager
def temporary_for(path: Path) -> Iterator[Path]:
    """A name on this machine to write to, gone afterwards: beside ``path`` where that is here."""
    if isinstance(path, Remote):
        with tempfile.TemporaryDirectory(prefix="s2cd-") as folder:
            yield Path(folder) / path.name
        return
    sweep(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn what the system says of a failed write of ``path`` into one line."""
    from rasterio._err import CPLE_BaseError  # what rasterio.shutil.copy raises
    from rasterio.errors import RasterioError

    try:
        with told(path):
            yield
    except (RasterioError, CPLE_BaseError) as e:  # first: some are OSErrors without a number
        if _is_full(_folder_of(path)):
            raise _full(path) from e
        raise UnwritableError(
            f"{path} cannot be written: {one_line(e)}. Check the space and the mode of its folder"
        ) from e
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(path) from e
        if isinstance(path, Remote) and isinstance(e, FileNotFoundError):
            raise UnwritableError(f"{path} cannot be written: there is no such bucket") from e
        raise UnwritableError(
            f"{path} cannot be written: {e.strerror or one_line(e)}. Check its folder"
        ) from e


def _full(path: Path) -> UnwritableError:
    there = f"in {_folder_of(path)}" if isinstance(path, Remote) else "there"
    return UnwritableError(f"The disk is full: {path} was not written. Free space {there}")


def _folder_of(path: Path) -> Path:
    """The folder of this machine in which a result is made."""
    return Path(tempfile.gettempdir()) if isinstance(path, Remote) else path.parent


def _is_full(folder: Path) -> bool:
    """Whether a folder's disk holds next to nothing more: GDAL does not say why a write failed."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < 1 << 20


def publish(temporary: Path, path: Path, overwrite: bool = True) -> None:
    """Sync ``temporary`` to the disk and give it its final name, in one step; or upload it."""
    if isinstance(path, Remote):
        upload(temporary, path, overwrite)
        return
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def one_line(error: BaseException) -> str:
    """An error's message, or GDAL's own behind it, without line breaks or a closing full stop."""
    if "See previous exception" in str(error) and error.__cause__ is not None:
        return one_line(error.__cause__)
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def sweep(path: Path) -> None:
    """Remove what a killed process of this machine left of an earlier try at ``path``."""
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d{{1,9}})\.partial(\..*)?")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial*"):
        made = name.fullmatch(left.name)  # itself, or what GDAL keeps beside it
        if made is None or _alive(int(made[1])):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
