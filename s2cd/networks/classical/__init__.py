"""Detectors without weights: they learn from the pair alone."""

from s2cd.networks.classical.cva import Cva
from s2cd.networks.classical.irmad import IrMad
from s2cd.networks.classical.pca_kmeans import PcaKmeans

__all__ = ["Cva", "IrMad", "PcaKmeans"]
