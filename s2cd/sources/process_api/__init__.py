"""Sentinel Hub's Process API on CDSE: an area's pixels, without the rest of their products."""

from s2cd.sources.process_api.provider import ProcessApi

__all__ = ["ProcessApi"]
