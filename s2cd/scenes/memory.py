"""Memory that is free, of the machine and within the limits that are set for this process."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Files of a control group, version 2 and 1: limit, use, and what of it is a cache of files."""


def free_memory() -> int:
    """Bytes that this process can have: of the machine, and within the limits of its group."""
    found = [_of_machine(), *_of_groups()]
    return min(found)


def _of_machine() -> int:
    """See `MemAvailable` in proc(5)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def _of_groups(root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """What is left of each limit that is set; see the kernel's cgroup-v1 and cgroup-v2."""
    for folder in dict.fromkeys((root, root / "memory", *_own_groups(root))):
        for limit, used, cache in _LIMITS:
            with suppress(OSError, ValueError):  # absent, or "max": no limit
                most = int((folder / limit).read_text())
                held = int((folder / used).read_text())
                lines = (folder / "memory.stat").read_text().splitlines()
                facts = dict(line.split() for line in lines)
                yield max(0, most - held + int(facts.get(cache, 0)))


def _own_groups(root: Path) -> Iterator[Path]:
    """The folders of this process's own groups, where they can be seen."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds in ("", "memory"):
                yield root / kinds / path.lstrip("/")
