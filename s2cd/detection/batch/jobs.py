"""How many pairs fit side by side, by what a pair takes."""

_JOB = 1 << 30
"""Bytes of a process that detects change, without its blocks: libraries, GDAL's cache, a sample."""
_THREAD = 500 << 20
"""Bytes of a block of ten bands and what a thread makes of it."""
_USED = 0.8
"""Share of the free memory to use: others grow as well."""


def jobs_within(memory: int, processors: int, threads: int | None = None) -> int:
    """Pairs to work at side by side, at least one, so that they fit into the free memory.

    Args:
        memory: Bytes that are free.
        processors: That this process may use: more pairs than these gain nothing.
        threads: Of each pair; by default the pairs share the processors.
    """
    for jobs in range(processors, 1, -1):
        each = threads or max(1, processors // jobs)
        if jobs * (_JOB + each * _THREAD) <= memory * _USED:
            return jobs
    return 1
