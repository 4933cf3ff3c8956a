"""Change straight from products: the map that stacks of them give, to the pixel."""

import json
import zipfile
from datetime import date

import numpy as np
import pytest
import rasterio
from conftest import write_jp2
from test_clouds import NEEDED, SIZE, overcast

from s2cd.detection import inputs
from s2cd.detection.batch.pairs import read_pairs
from s2cd.detection.batch.run import Batch, run_batch
from s2cd.detection.detect import Request, detect_files
from s2cd.detection.inputs import identity
from s2cd.detection.schedule import Workers
from s2cd.errors import S2cdError
from s2cd.scenes.bands import BANDS, DEFAULT_BANDS
from s2cd.scenes.simulate import Sheet, Simulation, write_product


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """Two dates as products, with an offset and without; there is a cloud over the later one."""
    folder = tmp_path_factory.mktemp("products")
    simulation = Simulation(size=SIZE, seed=4)
    before, after = (
        write_product(simulation, index, folder, baseline)
        for index, baseline in enumerate(("05.00", "02.04"))
    )
    files = {band: next(after.glob(f"GRANULE/*/IMG_DATA/*_{band}.jp2")) for band in NEEDED}
    ground = {}
    for band, file in files.items():
        with rasterio.open(file) as source:
            ground[band] = source.read(1).astype(np.float32) * 1e-4
    sheet = Sheet(simulation_day(after), SIZE)
    for band, values in overcast(ground, (1800, 2400), 700, 1500).items():
        dn = np.clip(np.rint(values.values * 1e4), 1, 60000).astype(np.uint16)
        write_jp2(files[band], dn, sheet, BANDS[band].resolution)
    return before, after


def simulation_day(product):
    sensed = product.name.split("_")[2]
    return date(int(sensed[:4]), int(sensed[4:6]), int(sensed[6:8]))


@pytest.fixture(scope="module")
def stacks(products, tmp_path_factory):
    from s2cd.scenes.date import open_products
    from s2cd.scenes.mosaic import Wanted
    from s2cd.scenes.stack import write_stack

    folder, paths = tmp_path_factory.mktemp("stacks"), []
    for product, name in zip(products, ("before.tif", "after.tif"), strict=True):
        opened = open_products((product,), Wanted())
        write_stack(opened.stack, folder / name, opened.qa, opened.stack.attrs, False, opened.later)
        paths.append(folder / name)
    return paths


def read(path):
    with rasterio.open(path) as file:
        return file.read(1), file.tags(), file.transform


@pytest.mark.parametrize("bands", [None, ("B08", "B02", "B04")])
def test_products_give_the_map_of_their_stacks(products, stacks, tmp_path, bands):
    for dates, name in ((stacks, "stacks"), (products, "products")):
        said = detect_files(
            Request(*dates, tmp_path / f"{name}.tif", tmp_path / f"{name}-p.tif", bands=bands)
        )
        assert set(said["bands"]) == set(bands or DEFAULT_BANDS)
    for ending in (".tif", "-p.tif"):
        one, tags, where = read(tmp_path / f"stacks{ending}")
        other, others, there = read(tmp_path / f"products{ending}")
        np.testing.assert_array_equal(one, other)
        assert where == there
        assert others.pop("BEFORE") == products[0].name and others.pop("AFTER") == products[1].name
        assert {k: v for k, v in tags.items() if k not in ("BEFORE", "AFTER")} == others
    assert 0.02 < (one == 255).mean() < 0.6  # under the cloud and its shadow
    assert "read" in said["seconds"]


def test_a_zip_is_a_product_and_the_command_takes_both(products, stacks, run, tmp_path):
    path = tmp_path / "after.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(products[1].rglob("*")):
            archive.write(file, file.relative_to(products[1].parent))
    done = run("detect", products[0], path, "-o", "c.tif", "--model", "cva", "--json", "-v")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seconds"]["read"] > 0
    assert "seconds: open" in done.stderr
    detect_files(Request(*stacks, tmp_path / "d.tif"))
    np.testing.assert_array_equal(read(tmp_path / "c.tif")[0], read(tmp_path / "d.tif")[0])
    assert {p.name for p in tmp_path.iterdir()} == {"after.zip", "c.tif", "d.tif"}


def test_a_product_and_a_stack_go_together(products, stacks, tmp_path):
    detect_files(Request(products[0], stacks[1], tmp_path / "c.tif"))
    detect_files(Request(*stacks, tmp_path / "d.tif"))
    np.testing.assert_array_equal(read(tmp_path / "c.tif")[0], read(tmp_path / "d.tif")[0])


def test_products_that_do_not_fit_into_memory_are_refused_before_they_are_read(
    products, tmp_path, monkeypatch
):
    monkeypatch.setattr(inputs, "free_memory", lambda: 1_000_000)
    with pytest.raises(S2cdError, match=r"need 0\.0 GB of memory .* Make stacks"):
        detect_files(Request(*products, tmp_path / "c.tif"))
    assert list(tmp_path.iterdir()) == []


def test_products_are_not_for_a_cluster(products, tmp_path):
    there = Workers(scheduler="tcp://127.0.0.1:9")
    with pytest.raises(S2cdError, match="For --scheduler make stacks"):
        detect_files(Request(*products, tmp_path / "c.tif", workers=there))


def test_a_product_of_another_level_is_refused(products, tmp_path):
    root = tmp_path / "S2A_MSIL2A_20201128.SAFE"
    root.mkdir()
    (root / "MTD_MSIL2A.xml").write_text("<x/>")
    with pytest.raises(S2cdError, match=r"is a Level-2A product .* its name has MSIL1C"):
        detect_files(Request(products[0], root, tmp_path / "c.tif"))


def test_a_band_that_is_damaged_is_named_and_nothing_is_left(products, make_product, tmp_path):
    root = make_product(size=120)
    file = next(root.glob("GRANULE/*/IMG_DATA/*_B08.jp2"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(S2cdError, match=r"B08\.jp2 is cut short"):
        detect_files(Request(root, root, tmp_path / "c.tif"))
    assert {p.name for p in tmp_path.iterdir()} == {root.name}


def test_a_product_that_changes_is_another_input(make_product, tmp_path):
    root = make_product(size=120)
    before = identity(root)
    assert identity(root) == before
    file = next(root.glob("GRANULE/*/IMG_DATA/*_B08.jp2"))
    file.write_bytes(file.read_bytes() + b"\0")
    assert identity(root) != before


def test_a_batch_takes_products(products, stacks, tmp_path):
    lines = ["name,before,after", f"p,{products[0]},{products[1]}", f"s,{stacks[0]},{stacks[1]}"]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    pairs = read_pairs(tmp_path / "pairs.csv")
    like = Request(tmp_path, tmp_path, tmp_path / "change.tif", model="cva")
    out = tmp_path / "out"
    assert run_batch(Batch(pairs, out, like, 1))["summary"]["done"] == 2
    one, other = (read(out / name / "change.tif")[0] for name in "ps")
    np.testing.assert_array_equal(one, other)
    stamp = (out / "p/change.tif").stat().st_mtime_ns
    run_batch(Batch(pairs, out, like, 1))
    assert (out / "p/change.tif").stat().st_mtime_ns == stamp
