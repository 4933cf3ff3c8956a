"""Clouds are told from bright roofs by what moves between bands; shadows lie where they must."""

import logging
import re
from datetime import datetime

import numpy as np
import pytest
import rasterio
from affine import Affine
from conftest import ORIGIN, SHARED, UTM
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy.ndimage import binary_dilation, binary_erosion

from s2cd.detection.detect import Request, detect_files
from s2cd.detection.prepare import Preparation
from s2cd.errors import S2cdError
from s2cd.learning.evaluate import evaluate_map
from s2cd.scenes.bands import BANDS
from s2cd.scenes.clouds import NEEDED, SunAngles, cloud_flags, sun_at, watch_folder, with_clouds
from s2cd.scenes.clouds import probability as probability_module
from s2cd.scenes.clouds.lattice import lattice_of
from s2cd.scenes.clouds.parallax import SPEED_OF_HEIGHT
from s2cd.scenes.safe import open_folder
from s2cd.scenes.simulate import Simulation, write_band_files
from s2cd.scenes.stack import open_qa, open_stack, stack_array, write_stack

CLOUD, CIRRUS, SHADOW = 2, 4, 8
SUN = SunAngles(zenith=45.0, azimuth=150.0)
# Seconds after B02 at which a band sees a place (Sentinel-2 MSI technical guide), and a cloud.
SEEN = {"B02": 0, "B08": 0.264, "B10": 0.851, "B04": 1.005, "B05": 1.269, "B11": 1.468}
SEEN |= {"B8A": 2.055, "B12": 2.085, "B01": 2.314, "B09": 2.586}
# The brightest cloud of OSCD paris 2017-11-07, as it is over 120 m.
WHITE = {"B01": 0.349, "B02": 0.355, "B04": 0.387, "B05": 0.419, "B08": 0.467, "B8A": 0.507}
WHITE |= {"B09": 0.233, "B10": 0.006, "B11": 0.496, "B12": 0.401}
SIZE = 480

ALONE = Preparation(registration="none")


def blobs(y, x, middle, radius, seed=3):
    """A cloud's opacity (0..1) at metres from the corner: a heap of round ones."""
    random = np.random.default_rng(seed)
    opacity = np.zeros(np.broadcast(y, x).shape)
    for _ in range(12):
        at = np.array(middle) + random.normal(size=2) * radius / 2
        part = radius * random.uniform(0.25, 0.6)
        away = np.hypot(y - at[0], x - at[1]) / part
        opacity = np.maximum(opacity, 0.95 * np.clip(1.6 - 1.2 * away, 0, 1))
    return opacity


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """The simulated scene's bands (y, x) in reflectance, each on its own grid."""
    folder = tmp_path_factory.mktemp("ground")
    bands = {}
    for name, path in write_band_files(Simulation(size=SIZE, seed=4), 0, folder).items():
        with rasterio.open(path) as source:
            bands[name] = source.read(1).astype(np.float32) * 1e-4
    return bands


def stacked(bands):
    """Each band as an array on a grid of its own pixel size."""
    result = {}
    for name, values in bands.items():
        size = BANDS[name].resolution
        box = GeoBox(values.shape, Affine(size, 0, ORIGIN[0], 0, -size, ORIGIN[1]), UTM)
        result[name] = stack_array(values[None], box, [name])[0]
    return result


def overcast(ground, middle, radius, height, shape=blobs, moves=True):
    """The scene under a cloud, which each band sees elsewhere, and with its shadow."""
    reach = height * np.tan(np.radians(SUN.zenith))
    away = -np.cos(np.radians(SUN.azimuth)) * reach, np.sin(np.radians(SUN.azimuth)) * reach
    result = {}
    for name in NEEDED:
        size = BANDS[name].resolution
        y, x = (size * (np.arange(n) + 0.5) for n in ground[name].shape)
        late = SPEED_OF_HEIGHT * height * SEEN[name] if moves else 0.0
        veil = shape(y[:, None] + late, x[None], middle, radius)
        shade = shape(y[:, None] + away[0], x[None] + away[1], middle, radius) if moves else 0.0
        lit = ground[name] * (1 - 0.6 * shade)
        result[name] = (lit * (1 - veil) + veil * WHITE[name]).astype(np.float32)
    return stacked(result)


def opacity(middle, radius):
    at = 10 * (np.arange(SIZE) + 0.5)
    return blobs(at[:, None], at[None], middle, radius)


def share(flags, bit, where=None):
    values = (flags.values & bit) != 0
    return float(values.mean() if where is None else values[where].mean())


