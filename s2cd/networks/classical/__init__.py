"""Detectors without weights: they learn from the pair alone."""

from s2cd.networks.classical.cva import Cva

__all__ = ["Cva"]
