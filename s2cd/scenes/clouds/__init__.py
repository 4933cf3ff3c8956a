"""Clouds, cirrus and shadows of one date, as bit flags on the 10 m grid.

What looks like a cloud to s2cloudless is one only where it seems to move between two bands of
the date (`parallax`), as bright roofs and building sites do not; high ones are seen in B10, where
the lower air is black.
"""

from s2cd.scenes.clouds.flags import NEEDED, cloud_flags, missing_bands, with_clouds
from s2cd.scenes.clouds.folder import watch_folder, watch_products
from s2cd.scenes.clouds.sun import SunAngles, sun_at
from s2cd.scenes.clouds.watch import CloudWatch

__all__ = [
    "NEEDED",
    "CloudWatch",
    "SunAngles",
    "cloud_flags",
    "missing_bands",
    "sun_at",
    "watch_folder",
    "watch_products",
    "with_clouds",
]