@pytest.mark.parametrize("height", [900, 2500, 4500])
def test_a_cloud_is_found_at_any_height_and_so_is_its_shadow(ground, height):
    middle, radius = (3400.0, 2200.0), 550.0
    flags = cloud_flags(overcast(ground, middle, radius, height), SUN)
    thick = opacity(middle, radius) > 0.5
    far = ~binary_dilation(opacity(middle, radius) > 0.05, np.ones((3, 3)), iterations=36)
    assert flags.shape == (SIZE, SIZE) and flags.dtype == np.uint16
    assert share(flags, CLOUD, thick) > 0.97
    assert share(flags, CLOUD, far) < 0.01
    reach = height * np.tan(np.radians(SUN.zenith)) / 10
    down = round(np.cos(np.radians(SUN.azimuth)) * reach)
    right = round(-np.sin(np.radians(SUN.azimuth)) * reach)
    assert down < 0 and right < 0, "a sun in the south-east casts shadows to the north-west"
    rows, columns = np.nonzero(thick)
    rows, columns = rows + down, columns + right
    inside = (rows >= 0) & (columns >= 0)
    shaded = (flags.values & (SHADOW | CLOUD)) != 0
    if inside.mean() > 0.5:
        assert shaded[rows[inside], columns[inside]].mean() > 0.7


def test_a_bright_site_as_white_as_a_cloud_is_none(ground):
    def roofs(y, x, middle, radius):
        within = (np.abs(y - middle[0]) < radius) & (np.abs(x - middle[1]) < radius)
        return np.where(within & (np.floor(y / 80) % 2 == 0), 0.95, 0.0)

    middle, radius = (2400.0, 2400.0), 500.0
    site = overcast(ground, middle, radius, 0, roofs, moves=False)
    blob = overcast(ground, middle, radius, 0, moves=False)
    for bands in (site, blob):
        coarse = {n: np.full((1, 1), bands[n].values.max()) for n in NEEDED}
        assert probability_module.cloud_probability(coarse, np.ones((1, 1), bool)).max() > 0.4, (
            "s2cloudless is fooled"
        )
        assert not cloud_flags(bands, SUN).any()


def test_a_clear_scene_has_no_flag(ground):
    assert not cloud_flags(stacked(ground), SUN).any()


def test_an_even_deck_without_any_texture_is_cloud(ground):
    rng = np.random.default_rng(0)
    deck = {n: WHITE[n] + rng.normal(scale=3e-3, size=ground[n].shape) for n in NEEDED}
    assert share(cloud_flags(stacked({n: v.astype(np.float32) for n, v in deck.items()})), 2) > 0.95


def test_cirrus_is_flagged_from_b10_alone(ground):
    bands = {name: values.copy() for name, values in ground.items()}
    bands["B10"][20:50, 20:60] = 0.02
    flags = cloud_flags(stacked(bands), SUN)
    assert share(flags, CLOUD) == 0
    seen = (flags.values & CIRRUS) != 0
    assert seen[132:288, 132:348].all() and not seen[:96].any()


