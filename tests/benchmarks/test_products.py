"""From two products to a map, without a stack on disk: hardly more than what decoding takes."""

import json
import subprocess
import sys
import time

from memory import peak_of
from test_stack import SIZE, bare_decode


def test_two_products_to_a_map_take_little_more_than_their_decoding(products, tmp_path, figure):
    """One product stands for both dates: encoding a second one takes ten minutes."""
    before = products(SIZE)
    after = tmp_path / before.name
    after.symlink_to(before)
    line = [sys.executable, "-m", "s2cd", "detect", before, after, "--json", "-o"]
    bare = 2 * bare_decode(before)
    began = time.monotonic()
    done = subprocess.run(
        [*map(str, line), tmp_path / "change.tif"], check=True, capture_output=True, text=True
    )
    whole, seconds = time.monotonic() - began, json.loads(done.stdout)["seconds"]
    print(f"\nbare decoding {bare:.0f} s; detect {whole:.0f} s: {seconds}")
    what = "`detect` of two products, a whole tile: reading, to decoding twenty bands alone"
    figure(what, f"{seconds['read'] / bare:.2f}", "1.5")
    what = "`detect` of two products, a whole tile, start to end, to decoding alone"
    figure(what, f"{whole / bare:.2f} ({whole:.0f} s)", "2.5")
    peak = peak_of([*line, tmp_path / "again.tif"])
    figure("`detect` of two products, a whole tile: peak memory", f"{peak.mib:.0f} MiB", "6144 MiB")
    assert seconds["read"] <= 1.5 * bare
    assert whole <= 2.5 * bare
    assert peak.mib < 6144
