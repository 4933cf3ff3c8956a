"""Whatever a raster holds, a command ends well or refuses in one line and leaves nothing.

The law is in `obey`. Cases are drawn by hypothesis, always the same ones; with S2CD_FUZZ=SEED,N
others are drawn, N of each kind.
"""

import logging
import os
import re
import resource
import signal
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from conftest import ORIGIN, UTM, landscape
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from typer.testing import CliRunner

from s2cd.cli.app import app

NAMES = ("B02", "B03", "B04", "B08")
PLACE = Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1])
SECONDS = 20
MEMORY = 3 << 30
SEED, _, MORE = os.environ.get("S2CD_FUZZ", "").partition(",")


def cases(count):
    """As many cases as are asked for: the same every time, unless other ones are wanted."""
    chosen = settings(
        max_examples=int(MORE or count),
        deadline=None,
        derandomize=not SEED,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    return lambda test: chosen(seed(int(SEED))(test) if SEED else test)


# What is written


def write(path, values, names=None, **profile):
    count, height, width = values.shape
    usual = {"driver": "GTiff", "crs": UTM, "transform": PLACE, "dtype": values.dtype}
    extra = {key: profile.pop(key) for key in ("scales", "offsets", "gcps") if key in profile}
    shape = {"count": count, "height": height, "width": width}
    with rasterio.open(path, "w", **(usual | shape | profile)) as file:
        file.write(values)
        if names is not None:
            file.descriptions = tuple(names)
        if "scales" in extra:
            file.scales, file.offsets = extra["scales"], extra["offsets"]
        if "gcps" in extra:
            file.gcps = extra["gcps"], UTM


def dn(shape=(40, 52), count=4, number=0):
    return np.rint(landscape(shape, count, number) * 10000).astype(np.uint16)


def good(path, number=0, count=4):
    names = NAMES if count == 4 else None
    write(path, dn(count=count, number=number), names, nodata=0)


SIZES = st.sampled_from([(40, 52), (40, 52), (40, 52), (1, 1), (1, 300), (300, 1), (7, 3)])
DTYPES = st.sampled_from(
    "uint8 int8 uint16 int16 uint32 int32 uint64 int64 float32 float64 "
    "uint16 int16 float32 float64 complex64 complex_int16 complex128".split()
)
HUGE = [np.nan, np.inf, -np.inf, 3e38, -3.4028234663852886e38, 1e300, -1e300, 1e-40, 0, 9.97e36]
NODATA = st.one_of(
    st.none(),
    st.sampled_from([0, 1, -1, 255, 65535, -9999, 1e20, 1e300, -1e300, 0.5, 2.0**64]),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), -3.4028234663852886e38, 3e38]),
)
LOCAL = 'LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
ENGINEERING = (
    'ENGCRS["hall",EDATUM["floor"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],'
    'LENGTHUNIT["metre",1]]'
)
CRS = st.sampled_from(
    [UTM] * 6
    + [None, "EPSG:4326", "EPSG:4978", "EPSG:3031", "EPSG:3413", "EPSG:3857", "EPSG:27700"]
    + ["EPSG:4979", "EPSG:9707", "EPSG:5773", "EPSG:32743", "EPSG:2193", "EPSG:4807", "EPSG:2263"]
    + ["+proj=ortho +lat_0=80", "+proj=gnom +lat_0=-80", "+proj=geos +h=35785831", LOCAL]
    + ["+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=30 +lon_0=10", "IAU_2015:49900"]
    + ["+proj=tmerc +lat_0=22 +lon_0=72 +k=1 +x_0=5e5 +a=1 +b=1", ENGINEERING]
)
TRANSFORMS = st.one_of(
    st.just(PLACE),
    st.just(PLACE),
    st.just(PLACE),
    st.sampled_from(
        [
            Affine.identity(),
            PLACE * Affine.rotation(30),
            PLACE * Affine.rotation(90),
            PLACE * Affine.shear(20, 0),
            PLACE * Affine.shear(89.999, 0),
            PLACE * Affine.scale(1, -1),
            PLACE * Affine.scale(-1, 1),
            PLACE * Affine.translation(5, -7),
            PLACE * Affine.translation(0.37, 0.61),
            PLACE * Affine.scale(1e-3),
            PLACE * Affine.scale(0.1),
            PLACE * Affine.scale(40),
            PLACE * Affine.scale(1e5),
            PLACE * Affine.scale(1e12),
            PLACE * Affine.scale(1e300),
            PLACE * Affine.scale(1e-12),
            PLACE * Affine.scale(1e-200),
            PLACE * Affine.translation(1e9, 0),
            PLACE * Affine.translation(0, 1e300),
            Affine(10, 0, ORIGIN[0], 0, 0, ORIGIN[1]),
            Affine(0, 0, 0, 0, 0, 0),
            Affine(0, 10, ORIGIN[0], -10, 0, ORIGIN[1]),
            Affine(1e-4, 0, 72.5, 0, -1e-4, 23.0),
            Affine(0.5, 0, -180, 0, -0.5, 90),
            Affine(np.nan, 0, 0, 0, -10, 0),
            Affine(10, 0, np.inf, 0, -10, 0),
        ]
    ),
    st.builds(
        Affine,
        *(st.floats(width=64, allow_nan=True, allow_infinity=True) for _ in range(6)),
    ),
)
BAND_NAMES = st.one_of(
    st.just(list(NAMES)),
    st.just(list(NAMES)),
    st.none(),
    st.lists(
        st.one_of(
            st.sampled_from([*NAMES, "QA", "B8A", "b2", "blue", "B99", "", "B10"]),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
            st.just("x" * 70000),
        ),
        max_size=20,
    ),
)
LAYOUTS = st.sampled_from(
    [
        {},
        {},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"compress": "DEFLATE", "interleave": "band"},
        {"compress": "ZSTD", "tiled": True, "blockxsize": 16, "blockysize": 32},
        {"photometric": "RGB"},
        {"BIGTIFF": "YES"},
        {"SPARSE_OK": "TRUE"},
    ]
)
SCALES = st.sampled_from(
    [None] * 5
    + [(1e-4, 0.0), (1e-4, -0.1), (1e300, 0.0), (0.0, 0.0), (np.nan, 0.0), (np.inf, 1.0)]
    + [(-1.0, 0.0), (1e-300, 0.0), (1.0, 1e300), (1.0, np.nan)]
)


