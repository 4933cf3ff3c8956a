"""Clouds of a folder of band files, which says of the sun at most when the date was sensed."""

import logging
from datetime import datetime
from pathlib import Path

import xarray as xr

from s2cd.errors import S2cdError
from s2cd.scenes.clouds.flags import NEEDED, missing_bands
from s2cd.scenes.clouds.lattice import lattice_of
from s2cd.scenes.clouds.probability import check_model
from s2cd.scenes.clouds.sun import SunAngles, sun_at
from s2cd.scenes.clouds.watch import CloudWatch
from s2cd.scenes.safe import band_files, open_folder

logger = logging.getLogger(__name__)


def watch_folder(
    folder: Path, stack: xr.DataArray, offset: float | None, wanted: bool | None
) -> CloudWatch | None:
    """A watch for the clouds of a folder's stack; None where they are not looked for.

    Args:
        folder: Holds the band files.
        stack: What `open_folder` made of it: its grid, and its time of sensing if known.
        offset: RADIO_ADD_OFFSET, in DN; 0 where None.
        wanted: True: refuse where it cannot be done. None: say so, and go on without.

    Raises:
        S2cdError: where clouds are wanted and a band or s2cloudless is missing.
    """
    if wanted is False:
        return None
    held = [str(name) for name in stack.band.values]
    missing = missing_bands([*held, *band_files(folder)])
    try:
        if not missing:
            check_model()
        more = [name for name in NEEDED if name not in held and name not in missing]
        others = {name: open_folder(folder, (name,), offset or 0.0)[0] for name in more}
        return CloudWatch(stack, others, _sun_over(stack))
    except S2cdError as e:
        if wanted:
            raise
        why = f"{' '.join(missing)} is missing" if missing else str(e)
        logger.log(
            logging.INFO if missing else logging.WARNING,
            "%s: clouds are not looked for, since %s",
            folder,
            why,
        )
        return None


def _sun_over(stack: xr.DataArray) -> SunAngles | None:
    """Where the sun stood over the middle of a stack, where its time of sensing is known."""
    sensed = stack.attrs.get("SENSING_TIME")
    place = lattice_of(stack.odc.geobox)
    if sensed is None or place.latitude is None or place.longitude is None:
        return None
    return sun_at(datetime.fromisoformat(str(sensed)), place.latitude, place.longitude)
