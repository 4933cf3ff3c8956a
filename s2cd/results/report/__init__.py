"""One page that shows what changed: self-contained, without a network."""

from s2cd.results.report.content import Content, Request, gather
from s2cd.results.report.page import render, write_report

__all__ = ["Content", "Request", "gather", "render", "write_report"]