@st.composite
def odd_raster(draw, count=None):
    """A GeoTIFF that GDAL itself writes, with anything in it."""
    names = draw(BAND_NAMES)
    count = count or (len(names) if names else draw(st.integers(1, 20)))
    shape, dtype = draw(SIZES), draw(DTYPES)
    profile = {"nodata": draw(NODATA), "crs": draw(CRS), "transform": draw(TRANSFORMS)}
    profile |= draw(LAYOUTS)
    if (scale := draw(SCALES)) is not None:
        profile |= {"scales": (scale[0],) * count, "offsets": (scale[1],) * count}
    if draw(st.integers(0, 9)) == 0:
        corners = [(0, 0), (0, shape[1]), (shape[0], 0)]
        points = [GroundControlPoint(r, c, *(PLACE * (c, r)), 0.0) for r, c in corners]
        profile |= {"gcps": points, "transform": None}
    content = draw(st.sampled_from(["dn", "dn", "dn", "reflectance", "huge", "zero", "full"]))
    seed = draw(st.integers(0, 99))

    def make(path):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = fill(content, dtype, (count, *shape), seed)
            write(path, values, names[:count] if names else None, **profile)

    return make


def fill(content, dtype, shape, number):
    dtype = np.dtype("complex64" if dtype == "complex_int16" else dtype)
    values = dn(shape[1:], shape[0], number).astype(np.float64)
    if content == "reflectance":
        values = values / 10000
    elif content == "zero":
        values[:] = 0
    elif content == "full":
        top = np.iinfo(dtype).max if dtype.kind in "iu" else np.finfo(dtype).max
        return np.full(shape, top, dtype)
    elif content == "huge":
        random = np.random.default_rng(number)
        spots = random.random(shape) < 0.3
        values[spots] = random.choice(HUGE, int(spots.sum()))
    return values.astype(dtype)


