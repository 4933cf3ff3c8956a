"""terratorch's `tiled_inference` on the pair in memory, without averaging, which takes longer."""

import time

import given
import numpy as np
import rasterio
import torch
from terratorch.tasks.tiled_inference import tiled_inference


def stored(path):
    """The reflectance bands of a stack."""
    with rasterio.open(path) as source:
        return torch.from_numpy(source.read(range(1, source.count)).astype(np.float32))


def seconds_of(job, way):
    """Seconds of one way."""
    network, size = given.Network(job, way), way["size"]
    began = time.monotonic()
    pair = torch.cat([stored(job.before), stored(job.after)])[None]
    with torch.inference_mode():
        found = tiled_inference(
            network.logits,
            network.normalized(pair),
            crop=size,
            stride=size - 2 * way["margin"],
            delta=way["margin"],
            average_patches=False,
            blend_overlaps=False,
            batch_size=way["batch"],
            padding=False,
        )
    with given.new_map(job) as result:
        result.write((found[0, 0] > 0).to(torch.uint8).numpy(), 1)
    return time.monotonic() - began


given.answer("terratorch", seconds_of)
