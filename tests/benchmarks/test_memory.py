"""Memory is bounded by the blocks in flight, never by the scene."""

import sys

from memory import peak_of


def test_a_full_pair_takes_under_2_gib_and_hardly_more_than_a_quarter_of_it(
    stacks, tmp_path, figure
):
    peaks = {}
    for size in (5490, 10980):
        pair = stacks(size)
        out = tmp_path / f"{size}.tif"
        words = ["detect", pair.before, pair.after, "-o", out, "--model", "cva"]
        peaks[size] = peak_of([sys.executable, "-m", "s2cd", *words])
        print(
            f"{size} x {size} x 10, cva: peak {peaks[size].mib:.0f} MiB (PSS), "
            f"{peaks[size].seconds:.0f} s"
        )
    what = "`detect --model cva`, full pair: peak memory (PSS)"
    figure(what, f"{peaks[10980].mib:.0f} MiB", "2048 MiB")
    assert peaks[10980].mib < 2048
    assert peaks[10980].mib <= 1.15 * peaks[5490].mib
