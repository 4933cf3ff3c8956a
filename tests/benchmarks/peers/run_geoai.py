"""geoai's `predict_geotiff`, over a file that holds the bands of both dates, made beforehand."""

import time
from functools import cache
from pathlib import Path

import given
import numpy as np
import rasterio
import torch
from geoai.inference import predict_geotiff


@cache
def both(before, after, path):
    """One file of both dates: geoai reads no two; writing it is no part of what is measured."""
    with rasterio.open(before) as one, rasterio.open(after) as two:
        bands = np.concatenate([file.read(range(1, file.count)) for file in (one, two)])
        with rasterio.open(path, "w", **(one.profile | {"count": len(bands)})) as result:
            result.write(bands)
    return path


class Changed(torch.nn.Module):
    """What geoai calls: the network, from what is stored on."""

    def __init__(self, network):
        super().__init__()
        self._network = network

    def forward(self, images):
        """Log odds of tiles."""
        return self._network.logits(self._network.normalized(images))


def seconds_of(job, way):
    """Seconds of one way."""
    network = Changed(given.Network(job, way))
    path = both(job.before, job.after, str(Path(job.out).with_suffix(".both.tif")))
    began = time.monotonic()
    predict_geotiff(
        network,
        path,
        job.out,
        tile_size=way["size"],
        overlap=2 * way["margin"],
        batch_size=way["batch"],
        output_dtype="uint8",
        output_nodata=255,
        blend_mode="none",
        preprocess_fn=lambda tile: tile,
        postprocess_fn=lambda found: found > 0,
        verbose=False,
    )
    return time.monotonic() - began


given.answer("geoai-py", seconds_of)
