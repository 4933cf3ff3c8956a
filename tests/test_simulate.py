"""The simulated pair: one function of seed and place, difficult but solvable, and its files."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy.ndimage import binary_dilation, gaussian_filter

from s2cd.errors import S2cdError
from s2cd.scenes.bands import BANDS, DEFAULT_BANDS
from s2cd.scenes.simulate import Nuisance, Simulation, files, write_band_files, write_truth
from s2cd.scenes.simulate.landscape import Landscape, draw_landscape
from s2cd.scenes.simulate.lattice import Frame
from s2cd.scenes.simulate.sensor import MARGIN, TILE, sampled
from s2cd.scenes.simulate.spectra import LABELS

NUMBER = {name: number for number, name in enumerate(BANDS)}
QUIET = Nuisance(haze=0, gain=0, rotation=0, shading=0, noise=0)
ONE_DAY = (date(2020, 11, 28), date(2020, 11, 28))


def whole(simulation: Simulation, date_index: int) -> np.ndarray:
    return simulation.window(date_index, slice(0, simulation.size), slice(0, simulation.size))


def whole_truth(simulation: Simulation) -> np.ndarray:
    return simulation.truth(slice(0, simulation.size), slice(0, simulation.size))


def f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(predicted & truth) / (predicted.sum() + truth.sum())


def otsu(values: np.ndarray) -> float:
    counts, edges = np.histogram(values, 1024)
    centres = (edges[1:] + edges[:-1]) / 2
    below, mass = np.cumsum(counts), np.cumsum(counts * centres)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (mass[-1] * below / below[-1] - mass) ** 2 / (below * (below[-1] - below))
    return centres[np.nanargmax(between[:-1])]


def magnitude_of_change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Length of the smoothed difference of standardised bands: change vector analysis."""
    bands = [NUMBER[name] for name in DEFAULT_BANDS]
    first, second = (
        (scene[bands] - scene[bands].mean((1, 2), keepdims=True))
        / scene[bands].std((1, 2), keepdims=True)
        for scene in (before, after)
    )
    smoothed = gaussian_filter(second - first, (0, 1, 1))
    return np.sqrt((smoothed**2).sum(axis=0))


@pytest.mark.parametrize("date_index", [0, 1])
def test_windows_agree_with_the_whole(date_index: int) -> None:
    simulation = Simulation(size=500, seed=5)
    scene, truth = whole(simulation, date_index), whole_truth(simulation)
    assert scene.shape == (13, 500, 500)
    assert scene.dtype == np.float32
    boxes = [(0, 0, 1, 1), (383, 377, 3, 20), (101, 7, 399, 480), (499, 0, 1, 500)]
    for y, x, height, width in boxes:
        ys, xs = slice(y, y + height), slice(x, x + width)
        assert np.array_equal(simulation.window(date_index, ys, xs), scene[:, ys, xs])
        assert np.array_equal(simulation.truth(ys, xs), truth[ys, xs])


def test_a_small_scene_is_the_corner_of_a_full_tile() -> None:
    small, full = Simulation(size=300, seed=2), Simulation(size=10980, seed=2)
    ys, xs = slice(40, 300), slice(0, 260)
    assert np.array_equal(small.window(1, ys, xs), full.window(1, ys, xs))


def test_the_far_corner_of_a_full_tile_can_be_had_alone() -> None:
    corner = Simulation(size=10980).window(0, slice(10970, 10980), slice(10970, 10980))
    assert corner.shape == (13, 10, 10)
    assert np.isfinite(corner).all()


