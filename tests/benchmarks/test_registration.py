"""Registration of every real pair, by the common ruler and by a second, different estimator.

The ruler: B04, log1p, 8 px cut, 128 px blocks, scikit-image's phase correlation with 1/100 px,
the median over blocks of the shift's length. It rewards what it measures itself, phase; so the
same pairs are judged by gradients too (least squares of the optical flow equation, B. D. Lucas, T.
Kanade, IJCAI 1981, Huber weights), which know nothing of phase.
"""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation

from s2cd.scenes.align import aligned, shift_between
from s2cd.scenes.pair import make_pair
from s2cd.scenes.safe import open_folder

CUT, BLOCK = 8, 128


def contrasts(pair):
    """Both dates on the grid, as the ruler takes them."""
    window = pair.window(*(slice(0, n) for n in pair.shape))
    dates = (window.before[0], window.after[0])
    return [np.log1p(np.nan_to_num(d.clip(0)) * 1e4)[CUT:-CUT, CUT:-CUT] for d in dates]


def blocks(shape):
    for y in range(0, shape[0] - BLOCK + 1, BLOCK):
        for x in range(0, shape[1] - BLOCK + 1, BLOCK):
            yield slice(y, y + BLOCK), slice(x, x + BLOCK)


def ruler(one, other):
    """Median length of the blocks' shifts, in pixels."""
    found = [
        phase_cross_correlation(one[b], other[b], upsample_factor=100)[0] for b in blocks(one.shape)
    ]
    return float(np.median(np.hypot(*np.array(found).T)))


def flow(one, other):
    """Median over blocks of the translation (rows, columns) that gradients see, in pixels."""
    one, other = (gaussian_filter(d, 1.0) for d in (one, other))
    slopes = np.gradient((one + other) / 2)
    found = []
    for block in blocks(one.shape):
        design = np.stack([s[block].ravel() for s in slopes], axis=1)
        target = (other - one)[block].ravel()
        design, target = design - design.mean(axis=0), target - target.mean()
        weights = np.ones(len(target))
        for _ in range(10):
            root = np.sqrt(weights)
            step = np.linalg.lstsq(design * root[:, None], target * root, rcond=None)[0]
            misses = np.abs(target - design @ step)
            limit = 1.345 * 1.4826 * np.median(misses) + 1e-12
            weights = np.minimum(1, limit / np.maximum(misses, 1e-12))
        found.append(step)
    return np.median(found, axis=0)


def test_every_real_pair_is_registered_by_both_estimators(oscd, figure):
    rows = []
    for folder in sorted(p for p in (oscd / "Images").iterdir() if p.is_dir()):
        pair = make_pair(*(open_folder(folder / f, ["B04"]) for f in ("imgs_1", "imgs_2")))
        shift = shift_between(pair)
        assert shift is not None and shift.is_sure, folder.name
        before, after = contrasts(pair), contrasts(aligned(pair, shift))
        again = shift_between(aligned(pair, shift))
        rows.append(
            (ruler(*before), ruler(*after), np.hypot(*flow(*before)), np.hypot(*flow(*after)))
        )
        print(
            f"{folder.name:<12} moved {shift.length:.2f} px; ruler {rows[-1][0]:.2f} to "
            f"{rows[-1][1]:.3f}; gradients {rows[-1][2]:.2f} to {rows[-1][3]:.3f}; again "
            f"{again.length:.3f}"
        )
        assert again.length <= 0.02, folder.name
    first, left, seen, rest = np.array(rows).T
    print(
        f"mean: ruler {first.mean():.2f} to {left.mean():.3f} (worst {left.max():.3f}); gradients "
        f"{seen.mean():.2f} to {rest.mean():.3f} (worst {rest.max():.3f})"
    )
    what = "registration of OSCD's pairs: pixels left by the ruler, mean and worst"
    figure(what, f"{left.mean():.3f}, {left.max():.3f}", "0.05, 0.10")
    what = "registration of OSCD's pairs: the same by gradients, which `align` does not use"
    figure(what, f"{rest.mean():.3f}, {rest.max():.3f}", "0.15, 0.35")
    assert left.max() <= 0.10 and left.mean() <= 0.05
    assert rest.mean() <= 0.15 and rest.max() <= 0.35


def test_pairs_that_the_authors_registered_get_no_worse(oscd):
    """8-bit pictures of both dates on one grid, where they come with the data."""
    rasterio = pytest.importorskip("rasterio")
    from s2cd.scenes.stack import open_stack

    count = 0
    for folder in sorted((oscd / "Images").glob("*/pair")):
        paths = [folder / "img1.png", folder / "img2.png"]
        if not all(p.is_file() for p in paths):
            continue
        with rasterio.open(paths[0]) as one, rasterio.open(paths[1]) as other:
            if one.shape != other.shape:
                continue
        pair = make_pair(*(open_stack(p) for p in paths))
        shift = shift_between(pair)
        before = ruler(*contrasts(make_pair(pair.before[:1], pair.after[:1])))
        after = ruler(*contrasts(aligned(make_pair(pair.before[:1], pair.after[:1]), shift)))
        print(f"{folder.parent.name:<12} {before:.3f} to {after:.3f}")
        assert after <= before + 0.02
        count += 1
    assert count