FORMATS = st.sampled_from(["tiled", "striped", "cog", "png", "jpeg", "jp2", "vrt", "envi", "named"])


def whole(path, kind, count):
    """A sound raster of some format under ``path``."""
    base = path.with_name("base.tif")
    source = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    values = dn(count=count)
    names = NAMES[:count]
    if kind in ("png", "jpeg"):
        small = (values[:3] >> 5).clip(0, 255).astype(np.uint8)
        write(base, small[: 3 if count > 1 else 1])
    else:
        write(base, values, names, nodata=0, **(source if kind == "tiled" else {}))
    if kind in ("tiled", "striped", "named"):
        base.rename(path)
        return
    driver = {"jp2": "JP2OpenJPEG"}.get(kind, kind.upper())
    extra = {"REVERSIBLE": "YES", "QUALITY": "100"} if kind == "jp2" else {}
    with rasterio.Env(GDAL_PAM_ENABLED="NO"):
        rasterio.shutil.copy(base, path, driver=driver, **extra)
    if kind != "vrt":
        base.unlink()


@st.composite
def damaged(draw, count=4):
    """A sound raster with bytes changed, mostly in its header, or cut at any byte."""
    kind = draw(FORMATS)
    cut = draw(st.one_of(st.none(), st.none(), st.floats(0, 1)))
    spots = draw(
        st.lists(
            st.tuples(st.one_of(st.integers(0, 700), st.integers(0, 100000)), st.integers(0, 255)),
            max_size=8,
        )
    )
    from_end = draw(st.booleans())

    def make(path):
        whole(path, kind, count)
        data = bytearray(path.read_bytes())
        for at, value in spots:
            place = at % len(data)
            data[-1 - place if from_end else place] = value
        if cut is not None:
            data = data[: int(cut * len(data))]
        path.write_bytes(data)

    return make


def vrt(size, bands, place="199980,10,0,2600040,0,-10", crs=UTM):
    head = f'<VRTDataset rasterXSize="{size[1]}" rasterYSize="{size[0]}"><SRS>{crs}</SRS>'
    return f"{head}<GeoTransform>{place}</GeoTransform>{''.join(bands)}</VRTDataset>"


def vrt_band(index, source, dtype="UInt16", name=None, inner="SourceBand"):
    return (
        f'<VRTRasterBand dataType="{dtype}" band="{index}">'
        f"<Description>{name or NAMES[index - 1]}</Description><SimpleSource>"
        f'<SourceFilename relativeToVRT="1">{source}</SourceFilename>'
        f"<{inner}>{index}</{inner}></SimpleSource></VRTRasterBand>"
    )


def tiff_header(width, height, bands=1, rows=None):
    """A TIFF of a few bytes that claims any size: one strip of zeros, which is not there."""
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 16),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, bands),
        (278, 4, 1, rows or height),
        (279, 4, 1, 64),
    ]
    packed = b"".join(
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + n.to_bytes(4, "little")
        + (value % 2**32).to_bytes(4, "little")
        for tag, kind, n, value in entries
    )
    at = (8).to_bytes(4, "little")
    return b"II*\0" + at + len(entries).to_bytes(2, "little") + packed + bytes(68)


def sparse(path, side, block, count):
    """A GeoTIFF of a few kilobytes without a single pixel in it."""
    shape = {"height": side, "width": side, "count": count, "dtype": "uint16"}
    layout = {"tiled": True, "blockxsize": block, "blockysize": block, "SPARSE_OK": "TRUE"}
    usual = {"driver": "GTiff", "crs": UTM, "transform": PLACE}
    with rasterio.open(path, "w", **usual, **shape, **layout) as file:
        file.descriptions = (NAMES * count)[:count]


