"""Change maps from pairs of Sentinel-2 Level-1C scenes.

The commands are thin shells over these: `open_stack`, `detect`, `write_map`. Importing the
package is cheap; each name is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2cd.detection.changemap import write_map
    from s2cd.detection.detect import detect
    from s2cd.scenes.stack import open_stack, write_stack

__version__ = "0.1.0"
__all__ = ["detect", "open_stack", "write_map", "write_stack"]

_HOMES = {
    "open_stack": "s2cd.scenes.stack",
    "write_stack": "s2cd.scenes.stack",
    "detect": "s2cd.detection.detect",
    "write_map": "s2cd.detection.changemap",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 's2cd' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
