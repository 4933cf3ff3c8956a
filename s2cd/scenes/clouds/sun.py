"""Where the sun stands: from the product's metadata, from date and place, or guessed."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from s2cd.scenes.clouds.parallax import INCLINATION

_NODE = 10.5  # hours: mean local solar time at which Sentinel-2 crosses the equator southwards
_SEASONS = (-23.44, -18.0, -10.0, 0.0, 10.0, 18.0, 23.44)  # degrees of declination over the year


@dataclass(frozen=True)
class SunAngles:
    """Zenith and azimuth of the sun, in degrees, as `Mean_Sun_Angle` of ``MTD_TL.xml``.

    The azimuth is that of the sun, clockwise from north; shadows fall the other way.
    """

    zenith: float
    azimuth: float


def sun_at(moment: datetime, latitude: float, longitude: float) -> SunAngles:
    """Where the sun stands at a moment, to about 0.05 degrees (no refraction).

    After the Astronomical Almanac's low-precision formulas (Michalsky 1988,
    10.1016/0038-092X(88)90045-X). A moment without a time zone is taken as UTC.
    """
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    days = (moment - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / 86400
    anomaly = np.radians(357.528 + 0.9856003 * days)
    length = np.radians(
        280.460 + 0.9856474 * days + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly)
    )
    tilt = np.radians(23.439 - 4e-7 * days)
    ascension = np.arctan2(np.cos(tilt) * np.sin(length), np.cos(length))
    declination = np.arcsin(np.sin(tilt) * np.sin(length))
    sidereal = np.radians(280.46062 + 360.985647 * days + longitude)
    return _seen_from(latitude, float(declination), float(sidereal - ascension))


def likely_suns(latitude: float) -> tuple[SunAngles, ...]:
    """Where the sun may stand at Sentinel-2's pass over a latitude, over the year, if up."""
    along = np.tan(np.radians(latitude)) / np.tan(np.radians(INCLINATION))
    later = -np.arcsin(np.clip(along, -1, 1))
    hour_angle = np.radians(15 * (_NODE - 12)) + later
    suns = (_seen_from(latitude, float(np.radians(d)), float(hour_angle)) for d in _SEASONS)
    return tuple(sun for sun in suns if sun.zenith < 85)


def _seen_from(latitude: float, declination: float, hour_angle: float) -> SunAngles:
    """Horizontal from equatorial coordinates, angles but the latitude in radians."""
    phi = np.radians(latitude)
    up = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour_angle)
    east = -np.cos(declination) * np.sin(hour_angle)
    north = np.cos(phi) * np.sin(declination) - np.sin(phi) * np.cos(declination) * np.cos(
        hour_angle
    )
    zenith = np.degrees(np.arccos(np.clip(up, -1, 1)))
    return SunAngles(float(zenith), float(np.degrees(np.arctan2(east, north)) % 360))
