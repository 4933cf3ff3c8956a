"""A seeded, made-up Sentinel-2 pair with its truth, of any size and in bounded memory.

Fields with a crop calendar, tracks and roads, rivers and lakes, woods, towns. Between the dates
blocks and roads are built (to be found); crops grow, are harvested and rotate, air, sun, gain,
noise and registration differ (not to be found). Scores on it are no evidence of accuracy on
real scenes.
"""

from s2cd.scenes.simulate.files import write_band_files, write_truth
from s2cd.scenes.simulate.product import Sheet, write_metadata, write_product
from s2cd.scenes.simulate.scene import Simulation
from s2cd.scenes.simulate.sensor import Nuisance

__all__ = [
    "Nuisance",
    "Sheet",
    "Simulation",
    "write_band_files",
    "write_metadata",
    "write_product",
    "write_truth",
]
