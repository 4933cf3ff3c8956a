"""The Copernicus Data Space Ecosystem: searched without an account, read with one."""

from s2cd.sources.cdse.provider import Cdse

__all__ = ["Cdse"]
