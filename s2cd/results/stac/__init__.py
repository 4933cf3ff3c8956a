"""Maps as items of a SpatioTemporal Asset Catalog (STAC 1.1)."""

from s2cd.results.stac.collection import write_collection
from s2cd.results.stac.item import Files, write_item

__all__ = ["Files", "write_collection", "write_item"]
