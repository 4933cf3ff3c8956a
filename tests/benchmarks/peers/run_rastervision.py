"""Raster Vision's sliding windows over both dates, and its labels, which write the map."""

import shutil
import time
from pathlib import Path

import given
from rastervision.core.data import (
    ClassConfig,
    MultiRasterSource,
    RasterioSource,
    Scene,
    SemanticSegmentationLabels,
)
from rastervision.pytorch_learner import SemanticSegmentationSlidingWindowGeoDataset
from torch.utils.data import DataLoader


def scene_of(job):
    """Both dates as one raster of twice the bands."""
    bands = list(range(len(job.bands)))
    dates = [RasterioSource(path, channel_order=bands) for path in (job.before, job.after)]
    return Scene("pair", MultiRasterSource(dates))


def seconds_of(job, way):
    """Seconds of one way."""
    scene, network, size = scene_of(job), given.Network(job, way), way["size"]
    windows = SemanticSegmentationSlidingWindowGeoDataset(
        scene, size=size, stride=size - 2 * way["margin"], normalize=False
    )
    loader = DataLoader(windows, batch_size=way["batch"], num_workers=way["workers"])
    folder = Path(job.out).with_suffix("")
    began = time.monotonic()
    found = (classes for images, _ in loader for classes in network.changed(images))
    labels = SemanticSegmentationLabels.from_predictions(
        windows.windows, found, scene.extent, num_classes=3, crop_sz=way["margin"]
    )
    source = scene.raster_source
    classes = ClassConfig(names=["none", "change", "null"], null_class="null")
    labels.save(str(folder), source.crs_transformer, classes)
    seconds = time.monotonic() - began
    shutil.move(folder / "labels.tif", job.out)
    return seconds


given.answer("rastervision-pytorch-learner", seconds_of)
