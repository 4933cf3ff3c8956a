"""Lets segmentation_models_pytorch be imported where torchvision's compiled part cannot be loaded.

A CPU build of torch beside PyPI's torchvision (built for CUDA) fails at the import of torchvision,
which smp and timm import: "operator torchvision::nms does not exist". Defining the schemas of its
two operators first is enough; neither is ever called here.
"""

from functools import cache
from typing import Any

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def import_smp() -> Any:
    """`segmentation_models_pytorch`, whatever build of torchvision is beside it."""
    mend_torchvision()
    import segmentation_models_pytorch

    return segmentation_models_pytorch


_LIBRARIES: list[Any] = []
"""torch forgets the schemas of a library that nobody holds."""


@cache
def mend_torchvision() -> None:
    """Make torchvision fit to be imported, by whatever imports it."""
    import sys

    import torch

    if "torchvision" in sys.modules or _loads():
        return
    make: Any = torch.library.Library
    library = make("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}{_SCHEMA}")
    _LIBRARIES.append(library)


def _loads() -> bool:
    """Whether torchvision's compiled part can be loaded; asked without importing torchvision."""
    from importlib.util import find_spec
    from pathlib import Path

    import torch

    found = find_spec("torchvision")
    if found is None or found.origin is None:
        return True  # nothing to mend: the import says that it is missing
    load: Any = torch.ops.load_library
    compiled = sorted(Path(found.origin).parent.glob("_C*.so"))
    try:
        for path in compiled:
            load(path)
    except OSError:
        return False
    return bool(compiled)
