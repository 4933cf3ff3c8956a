"""The journal of a detection: finished blocks beside the result, so that none is lost.

It is a Zarr store in a hidden folder, whose chunk is the block. Its attributes hold a fingerprint
of everything that the map depends on; a journal of anything else is discarded.

Beside a result on an object store it lies there too, since workers elsewhere write it. There is no
lock there that a killed process gives back, so the array's name bears a digest of the fingerprint:
of two runs at once neither can take the other's blocks for its own. The later one discards what the
earlier one has, which ends with a line that says so.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
_SIDE_BY_SIDE = 16
"""Blocks that are looked for at once on an object store, where each look waits for an answer."""


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
            array = self._begun("r+")
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
        return self._begun("r").attrs.asdict().get(key)

    def note(self, key: str, value: Any) -> None:
        """Note something that has been found out, such as what a detector learned."""
        with write_errors(self.folder):
            self._begun("r+").attrs[key] = value

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

    @contextmanager
    def held(self, result: Path) -> Iterator[None]:
        """Make the folder, and hold it for this process.

        Raises:
            S2cdError: where another process holds it.
        """
        with write_errors(result):
            self.folder.mkdir(exist_ok=True)
        with locked(self.folder / "lock", result):
            yield

    def discard(self) -> bool:
        """Remove what another detection left in the folder, but not the lock; whether it did."""
        there = (self.folder / _ARRAY).exists()
        if there:
            shutil.rmtree(self.folder / _ARRAY)
        return there

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

    @property
    def _name(self) -> str:
        return _ARRAY

    def _begun(self, mode: str) -> Any:
        """The array of a journal that has been created."""
        return self._array(mode)

    def _array(self, mode: Any) -> Any:
        import zarr

        config: Any = {"write_empty_chunks": True}
        store = zarr_store(self.folder / self._name)
        return zarr.open_array(store, mode=mode, zarr_format=3, config=config)

    def _fingerprint(self) -> Any:
        return json.loads(json.dumps([self.plan.fingerprint, self.plan.block]))


@dataclass(frozen=True)
class RemoteJournal(Journal):
    """The journal of a result on an object store."""

    folder: Remote

    def missing(self) -> list[Block]:
        """As `Journal.missing`."""
        every = self.plan.blocks()
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            found = list(pool.map(self.read, every))
        return [block for block, stored in zip(every, found, strict=True) if stored is None]

    def create(self) -> None:
        """As `Journal.create`; the same plan may have been begun elsewhere meanwhile."""
        from zarr.errors import ContainsArrayError

        with suppress(ContainsArrayError):
            super().create()

    @contextmanager
    def held(self, result: Path) -> Iterator[None]:
        """Nothing: there is neither folder nor lock."""
        yield

    def discard(self) -> bool:
        """As `Journal.discard`."""
        return remove_all(self.folder)

    def remove(self) -> None:
        """Remove its own blocks, not those of another run; where that fails the result is there."""
        try:
            remove_all(self.folder / self._name)
        except (SourceError, OSError) as e:
            logger.warning("%s could not be removed: %s", self.folder, e)

    @property
    def _name(self) -> str:
        plan = json.dumps([self._fingerprint(), self.plan.shape, self.plan.classes])
        return f"{_ARRAY}-{hashlib.sha256(plan.encode()).hexdigest()[:16]}"

    def _begun(self, mode: str) -> Any:
        try:
            with told(self.folder):
                return self._array(mode)
        except FileNotFoundError as e:
            raise LostError(
                f"{self.folder} is gone: another detection of the same result has begun or ended. "
                "Wait for it, and give the same command again"
            ) from e


def journal_of(result: Path, plan: Plan) -> Journal:
    """The journal of a result, which may not have been begun."""
    folder = result.absolute().with_name(f".{result.name}.s2cd")
    return RemoteJournal(folder, plan) if isinstance(folder, Remote) else Journal(folder, plan)


@contextmanager
def held_journal(result: Path, plan: Plan) -> Iterator[Journal]:
    """The journal of ``result``, held by this process alone; it is removed when all went well.

    Where the work is interrupted the journal stays, and the same plan continues from it; where it
    fails for another reason, such as a damaged input, nothing stays.

    Raises:
        S2cdError: where another process holds it.
    """
    journal = journal_of(result, plan)
    with journal.held(result):
        if not journal.matches():
            if journal.discard():
                logger.warning(
                    "%s is of other inputs or options, or damaged: discarded", journal.folder.name
                )
            journal.create()
        try:
            yield journal
        except S2cdError as e:
            if not _can_continue(e):
                journal.remove()
            raise
        except Exception:
            journal.remove()
            raise
        journal.remove()


def _can_continue(error: S2cdError) -> bool:
    """Whether the same command can succeed later: a full disk, but not a damaged input."""
    return isinstance(error, UnwritableError | LostError | SourceError)


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
