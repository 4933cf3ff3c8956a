"""Peak memory of a process tree: the sum of PSS, sampled every 50 ms."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Peak:
    """What a command took."""

    mib: float
    seconds: float


def seconds_of(line: Sequence[object]) -> float:
    """Run a command to its end, unwatched: sampling takes time from what is sampled."""
    began = time.monotonic()
    subprocess.run([str(word) for word in line], check=True, capture_output=True)
    return time.monotonic() - began


def peak_of(line: Sequence[object]) -> Peak:
    """Run a command to its end; it must succeed."""
    began, most = time.monotonic(), 0
    child = subprocess.Popen([str(word) for word in line], stderr=subprocess.PIPE, text=True)
    parent = psutil.Process(child.pid)
    while child.poll() is None:
        most = max(most, _pss(parent))
        time.sleep(0.05)
    _, said = child.communicate()
    assert child.returncode == 0, said
    return Peak(most / 2**20, time.monotonic() - began)


def _pss(parent: psutil.Process) -> int:
    total = 0
    try:
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.Error:
        return total  # it ended while it was asked
    return total
