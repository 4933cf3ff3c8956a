"""Change maps from pairs of Sentinel-2 Level-1C scenes."""
