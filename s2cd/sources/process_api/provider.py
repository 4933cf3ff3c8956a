"""The Process API as a source."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from s2cd.errors import S2cdError
from s2cd.sources.endpoints import endpoint
from s2cd.sources.http import Client, Policy, RemoteFile, Token, download_all, said_url
from s2cd.sources.http.files import side_by_side
from s2cd.sources.http.part import digest_of
from s2cd.sources.names import footprint_of, named, percentage
from s2cd.sources.process_api.answer import check_answer, is_kept, note_beside
from s2cd.sources.process_api.assembled import Pieces, by_band, stack_and_flags
from s2cd.sources.process_api.pieces import Piece, cost_of, layers_of, pieces_of
from s2cd.sources.process_api.request import Box, call_for, digest_of_call, search
from s2cd.sources.products import FOLDER
from s2cd.sources.source import Cost, Found, Kept, Opened, Order, Scene, Search, Told

logger = logging.getLogger(__name__)

_CREDENTIALS = ("SH_CLIENT_ID", "SH_CLIENT_SECRET")
_PATIENT = Policy(read=180, longest_pause=60)
"""A large request is silent while it is worked on; limits count by the minute."""
_ROOM = 1.1
"""Bytes of an answer, at most, times those of its pixels."""
_A_MONTH = 10_000
"""Processing units that a free account has."""


class ProcessApi:
    """Sentinel Hub, which cuts, mosaics and resamples on its side.

    Of one datatake in several baselines it takes which it has; the offset is gone in any.
    """

    name = "process-api"

    def __init__(self, policy: Policy | None = None) -> None:
        """The source; nothing is asked yet, and credentials are missed when they are needed."""
        self._root, url = endpoint("S2CD_PROCESS_API_URL"), endpoint("S2CD_PROCESS_API_TOKEN_URL")
        policy = policy or _PATIENT
        who, secret = (os.environ.get(word, "").strip() for word in _CREDENTIALS)
        grant = {"grant_type": "client_credentials", "client_id": who, "client_secret": secret}
        said = ", ".join(_CREDENTIALS)
        token = Token(Client([url], policy), url, grant, [self._root], said)
        self._known = bool(who and secret)
        self._client = Client([self._root], replace(policy, retry_after_unit=1e-3), token)

    def find(self, search: Search) -> list[Found]:
        """Products whose footprint meets the AOI, by the service's own catalogue."""
        self._check_known()
        tasks = [
            partial(self._features, span, box) for span in search.spans for box in search.boxes
        ]
        pages = side_by_side(self._client, tasks)
        features = [feature for page in pages for feature in page]
        found = {one.name: one for one in map(self._found, features) if one is not None}
        return [one for one in found.values() if search.keeps(one)]

    def clouds_over(self, parts: Sequence[tuple[Found, Any]]) -> list[float | None]:
        """Not known: the service gives pixels, not the products' masks."""
        return [None] * len(parts)

    def cost(self, scene: Scene, order: Order) -> Cost:
        """Bytes, at most, and processing units; pieces that are kept cost none."""
        pieces = [piece for layer in layers_of(scene, order) for piece in pieces_of(layer)]
        missing = [p for p in pieces if not is_kept(self._path(scene, order, p))]
        size, rest = cost_of(pieces).size, cost_of(missing)
        cost = Cost(size, rest.units, size - rest.size)
        if cost.units > _A_MONTH:
            logger.warning(
                "%s: %.0f processing units are more than a free account has in a month (%d)",
                scene.day,
                cost.units,
                _A_MONTH,
            )
        return cost

    def download(self, scenes: Sequence[Scene], order: Order, told: Told) -> list[Kept]:
        """Bring scenes, piece by piece."""
        wanted = [
            (scene, self._remote(scene, order, piece))
            for scene in scenes
            for layer in layers_of(scene, order)
            for piece in pieces_of(layer)
        ]
        missing = [file for _, file in wanted if not is_kept(file.path)]
        for file in (file for _, file in wanted if file not in missing):
            told(file.path.stat().st_size)
        if missing:
            self._check_known()
            download_all(self._client, missing, told)
        return [_kept(scene, file) for scene, file in wanted]

    def open(self, scene: Scene, order: Order) -> Opened:
        """The scene that `download` left."""
        layers = [
            Pieces(layer, tuple((p, self._path(scene, order, p)) for p in pieces_of(layer)))
            for layer in layers_of(scene, order)
        ]
        stack, qa = stack_and_flags(layers[0])
        stack.attrs = _tags(scene, order)
        if not order.clouds:
            return Opened(stack, qa)
        from s2cd.scenes.clouds import CloudWatch, sun_at
        from s2cd.scenes.clouds.probability import check_model

        check_model()
        middle = order.aoi.outline.centroid
        watch = CloudWatch(stack, by_band(layers[1:]), sun_at(_taken(scene)[0], middle.y, middle.x))
        return Opened(watch.stack, qa, watch.flags)

    def _features(self, span: tuple[date, date], box: Box) -> list[dict[str, Any]]:
        """What was taken on some days, and on the next: a datatake may begin before midnight."""
        last = span[1] + timedelta(1)
        return search(self._client, self._root, box, (str(span[0]), str(last)))

    def _found(self, feature: dict[str, Any]) -> Found | None:
        """A product of the catalogue; None for what is none, or not described."""
        name, properties = named(feature.get("id")), feature.get("properties")
        if name is None or not isinstance(properties, dict):
            return None
        try:
            footprint = footprint_of(feature.get("geometry"), name.name)
            taken = datetime.fromisoformat(str(properties.get("datetime")))
        except (S2cdError, ValueError) as e:
            logger.warning("%s is left out: %s", name.name, e)
            return None
        if taken.tzinfo is None:
            return None
        return Found(
            source=self.name,
            **vars(name),
            cloud=percentage(properties.get("eo:cloud_cover")),
            footprint=footprint,
            extra={"taken": taken.isoformat()},
        )

    def _remote(self, scene: Scene, order: Order, piece: Piece) -> RemoteFile:
        """A piece as a file to be had."""
        call, path = call_for(piece, _taken(scene), self._root), self._path(scene, order, piece)

        def check(part: Path) -> None:
            check_answer(part, piece)
            note_beside(path).write_text(digest_of(part, "sha256"), encoding="ascii")

        return RemoteFile(
            call.url,
            path,
            kind="tiff",
            check=check,
            request=call,
            most=int(piece.size * _ROOM) + (1 << 20),
        )

    def _path(self, scene: Scene, order: Order, piece: Piece) -> Path:
        """Where a piece is put: another request has another name."""
        digest = digest_of_call(call_for(piece, _taken(scene), self._root))
        folder = order.folder / FOLDER / f"{scene.products[0].name}.process-api"
        metres = abs(piece.geobox.affine.a)
        name = f"{metres:.0f}m_{piece.rows.start}_{piece.columns.start}_{digest}.tif"
        return folder / name

    def _check_known(self) -> None:
        if not self._known:
            raise S2cdError(
                f"The Process API needs an OAuth client of CDSE. Set {' and '.join(_CREDENTIALS)} "
                "in the environment; --source google needs none"
            )