def crafted(count=4):
    """Files that are written by hand to mislead."""
    indexes = range(1, count + 1)
    self_loop = vrt((40, 52), [vrt_band(i, "odd.tif") for i in indexes])
    missing = vrt((40, 52), [vrt_band(i, "nowhere.tif") for i in indexes])
    mixed = [
        vrt_band(i, "base.tif", t) for i, t in zip(indexes, ["UInt16", "Float32"] * 2, strict=False)
    ]
    text = {
        "self": self_loop,
        "missing": missing,
        "mixed": vrt((40, 52), mixed),
        "no band": vrt((40, 52), []),
        "wide": vrt((200000, 200000), [vrt_band(i, "base.tif") for i in indexes]),
        "long": vrt((1, 2**31 - 1), [vrt_band(i, "base.tif") for i in indexes]),
        "no crs": vrt((40, 52), [vrt_band(i, "base.tif") for i in indexes], crs=""),
        "bad crs": vrt((40, 52), [vrt_band(i, "base.tif") for i in indexes], crs="PROJCS[garbage"),
        "band 99": vrt((40, 52), [vrt_band(i, "base.tif", inner="X") for i in indexes]),
        "zero": vrt((0, 0), []),
        "negative": vrt((-5, -5), [vrt_band(1, "base.tif")]),
        "complex": vrt((40, 52), [vrt_band(i, "base.tif", "CFloat32") for i in indexes]),
        "nan place": vrt((40, 52), [vrt_band(i, "base.tif") for i in indexes], "nan,1,0,0,0,1"),
        "netcdf": "CDF\x01\x00\x00\x00\x00" + "x" * 40,
        "hdf": "\x89HDF\r\n\x1a\n" + "\0" * 90,
        "ascii": "ncols 3\nnrows 2\nxllcorner 0\nyllcorner 0\ncellsize 10\n1 2 3\n4 5 nan\n",
        "ascii huge": "ncols 200000\nnrows 200000\nxllcorner 0\nyllcorner 0\ncellsize 10\n1 2 3\n",
        "pgm": "P5 200000 200000 255\n",
        "text": "not a raster\nat all\n",
        "json": '{"type": "FeatureCollection", "features": []}',
    }
    binary = {
        "tiff": tiff_header(200000, 200000, rows=200000),
        "tiff rows": tiff_header(200000, 200000, rows=1),
        "tiff 4": tiff_header(52, 40, 4),
        "tiff max": tiff_header(2**31 - 1, 2**31 - 1, rows=1),
        "tiff zero": tiff_header(0, 0),
        "tiff flat": tiff_header(2**31 - 1, 1),
        "zeros": bytes(5000),
    }
    contents = [t.encode("latin-1") for t in text.values()] + list(binary.values())

    def hand(content):
        def make(path):
            good(path.with_name("base.tif"), count=count)
            path.write_bytes(content)

        return make

    sides = [(200000, 16384), (200000, 4096), (60000, 512), (3000, 512), (20000, 16384)]
    empties = [lambda path, s=s, b=b: sparse(path, s, b, count) for s, b in sides]
    return st.sampled_from([hand(content) for content in contents] + empties)


# What is asked of every case


class TooSlowError(BaseException):
    pass