def test_pixels_without_data_get_no_flag_in_the_qa_band(ground):
    bands = overcast(ground, (3400.0, 2200.0), 550.0, 900)
    for name, band in bands.items():
        band.values[: band.shape[0] // 2] = np.nan
        assert np.isnan(band.values).any(), name
    observed = np.isfinite(bands["B02"].values).astype(np.uint16)
    box = bands["B02"].odc.geobox
    qa = with_clouds(stack_array(observed[None], box, ["QA"])[0], bands, SUN)
    assert not qa.values[: SIZE // 2].any()
    assert share(qa, CLOUD, opacity((3400.0, 2200.0), 550.0) > 0.5) > 0.97
    assert (qa.values[SIZE // 2 :] & 1).all() and qa.dtype == np.uint16
    nothing = {n: b.where(False) for n, b in bands.items()}
    assert not cloud_flags(nothing, SUN).any()


def test_the_flags_are_lazy_and_the_same_in_any_window(ground):
    flags = cloud_flags(overcast(ground, (3400.0, 2200.0), 550.0, 900), SUN)
    assert flags.chunks is not None
    assert (flags[101:333, 57:208].compute() == flags.compute()[101:333, 57:208]).all()
    assert float(flags.attrs["CLOUD_FRACTION"]) == pytest.approx(share(flags, CLOUD), abs=1e-4)


def test_a_missing_band_is_named(ground):
    bands = stacked({n: v for n, v in ground.items() if n not in ("B09", "B10")})
    with pytest.raises(S2cdError, match=r"without B09, B10.*--no-clouds"):
        cloud_flags(bands, SUN)


def test_without_s2cloudless_one_line_says_so(ground, monkeypatch):
    probability_module._booster.cache_clear()
    monkeypatch.setattr(probability_module.importlib.util, "find_spec", lambda name: None)
    try:
        with pytest.raises(S2cdError, match="pip install s2cloudless"):
            cloud_flags(overcast(ground, (3400.0, 2200.0), 550.0, 900), SUN)
    finally:
        probability_module._booster.cache_clear()


def test_dark_cells_are_not_asked_about(ground, monkeypatch):
    """The pre-test saves time: water and dark woods are no clouds; elsewhere the model decides."""
    asked = []

    class Model:
        def predict(self, spectra, num_threads):
            asked.append(len(spectra))
            return np.full(len(spectra), 0.7)

    monkeypatch.setattr(probability_module, "_booster", Model)
    coarse = {n: np.full((10, 10), 0.15, np.float32) for n in NEEDED}
    coarse["B11"][:4], coarse["B02"][4] = 0.01, 0.07
    coarse["B10"][5] = np.nan
    possible = probability_module.may_be_cloud(coarse)
    probability = probability_module.cloud_probability(coarse, possible)
    assert (
        asked == [40] and not probability[:6].any() and (probability[6:] == np.float32(0.7)).all()
    )


def test_the_sun_stands_where_the_products_metadata_says():
    if not SHARED.is_dir():
        pytest.skip("../shared/data is absent")
    seen = 0
    for path in SHARED.glob("l1c-metadata/*.SAFE/GRANULE/*/MTD_TL.xml"):
        text = path.read_text()
        moment = datetime.fromisoformat(re.search(r"<SENSING_TIME[^>]*>([^<]+)<", text)[1])
        west, north = (float(re.search(rf"<UL{a}>([-\d.]+)<", text)[1]) for a in "XY")
        mean = text[text.index("<Mean_Sun_Angle>") :]
        zenith, azimuth = (
            float(re.search(rf"<{a}_ANGLE[^>]*>([\d.]+)<", mean)[1]) for a in ("ZENITH", "AZIMUTH")
        )
        crs = re.search(r"EPSG:\d+", text)[0]
        box = GeoBox((1, 1), Affine(109800, 0, west, 0, -109800, north), crs)
        place = lattice_of(box)
        sun = sun_at(moment, place.latitude, place.longitude)
        assert abs(sun.zenith - zenith) < 0.15 and abs(sun.azimuth - azimuth) < 0.4
        seen += 1
    assert seen == 2


@pytest.mark.parametrize("date", range(5))
def test_slovenia_two_cloudy_dates_are_found_and_three_clear_ones_are_clear(shared, date):
    scenes = np.load(shared / "slovenia-l1c" / "REFERENCE_SCENES.npy", mmap_mode="r")
    box = GeoBox(scenes.shape[1:3], Affine(10, 0, 465181, 0, -10, 5080255), "EPSG:32633")
    values = np.moveaxis(scenes[date], -1, 0).astype(np.float32)
    stack = stack_array(values, box, list(BANDS))
    masked = share(cloud_flags({name: stack.sel(band=name) for name in NEEDED}), CLOUD | SHADOW)
    assert masked > 0.95 if date < 2 else masked == 0


@pytest.fixture
def cloudy_folder(ground, make_raster, tmp_path):
    """Band files of the scene under a cloud."""
    for name, band in overcast(ground, (3400.0, 2200.0), 550.0, 900).items():
        numbers = np.rint(band.values * 1e4).astype(np.uint16)
        box = band.odc.geobox
        make_raster(f"bands/T43QBF_20201128T054159_{name}.tif", numbers, transform=box.affine)
    for name in ("B03", "B06", "B07"):
        numbers = np.rint(ground[name] * 1e4).astype(np.uint16)
        size = BANDS[name].resolution
        place = Affine(size, 0, ORIGIN[0], 0, -size, ORIGIN[1])
        make_raster(f"bands/T43QBF_20201128T054159_{name}.tif", numbers, transform=place)
    return tmp_path / "bands"


def test_stack_flags_clouds_and_the_change_map_is_255_there(cloudy_folder, tmp_path, run):
    done = run("stack", cloudy_folder, "-o", "after.tif")
    assert done.returncode == 0 and "clouds: cloud" in done.stderr, done.stderr
    before, after, change = (tmp_path / f"{name}.tif" for name in ("before", "after", "change"))
    write_stack(open_folder(cloudy_folder), before)
    masked = (open_qa(after).values & (CLOUD | SHADOW)) != 0
    assert 0.02 < masked.mean() < 0.5 and open_stack(after).isnull().any()
    with rasterio.open(after) as file:
        assert float(file.tags()["CLOUD_FRACTION"]) == pytest.approx(
            ((file.read(11) & CLOUD) != 0).mean(), abs=1e-4
        )
    summary = detect_files(
        Request(before, after, change, model="cva", preparation=Preparation("none"))
    )
    with rasterio.open(change) as file:
        assert ((file.read(1) == 255) == masked).all()
    assert summary["observed_fraction"] == pytest.approx(1 - masked.mean())
    done = run("detect", before, after, "-o", "d.tif", "--model", "cva", "--no-align")
    assert " ha)" in done.stderr and f"{1 - masked.mean():.1%} observed" in done.stderr


def test_evaluate_says_what_share_was_observed(cloudy_folder, tmp_path, make_raster):
    before, after, change = (tmp_path / f"{name}.tif" for name in ("before", "after", "change"))
    stack = open_folder(cloudy_folder)
    write_stack(stack, before)
    watch = watch_folder(cloudy_folder, stack, None)
    write_stack(watch.stack, after, later=watch.flags)
    detect_files(Request(before, after, change, model="cva", preparation=ALONE))
    truth = np.zeros((SIZE, SIZE), np.uint8)
    truth[200:] = 1
    scores = evaluate_map(change, make_raster("label.tif", truth))
    masked = (open_qa(after).values & (CLOUD | SHADOW)) != 0
    assert scores["evaluated_fraction"] == pytest.approx(1 - masked.mean())
    assert scores["missed_change_fraction"] == pytest.approx(masked[200:].mean())


def test_a_folder_without_the_bands_for_clouds_says_so(cloudy_folder, caplog):
    next(cloudy_folder.glob("*_B10.tif")).unlink()
    stack = open_folder(cloudy_folder)
    with caplog.at_level(logging.INFO, "s2cd"):
        assert watch_folder(cloudy_folder, stack, None) is None
    assert "clouds are not looked for, since B10 is missing" in caplog.text
    assert watch_folder(cloudy_folder, stack, wanted=False) is None
    with pytest.raises(S2cdError, match="without B10"):
        watch_folder(cloudy_folder, stack, wanted=True)


def test_the_guess_of_the_sun_needs_no_metadata(ground, caplog):
    """Without metadata the likeliest position of the year is taken: shadows still lie north."""
    with caplog.at_level(logging.INFO, "s2cd"):
        flags = cloud_flags(overcast(ground, (3400.0, 2200.0), 550.0, 1500))
    shaded = np.nonzero((flags.values & SHADOW) != 0)[0]
    assert shaded.size and shaded.mean() < 340
    assert "shadow" in caplog.text


def test_clouds_of_a_mosaic_across_zones_lie_where_each_product_has_them(
    make_product, tmp_path, run
):
    """Overcast in zone 44, clear in zone 43: 78 degrees east parts them."""
    over = Transformer.from_crs("EPSG:32643", "EPSG:32644", always_xy=True)
    x, y = over.transform(808000.0, 2600040.0)
    corner = (round(x / 10) * 10, round(y / 10) * 10)
    clear = {"B01": 0.12, "B02": 0.09, "B03": 0.08, "B04": 0.06, "B05": 0.1, "B06": 0.2}
    clear |= {"B07": 0.25, "B08": 0.26, "B8A": 0.28, "B09": 0.1, "B10": 0.001, "B11": 0.15}
    overcast = WHITE | {"B03": 0.37, "B06": 0.45, "B07": 0.48}

    def stored(spectrum):
        return {name: round(value * 1e4) + 1000 for name, value in spectrum.items()}

    ground = make_product(stored(clear), size=240, tile="43QHF", corner=(806000, 2600640))
    cloud = make_product(stored(overcast), tile="44QKF", crs="EPSG:32644", corner=corner)
    done = run("stack", cloud, ground, "-o", "s.tif", "--clouds")
    assert done.returncode == 0, done.stderr
    flags = open_qa(tmp_path / "s.tif").values
    blue = open_stack(tmp_path / "s.tif", ["B02"], mask=()).values[0]
    over_there = np.isclose(blue, WHITE["B02"], atol=0.01)
    assert over_there.sum() == pytest.approx(120 * 120, rel=0.05)
    # its edge does not move between the bands as a cloud's does, so only what is within counts
    within = binary_erosion(over_there, iterations=24)
    assert within.sum() > 4000 and (flags[within] & CLOUD != 0).mean() > 0.95
    far = (flags != 0) & ~binary_dilation(over_there, iterations=60)
    assert far.sum() > 5000 and (flags[far] & CLOUD != 0).mean() < 0.05
