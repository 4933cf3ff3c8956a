"""How much a spectrum looks like a cloud: s2cloudless, on cells that may be one at all."""

import importlib.util
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2cd.errors import S2cdError
from s2cd.scenes.bands import CLOUD_BANDS
from s2cd.scenes.clouds.lattice import Array

MODEL_BANDS = CLOUD_BANDS
"""What the model of s2cloudless takes, in its order, as reflectance."""
DARKEST_BLUE, DARKEST_SWIR = 0.09, 0.03
"""A cloud that hides the ground is brighter than this in B02 (clear air alone gives 0.07 to 0.09)
and in B11, where water is black (0.00 to 0.02); what is darker is not asked about."""
_MODEL = "models/pixel_s2_cloud_detector_lightGBM_v0.1.txt"


def may_be_cloud(coarse: Mapping[str, Array]) -> NDArray[np.bool_]:
    """Cells (y, x) that have data in all bands and are bright enough for a cloud."""
    seen = np.isfinite(np.stack([coarse[name] for name in MODEL_BANDS])).all(axis=0)
    with np.errstate(invalid="ignore"):
        bright = (coarse["B02"] > DARKEST_BLUE) & (coarse["B11"] > DARKEST_SWIR)
    return np.asarray(seen & bright)


def cloud_probability(coarse: Mapping[str, Array], asked: NDArray[np.bool_]) -> Array:
    """Probability of cloud (y, x) after s2cloudless; 0 in cells that it is not asked about.

    Raises:
        S2cdError: where s2cloudless or lightgbm is not installed.
    """
    result = np.zeros(asked.shape, np.float32)
    if asked.any():
        spectra = np.stack([coarse[name][asked] for name in MODEL_BANDS], axis=1)
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        result[asked] = _booster().predict(spectra, num_threads=threads)
    return result


def check_model() -> None:
    """See early that the model can be loaded.

    Raises:
        S2cdError: where s2cloudless or lightgbm is not installed.
    """
    _booster()


@lru_cache(maxsize=1)
def _booster() -> Any:
    """The model that s2cloudless ships; the package itself is not imported (it loads sentinelhub).

    Made by pre-trained gradient boosting (Ke et al. 2017); see Skakun et al. 2022,
    10.1016/j.rse.2022.112990, for how it compares.
    """
    found = importlib.util.find_spec("s2cloudless")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    model = next((Path(f) / _MODEL for f in folders if (Path(f) / _MODEL).is_file()), None)
    try:
        from lightgbm import Booster
    except (ImportError, OSError) as e:
        raise S2cdError(f"{_MISSING}: lightgbm cannot be loaded ({e})") from e
    if model is None:
        raise S2cdError(f"{_MISSING}: the model of s2cloudless is not installed")
    return Booster(model_file=str(model))


_MISSING = "Clouds cannot be looked for (pip install s2cloudless, or say --no-clouds)"