@contextmanager
def guarded():
    """Neither more than `SECONDS` nor more than `MEMORY` of address space on top."""

    def late(*_):
        raise TooSlowError(f"still running after {SECONDS} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def overheard(said):
    """What the process itself writes to descriptor 2, past Python; loggers as in the command."""
    handlers, logging.root.handlers = logging.root.handlers, []
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            logging.root.handlers = handlers
            file.seek(0)
            said.append(file.read().decode(errors="replace"))


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def obey(folder, words, out, like):
    """Run a command: a whole result on the grid of ``like``, or one line and nothing left."""
    before = tree(folder)
    past_python: list[str] = []
    with guarded(), overheard(past_python):
        done = CliRunner().invoke(app, [str(w) for w in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    after = tree(folder)
    folders = {p.name for p in folder.iterdir() if p.is_dir()}
    assert folders <= {"bands", "before", "after"}, folders
    assert past_python == [""], past_python
    assert "Traceback" not in done.output, done.output
    if done.exit_code == 0:
        assert not [line for line in done.stderr.splitlines() if line.startswith("error")]
        assert after.keys() - before.keys() == {out.relative_to(folder)}
        same_grid(out, like)
        return
    assert done.exit_code == 1, (done.exit_code, done.output)
    assert after == before, after.keys() ^ before.keys()
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and lines[-1] == errors[0], done.stderr
    notes = (
        r"(\S+: )?(no metadata, )?assumed: |bands in both dates: |(warning: how|after lies) "
        r"|\S+: clouds are not looked for|model \w+: "
    )
    assert all(re.match(notes, line) or "assumed" in line for line in lines[:-1]), done.stderr
    line = errors[0]
    assert re.search(r"odd\.tif|\bbefore\b.*\bafter\b|dates|the other has|_B0[235]\.tif", line), (
        line
    )
    assert re.search(r"[.?;] [A-Z]|: `", line) and len(line) < 1500, line


def same_grid(out, like):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(out) as made, rasterio.open(like) as source:
            assert made.shape == source.shape
            assert made.crs == source.crs, (made.crs, source.crs)
            one, other = np.array(made.transform[:6]), np.array(source.transform[:6])
            np.testing.assert_allclose(one, other, rtol=1e-12 if source.crs else 1e-6)
            values = made.read()
            if made.count == 1:
                assert set(np.unique(values).tolist()) <= {0, 1, 255}


def rasters(count=4):
    odd = odd_raster(None if count > 1 else count)
    return st.one_of(odd, damaged(count), crafted(count), odd)


def made(make, path):
    """Whether GDAL lets the raster be made at all; a VRT and such get their sources beside them."""
    try:
        make(path)
    except (rasterio.errors.RasterioError, ValueError, OverflowError, TypeError, OSError):
        return False
    return path.exists()


def try_detect(makes, bands):
    """Run detect on two dates in folders of their own; None stands for a sound one."""
    with tempfile.TemporaryDirectory() as name:
        dates = [Path(name) / role / "odd.tif" for role in ("before", "after")]
        for make, path in zip(makes, dates, strict=True):
            path.parent.mkdir()
            if make is None:
                good(path, 1)
            elif not made(make, path):
                return
        out = Path(name) / "c.tif"
        words = ["detect", *dates, "-o", out, *(["--bands", bands] if bands else [])]
        obey(Path(name), words, out, dates[0])


BANDS = st.sampled_from([None, None, None, "B02,B03,B04,B08", "red,nir", "B02"])


@cases(120)
@given(rasters(), BANDS)
def test_detect_takes_or_refuses_any_first_date(make, bands):
    try_detect((make, None), bands)


@cases(120)
@given(rasters(), BANDS)
def test_detect_takes_or_refuses_any_second_date(make, bands):
    try_detect((None, make), bands)


@cases(110)
@given(odd_raster(), BANDS, st.one_of(st.none(), odd_raster()))
def test_detect_takes_or_refuses_any_two_dates(make, bands, other):
    try_detect((make, other or make), bands)


@cases(150)
@given(rasters(1), st.sampled_from(["B02", "B03", "B05"]))
def test_stack_takes_or_refuses_any_band_file(make, band):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "bands"
        folder.mkdir()
        if not made(make, folder / f"x_{band}.tif"):
            return
        for other in {"B02", "B03", "B05"} - {band}:
            write(folder / f"x_{other}.tif", dn(count=1), nodata=0)
        out = Path(name) / "s.tif"
        words = ["stack", folder, "-o", out, "--bands", "B02,B03,B05"]
        obey(Path(name), words, out, folder / "x_B02.tif")
