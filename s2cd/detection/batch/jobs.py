"""How many pairs fit side by side, by what a pair takes."""

_JOB = 1 << 30
"""Bytes of a process that detects change, without its blocks: libraries, GDAL's cache, a sample."""
_THREAD = 1100 << 20
"""Bytes of what a thread makes of a block: oscd10 on ten bands, whose processes were seen to take
2.1 GB with one thread and 3.2 GB with two; detectors without weights take a fifth."""
_PRODUCT = 11 * 10980**2 * 2
"""Bytes of a product that is held in memory: ten bands and the flags of a whole tile."""
_USED = 0.8
"""Share of the free memory to use: others grow as well."""


def jobs_within(memory: int, processors: int, threads: int | None = None, products: int = 0) -> int:
    """Pairs to work at side by side, at least one, so that they fit into the free memory.

    Args:
        memory: Bytes that are free.
        processors: That this process may use: more pairs than these gain nothing.
        threads: Of each pair; by default the pairs share the processors.
        products: Of each pair, dates that are products.
    """
    for jobs in range(processors, 1, -1):
        each = threads or max(1, processors // jobs)
        if jobs * (_JOB + each * _THREAD + products * _PRODUCT) <= memory * _USED:
            return jobs
    return 1
