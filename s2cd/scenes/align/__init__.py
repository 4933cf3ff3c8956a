"""Registration: how far `after` lies from `before`, measured and removed to a fraction of a pixel.

Shifts are measured on many windows by phase correlation, a motion is fitted to all of them, and
the image is resampled once from the original by it; that is repeated until nothing is left. One
measurement alone is not enough: it is drawn towards whole pixels where the image is aliased.
"""

from s2cd.scenes.align.measure import FARTHEST, LEAST_SHIFT, Shift, aligned, shift_between

__all__ = ["FARTHEST", "LEAST_SHIFT", "Shift", "aligned", "shift_between"]
