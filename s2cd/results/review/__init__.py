"""Changes accepted, rejected, drawn anew or added, on a page that this machine serves itself."""

from s2cd.results.review.server import Review, open_review
from s2cd.results.review.store import STATUSES, Store

__all__ = ["STATUSES", "Review", "Store", "open_review"]