def _taken(scene: Scene) -> list[datetime]:
    """When the tiles of a scene were taken."""
    return [datetime.fromisoformat(found.extra["taken"]) for found in scene.products]


def _tags(scene: Scene, order: Order) -> dict[str, str]:
    """What the stack says of itself, as one made of products does."""
    products = scene.products
    return {
        "PRODUCT": ", ".join(found.name for found in products),
        "SENSING_TIME": f"{products[0].sensed:%Y-%m-%dT%H:%M:%SZ}",
        "PROCESSING_BASELINE": ", ".join(dict.fromkeys(found.baseline for found in products)),
        "RELATIVE_ORBIT": ", ".join(dict.fromkeys(str(found.orbit) for found in products)),
        "RADIO_ADD_OFFSET": "0",
        "HARMONIZED": "the offset was taken off by Sentinel Hub (harmonizeValues)",
        "RESAMPLING": "bicubic, by Sentinel Hub",
        "AOI": f"{order.aoi.name} ({order.aoi.extent})",
    }


def _kept(scene: Scene, file: RemoteFile) -> Kept:
    size, digits = file.path.stat().st_size, note_beside(file.path).read_text(encoding="ascii")
    url = said_url(file.url)
    return Kept(scene.products[0].name, file.path, url, size, ("sha256", digits))
