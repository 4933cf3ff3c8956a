"""The journal of a detection: finished blocks beside the result, so that none is lost.

It is a Zarr store in a hidden folder, whose chunk is the block. Its attributes hold a fingerprint
of everything that the map depends on; a journal of anything else is discarded.

Beside a result on an object store it lies there too, since workers elsewhere write it. There is no
lock there, so the array's name bears a digest of the fingerprint: of two runs at once neither can
take the other's blocks for its own. The later one discards what the earlier one wrote, which ends.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s2cd.detection.blocks import NOT_OBSERVED, STEPS, Block, Stored, blocks, stored_probability
from s2cd.errors import LostError, S2cdError, SourceError, UnwritableError
from s2cd.output import write_errors
from s2cd.remote import Remote, remove_all, told, zarr_store

logger = logging.getLogger(__name__)

MISSING = 254
"""Never a result: what a chunk holds that was not computed."""
_ARRAY = "probability"


@dataclass(frozen=True)
class Plan:
    """What is to be computed: everything that the map depends on, its shape, blocks and classes."""

    fingerprint: dict[str, Any]
    shape: tuple[int, int]
    block: int
    classes: int = 1

    @property
    def inputs(self) -> list[Any]:
        """The `identity` of each input."""
        return list(self.fingerprint["inputs"])

    def blocks(self) -> list[Block]:
        """The blocks, row by row."""
        return list(blocks(self.shape, self.block))


@dataclass(frozen=True)
class Journal:
    """Finished blocks of one detection. It can be pickled: workers write to it by its path."""

    folder: Path
    plan: Plan

    def write(self, block: Block, stored: Stored) -> None:
        """Keep a finished block; writing it twice does no harm.

        Raises:
            S2cdError: where the folder holds the journal of something else by now: a worker that
                was given up may finish after others have begun.
        """
        with write_errors(self.folder):
            array = self._held()
            if array.attrs.asdict().get("fingerprint") != self._fingerprint():
                raise S2cdError(f"{self.folder} is of another detection by now. Begin again")
            array[block.ys, block.xs] = stored

    def read(self, block: Block) -> Stored | None:
        """A finished block; None where it is missing, unreadable or was never computed."""
        try:
            with told(self.folder):
                stored = np.asarray(self._array("r")[block.ys, block.xs])
        except (OSError, ValueError, RuntimeError, KeyError):
            return None
        probability = stored_probability(stored)
        whole = ((probability <= STEPS) | (probability == NOT_OBSERVED)).all()
        return stored if whole else None

    def missing(self) -> list[Block]:
        """The blocks that are still to be computed."""
        return [block for block in self.plan.blocks() if self.read(block) is None]

    def recall(self, key: str) -> Any:
        """What was noted under ``key``; None where nothing was."""
        with told(self.folder):
            return self._held("r").attrs.asdict().get(key)

    def note(self, key: str, value: Any) -> None:
        """Note something that has been found out, such as what a detector learned."""
        with write_errors(self.folder):
            self._held().attrs[key] = value

    def matches(self) -> bool:
        """Whether the folder holds a journal of this very plan."""
        try:
            with told(self.folder):
                array = self._array("r")
            same = array.attrs.asdict().get("fingerprint") == self._fingerprint()
            return bool(same and array.shape == self.plan.shape)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError):
            return False

    def create(self) -> None:
        """Begin an empty journal."""
        import zarr
        from zarr.codecs import ZstdCodec

        with write_errors(self.folder):
            zarr.create_array(
                store=zarr_store(self.folder / self._name),
                shape=self.plan.shape,
                chunks=(self.plan.block, self.plan.block),
                dtype="uint8" if self.plan.classes == 1 else "uint16",
                fill_value=MISSING,
                compressors=ZstdCodec(level=1, checksum=True),
                attributes={"fingerprint": self._fingerprint()},
                config={"write_empty_chunks": True},
            )

    def _held(self, mode: str = "r+") -> Any:
        """The array of a journal that has been begun."""
        try:
            return self._array(mode)
        except FileNotFoundError as e:
            if not isinstance(self.folder, Remote):
                raise
            raise LostError(
                f"{self.folder} is gone: another detection of the same result has begun or ended. "
                "Wait for it, and give the command again"
            ) from e

    def _array(self, mode: Any) -> Any:
        import zarr

        config: Any = {"write_empty_chunks": True}
        return zarr.open_array(zarr_store(self.folder / self._name), mode=mode, config=config)

    @property
    def _name(self) -> str:
        """The array's: on an object store no other plan has the same."""
        if not isinstance(self.folder, Remote):
            return _ARRAY
        plan = json.dumps([self._fingerprint(), self.plan.shape])
        return f"{_ARRAY}-{hashlib.sha256(plan.encode()).hexdigest()[:16]}"

    def _fingerprint(self) -> Any:
        return json.loads(json.dumps([self.plan.fingerprint, self.plan.block]))


@contextmanager
def held_journal(result: Path, plan: Plan) -> Iterator[Journal]:
    """The journal of ``result``, held by this process alone; it is removed when all went well.

    Where the work is interrupted the journal stays, and the same plan continues from it; where it
    fails for another reason, such as a damaged input, nothing stays.

    Raises:
        S2cdError: where another process holds it.
    """
    folder = result.absolute().with_name(f".{result.name}.s2cd")
    journal = Journal(folder, plan)
    with _own(folder, result):
        if not journal.matches():
            _discard(folder)
            journal.create()
        try:
            yield journal
        except S2cdError as e:
            if not _can_continue(e):
                _remove(folder)
            raise
        except Exception:
            _remove(folder)
            raise
        _remove(folder)


@contextmanager
def _own(folder: Path, result: Path) -> Iterator[None]:
    """Make the folder and hold it; on an object store there is neither folder nor lock."""
    if isinstance(folder, Remote):
        yield
        return
    with write_errors(result):
        folder.mkdir(exist_ok=True)
    with locked(folder / "lock", result):
        yield


def _remove(folder: Path) -> None:
    if not isinstance(folder, Remote):
        shutil.rmtree(folder)
        return
    try:
        remove_all(folder)
    except (SourceError, OSError) as e:
        logger.warning("%s could not be removed: %s", folder, e)


def _can_continue(error: S2cdError) -> bool:
    """Whether the same command can succeed later: a full disk, but not a damaged input."""
    return isinstance(error, UnwritableError | LostError | SourceError)


def _discard(folder: Path) -> None:
    """Remove what another detection left in ``folder``, but not the lock."""
    if isinstance(folder, Remote):
        if remove_all(folder):
            logger.warning("%s is of other inputs or options, or damaged: discarded", folder)
        return
    if (folder / _ARRAY).exists():
        logger.warning("%s is of other inputs or options, or damaged: discarded", folder.name)
        shutil.rmtree(folder / _ARRAY)


@contextmanager
def locked(path: Path, result: Path) -> Iterator[None]:
    """Hold ``result`` for this process, by a lock at ``path``; a killed process holds nothing.

    Raises:
        S2cdError: where another process holds it.
    """
    with write_errors(result):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            holder = path.read_text().strip() or "unknown"
            raise S2cdError(
                f"{result} is being written by process {holder}. Wait for it, or end it"
            ) from e
        with suppress(OSError):
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        os.close(handle)
