"""torchgeo's loop: GridGeoSampler over both dates, a DataLoader, the map written by rasterio."""

import time

import given
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler


def pair_of(job):
    """Both dates as one dataset, whose samples hold the bands of one after those of the other."""

    class Stack(RasterDataset):
        all_bands = (*job.bands, "QA")

    before, after = (Stack([path], bands=job.bands) for path in (job.before, job.after))
    return before & after


def seconds_of(job, way):
    """Seconds of one way."""
    pair, network = pair_of(job), given.Network(job, way)
    sampler = GridGeoSampler(pair, size=way["size"], stride=way["size"] - 2 * way["margin"])
    loader = DataLoader(
        pair,
        batch_size=way["batch"],
        sampler=sampler,
        num_workers=way["workers"],
        collate_fn=stack_samples,
    )
    began = time.monotonic()
    with given.new_map(job) as result:
        for batch in loader:
            found = network.changed(batch["image"])
            for classes, (x, y, _) in zip(found, batch["bounds"], strict=True):
                column, row = ~result.transform * (x.start, y.stop)
                given.put(result, classes, (round(row), round(column)), way["margin"])
    return time.monotonic() - began


given.answer("torchgeo", seconds_of)