def test_the_same_seed_gives_the_same_pixels_in_another_process() -> None:
    script = (
        "import hashlib; from s2cd.scenes.simulate import Simulation;"
        "window = Simulation(size=400, seed=9).window(1, slice(300, 400), slice(0, 90));"
        "print(hashlib.sha256(window.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    here = Simulation(size=400, seed=9).window(1, slice(300, 400), slice(0, 90))
    assert there.stdout.decode().strip() == hashlib.sha256(here.tobytes()).hexdigest()


def test_another_seed_gives_another_landscape() -> None:
    scenes = [Simulation(size=384, seed=seed, nuisance=QUIET) for seed in (0, 1, -1, 2**40)]
    red = [scene.window(0, slice(0, 384), slice(0, 384))[NUMBER["B04"]] for scene in scenes]
    for number, one in enumerate(red):
        for other in red[number + 1 :]:
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_frames_that_overlap_draw_the_same_ground(seed: int) -> None:
    def names(drawn: Landscape, labels: np.ndarray) -> np.ndarray:
        materials = np.repeat(np.arange(len(LABELS))[None], 4, axis=0)
        return np.concatenate([materials, drawn.fields], axis=1)[:, labels]

    one = draw_landscape(seed, Frame(700, -60, 700))
    other = draw_landscape(seed, Frame(900, 240, 700))
    for when in ("before", "after"):
        left = names(one, getattr(one, when)[200:, 300:])
        right = names(other, getattr(other, when)[:500, :400])
        assert np.array_equal(left, right)


def test_pixels_of_20_m_and_60_m_are_means_of_whole_10_m_pixels() -> None:
    cells = np.random.default_rng(0).random((2 * (TILE + MARGIN),) * 2, np.float32)
    fine = sampled(cells, 10, (0.4, -0.3))
    for metres in (20, 60):
        step = metres // 10
        means = fine.reshape(TILE // step, step, TILE // step, step).mean(axis=(1, 3))
        np.testing.assert_allclose(sampled(cells, metres, (0.4, -0.3)), means, atol=2e-5)


def test_bands_of_all_pixel_sizes_lie_on_one_grid() -> None:
    scene = whole(Simulation(size=384, seed=1, nuisance=QUIET), 0)
    nir, narrow = scene[NUMBER["B08"]], scene[NUMBER["B8A"]]
    assert np.array_equal(narrow, np.repeat(np.repeat(narrow[::2, ::2], 2, 0), 2, 1))

    def likeness(dy: int, dx: int) -> float:
        moved = np.roll(nir, (dy, dx), (0, 1)).reshape(192, 2, 192, 2).mean(axis=(1, 3))
        return float(np.corrcoef(moved[2:-2, 2:-2].ravel(), narrow[4:-4:2, 4:-4:2].ravel())[0, 1])

    best = likeness(0, 0)
    assert best > 0.998
    assert all(likeness(*by) < best - 0.01 for by in [(1, 0), (-1, 0), (0, 1), (0, -1)])


@pytest.mark.parametrize("shift", [(0.4, -0.3), (-1.5, 0.25)])
def test_the_second_date_is_shifted_as_asked(shift: tuple[float, float]) -> None:
    fixed = Simulation(size=384, seed=4, shift=(0, 0), dates=ONE_DAY, nuisance=QUIET)
    before = whole(fixed, 1)[NUMBER["B08"]].astype(float)
    after = whole(replace(fixed, shift=shift), 1)[NUMBER["B08"]].astype(float)
    taper = np.hanning(384)[:, None] * np.hanning(384)[None, :]
    first, second = (np.fft.fft2((image - image.mean()) * taper) for image in (before, after))
    product = second * np.conj(first)
    rows, columns = np.meshgrid(np.fft.fftfreq(384), np.fft.fftfreq(384), indexing="ij")
    low = np.hypot(rows, columns) < 0.1
    weight = np.sqrt(np.abs(product[low]))
    design = -2 * np.pi * np.stack([rows[low], columns[low]], axis=1)
    found = np.linalg.lstsq(design * weight[:, None], np.angle(product[low]) * weight)[0]
    np.testing.assert_allclose(found, shift, atol=0.05)


def test_without_nuisance_the_dates_differ_where_the_truth_says_and_nowhere_else() -> None:
    simulation = Simulation(size=768, seed=0, shift=(0, 0), dates=ONE_DAY, nuisance=QUIET)
    truth = whole_truth(simulation).astype(bool)
    bands = [NUMBER[name] for name in ("B02", "B03", "B04", "B08")]
    before, after = (whole(simulation, date_index)[bands] for date_index in (0, 1))
    differs = (np.abs(after - before) > 0.01).any(axis=0)
    assert np.mean(differs[truth]) > 0.97
    near = binary_dilation(truth, np.ones((3, 3)), iterations=3)
    assert np.array_equal(before[:, ~near], after[:, ~near])


@pytest.mark.parametrize("seed", [0, 1])
def test_change_is_rare_findable_and_not_given_away(seed: int) -> None:
    simulation = Simulation(size=1024, seed=seed)
    truth = whole_truth(simulation).astype(bool)
    assert 0.01 < truth.mean() < 0.04
    magnitude = magnitude_of_change(whole(simulation, 0), whole(simulation, 1))
    assert 0.5 < f1(magnitude > otsu(magnitude), truth) < 0.8
    best = max(f1(magnitude > threshold, truth) for threshold in np.arange(1, 8, 0.25))
    assert best < 0.9


def test_crops_follow_the_calendar_and_are_not_in_the_truth() -> None:
    dates = (date(2019, 5, 15), date(2019, 9, 25))
    simulation = Simulation(size=384, seed=1, shift=(0, 0), dates=dates, nuisance=QUIET)
    index = []
    for date_index in (0, 1):
        scene = whole(simulation, date_index)
        red, nir = scene[NUMBER["B04"]], scene[NUMBER["B08"]]
        index.append((nir - red) / (nir + red))
    greened = index[1] - index[0] > 0.3
    assert greened.mean() > 0.4
    truth = whole_truth(simulation)
    assert np.array_equal(truth, whole_truth(replace(simulation, dates=ONE_DAY)))
    assert truth[greened].mean() < 0.05


def test_haze_brightens_blue_more_than_swir() -> None:
    clear = Simulation(size=384, seed=3, nuisance=QUIET)
    hazy = replace(clear, nuisance=replace(QUIET, haze=0.1))
    added = (whole(hazy, 0) - whole(clear, 0)).mean(axis=(1, 2))
    assert added[NUMBER["B02"]] > 0.015
    assert added[NUMBER["B02"]] > 4 * abs(added[NUMBER["B12"]])


def test_noise_is_what_the_mission_requires() -> None:
    quiet = Simulation(size=384, seed=3, nuisance=QUIET)
    noisy = replace(quiet, nuisance=replace(QUIET, noise=1))
    level = whole(quiet, 0)[NUMBER["B03"]]
    noise = whole(noisy, 0)[NUMBER["B03"]] - level
    assert np.std(noise / np.sqrt(0.12 * level)) == pytest.approx(1 / 168, rel=0.02)
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.02


def test_reflectance_is_plausible() -> None:
    scene = whole(Simulation(size=768, seed=1), 0)
    assert scene.min() > -0.01
    assert scene.max() < 1
    assert np.percentile(scene[NUMBER["B10"]], 99) < 0.02
    red, nir, swir = (scene[NUMBER[name]] for name in ("B04", "B08", "B11"))
    index = (nir - red) / (nir + red)
    assert 0.1 < (index > 0.5).mean() < 0.8
    water = (nir < 0.08) & (index < 0)
    assert 0.005 < water.mean() < 0.1
    assert np.median(swir[water]) < 0.05


@pytest.mark.parametrize("offset", [0, -1000])
def test_band_files_hold_the_scene_at_each_pixel_size(tmp_path: Path, offset: int) -> None:
    simulation = Simulation(size=401, seed=6)
    paths = write_band_files(simulation, 0, tmp_path, offset=offset)
    scene = whole(simulation, 0)
    assert list(paths) == list(BANDS)
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())
    for name, path in paths.items():
        step = BANDS[name].resolution // 10
        assert path.name == f"T43QBF_20151120T054122_{name}.tif"
        with rasterio.open(path) as file:
            assert (file.dtypes, file.count, file.crs) == (("uint16",), 1, "EPSG:32643")
            assert file.shape == (-(-401 // step),) * 2
            assert file.transform.to_gdal() == (199980, 10 * step, 0, 2600040, 0, -10 * step)
            reflectance = (file.read(1).astype(float) + offset) / 10000
        # DN 0 is no data, so that a reflectance that rounds to no more than 0 is held as DN 1
        expected = np.maximum(scene[NUMBER[name]][::step, ::step], (1 + offset) / 10000)
        np.testing.assert_allclose(reflectance, expected, atol=0.51e-4)


def test_jpeg_2000_files_hold_the_same_numbers(tmp_path: Path) -> None:
    simulation = Simulation(size=256, seed=6, nodata_corner=True)
    plain = write_band_files(simulation, 1, tmp_path, offset=-1000)
    coded = write_band_files(simulation, 1, tmp_path, "JP2OpenJPEG", offset=-1000)
    assert sorted(tmp_path.iterdir()) == sorted([*plain.values(), *coded.values()])
    for name in BANDS:
        with rasterio.open(plain[name]) as one, rasterio.open(coded[name]) as other:
            assert other.driver == "JP2OpenJPEG"
            assert (one.crs, one.transform) == (other.crs, other.transform)
            assert np.array_equal(one.read(1), other.read(1))


def test_the_corner_without_data_is_nan_and_zero_in_files(tmp_path: Path) -> None:
    simulation = Simulation(size=300, seed=6, nodata_corner=True)
    shares = []
    for date_index in (0, 1):
        scene = whole(simulation, date_index)
        seen = np.isfinite(scene[NUMBER["B02"]])
        shares.append(1 - seen.mean())
        assert not seen[0, 0]
        assert not np.isfinite(scene[NUMBER["B11"]][~seen]).any()
        for name, path in write_band_files(simulation, date_index, tmp_path).items():
            step = BANDS[name].resolution // 10
            with rasterio.open(path) as file:
                missing = np.isnan(scene[NUMBER[name]][::step, ::step])
                assert np.array_equal(file.read(1) == 0, missing)
                assert np.array_equal(file.read_masks(1) == 0, missing)
    assert shares[0] > 0.005
    assert shares[1] > 1.3 * shares[0]


def test_numbers_stay_clear_of_no_data() -> None:
    reflectance = np.array([np.nan, -0.2, 0, 0.00004, 0.5, 9], np.float32)
    assert files.numbers_of(reflectance, 0).tolist() == [0, 1, 1, 1, 5000, 65535]
    assert files.numbers_of(reflectance, -1000).tolist() == [0, 1, 1000, 1000, 6000, 65535]


def test_the_truth_file_is_the_truth(tmp_path: Path) -> None:
    simulation = Simulation(size=450, seed=3)
    write_truth(simulation, tmp_path / "truth.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["truth.tif"]
    with rasterio.open(tmp_path / "truth.tif") as file:
        assert (file.dtypes, file.shape, file.crs) == (("uint8",), (450, 450), "EPSG:32643")
        assert file.transform.to_gdal() == (199980, 10, 0, 2600040, 0, -10)
        assert file.profile["tiled"]
        assert file.compression is not None
        truth = file.read(1)
    assert truth.any()
    assert np.array_equal(truth, whole_truth(simulation))


@pytest.mark.parametrize(("driver", "broken"), [("GTiff", "observe"), ("JP2OpenJPEG", "_encode")])
def test_a_writing_that_is_stopped_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: files.Driver, broken: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, broken, stop)
    with pytest.raises(KeyboardInterrupt):
        write_band_files(Simulation(size=64), 0, tmp_path, driver)
    monkeypatch.setattr(files, "changes", stop)
    with pytest.raises(KeyboardInterrupt):
        write_truth(Simulation(size=64), tmp_path / "truth.tif")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(S2cdError, match=r"no folder .*nowhere"):
        write_band_files(Simulation(size=64), 0, tmp_path / "nowhere")
    with pytest.raises(S2cdError, match=r"no folder .*nowhere"):
        write_truth(Simulation(size=64), tmp_path / "nowhere" / "truth.tif")


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(S2cdError, match="-3 pixels"):
        Simulation(size=-3)
    with pytest.raises(S2cdError, match="5"):
        Simulation(shift=(0, 5))
    for span in (slice(90, 101), slice(5, 5), slice(0, 10, 2)):
        with pytest.raises(S2cdError, match="no window"):
            Simulation(size=100).window(0, span, slice(0, 10))
