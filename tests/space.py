"""The Copernicus Data Space on this machine: catalogue, identity, files by OData and S3, STAC."""

import json
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import shapely
from servers import App, Asked, Reply, Server, serving

from s2cd.sources.facts import found_in

USER = {"username": "somebody@example.org", "password": "hid den&pass=word"}
CLIENT = {"client_id": "sh-0123", "client_secret": "hidden-secret-of-the-client"}
KEYS = {"access": "ACCESSKEY0123456789", "secret": "hidden/secret+of/the/keys"}
SECRETS = [USER["username"], USER["password"], *CLIENT.values(), *KEYS.values()]


@dataclass
class Space:
    """Products as `.SAFE` folders, behind servers of their own."""

    products: list[Path]
    page: int = 2
    lasts: float = 600
    offline: set[str] = field(default_factory=set)
    issued: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def record(self, root: Path) -> dict:
        """A product as the OData catalogue has it."""
        found = facts_of(root)
        return {
            "@odata.mediaContentType": "application/octet-stream",
            "Id": key_of(root),
            "Name": root.name,
            "ContentType": "application/octet-stream",
            "ContentLength": sum(p.stat().st_size for p in root.rglob("*") if p.is_file()),
            "Online": root.name not in self.offline,
            "S3Path": f"/eodata/Sentinel-2/MSI/L1C/{found.sensed:%Y/%m/%d}/{root.name}",
            "Checksum": [{"Value": "0" * 32, "Algorithm": "MD5"}],
            "ContentDate": {"Start": f"{found.sensed:%Y-%m-%dT%H:%M:%S}.024Z"},
            "GeoFootprint": json.loads(shapely.to_geojson(found.footprint)),
            "Attributes": [
                {"Name": "cloudCover", "Value": found.cloud, "ValueType": "Double"},
                {"Name": "productType", "Value": "S2MSI1C", "ValueType": "String"},
            ],
        }

    def catalogue(self, asked: Asked) -> Reply | None:
        """Lists by name, or by dates; the area is left to whoever asks."""
        if asked.path != "/odata/v1/Products":
            return None
        query, skip = asked.query["$filter"], int(asked.query.get("$skip", "0"))
        records = [self.record(root) for root in self.products]
        if match := re.fullmatch(r"Name eq '(.*)'", query):
            records = [one for one in records if one["Name"] == match[1]]
        else:
            assert "OData.CSC.Intersects(area=geography'SRID=4326;POLYGON((" in query
            assert "a/OData.CSC.StringAttribute/Value eq 'S2MSI1C'" in query
            start, end = re.findall(r"ContentDate/Start (?:ge|lt) (\S+)", query)
            records = [one for one in records if start <= one["ContentDate"]["Start"] < end]
        answer = {"@odata.context": "$metadata#Products", "value": records[skip:][: self.page]}
        if len(records) > skip + self.page:
            host = asked.headers["Host"]
            answer["@odata.nextLink"] = (
                f"http://{host}/odata/v1/Products?$filter={query}&$skip={skip + self.page}"
            ).replace(" ", "%20")
        return json_reply(answer)

    def identity(self, asked: Asked) -> Reply:
        """Tokens by password, client or refresh."""
        form = asked.form
        known = {
            "password": {"client_id": "cdse-public", **USER},
            "client_credentials": CLIENT,
            "refresh_token": {"refresh_token": f"again-{len(self.issued)}"},
        }[form["grant_type"]]
        if not known.items() <= form.items():
            return json_reply({"error": "invalid_grant", "said": form}, 401)
        self.issued.append(f"token-{len(self.issued):04d}-{'x' * 20}")
        again = f"again-{len(self.issued)}"
        return json_reply(
            {"access_token": self.issued[-1], "expires_in": self.lasts, "refresh_token": again}
        )

    def nodes(self, asked: Asked) -> Reply | None:
        """Single files for whoever has the newest token; Range is refused, as it is there."""
        token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.issued or token != self.issued[-1] or token in self.refused:
            return json_reply({"detail": f"Expired signature of {token}"}, 401)
        match = re.fullmatch(r"/odata/v1/Products\((.*?)\)/Nodes\((.*)\)/\$value", asked.path)
        path = self._file(match[2].split(")/Nodes(")) if match else None
        if path is None or match[1] != key_of(path[0]):
            return None
        return Reply(path[1], ranges=False)

    def bucket(self, asked: Asked) -> Reply | None:
        """Files of the bucket, with Range, for whoever signs with the keys."""
        who = asked.headers.get("Authorization", "")
        if not who.startswith(f"AWS4-HMAC-SHA256 Credential={KEYS['access']}/"):
            body = f"<Error><Code>InvalidAccessKeyId</Code><Message>{who}</Message></Error>"
            return Reply(body.encode(), 403, kind="application/xml")
        match = re.fullmatch(r"/eodata/Sentinel-2/MSI/L1C/\d{4}/\d\d/\d\d/(.*)", asked.path)
        path = self._file(match[1].split("/")) if match else None
        return None if path is None else Reply(path[1])

    def stac(self, asked: Asked) -> Reply | None:
        """Items by dates, page by page."""
        if asked.path != "/v1/search" or asked.json["collections"] != ["sentinel-2-l1c"]:
            return None
        body, skip = asked.json, int(asked.json.get("token", "0"))
        start, end = body["datetime"].split("/")
        items = [self.item(root) for root in self.products]
        items = [one for one in items if start <= one["properties"]["datetime"] <= end]
        link = {
            "rel": "next",
            "href": f"http://{asked.headers['Host']}/v1/search",
            "method": "POST",
            "body": {**body, "token": str(skip + self.page)},
        }
        return json_reply(
            {
                "type": "FeatureCollection",
                "features": items[skip:][: self.page],
                "links": [link] if len(items) > skip + self.page else [],
            }
        )

    def item(self, root: Path) -> dict:
        """A product as the STAC API has it."""
        found = facts_of(root)
        path = self.record(root)["S3Path"]
        return {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": found.name,
            "collection": "sentinel-2-l1c",
            "geometry": json.loads(shapely.to_geojson(found.footprint)),
            "bbox": list(found.footprint.bounds),
            "properties": {
                "datetime": f"{found.sensed:%Y-%m-%dT%H:%M:%SZ}",
                "eo:cloud_cover": found.cloud,
            },
            "assets": {"product_metadata": {"href": f"s3:/{path}/MTD_MSIL1C.xml"}},
            "links": [],
        }

    def _file(self, parts: list[str]) -> tuple[Path, Path] | None:
        for root in self.products:
            if root.name == parts[0] and (path := root.joinpath(*parts[1:])).is_file():
                return root, path
        return None


@dataclass
class Servers:
    """The servers of a `Space`."""

    space: Space
    catalogue: Server
    identity: Server
    nodes: Server
    bucket: Server
    stac: Server

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead here."""
        return {
            "S2CD_CDSE_CATALOGUE_URL": f"{self.catalogue.url}/odata/v1",
            "S2CD_CDSE_TOKEN_URL": f"{self.identity.url}/token",
            "S2CD_CDSE_DOWNLOAD_URL": f"{self.nodes.url}/odata/v1/",
            "S2CD_CDSE_S3_URL": self.bucket.url,
            "S2CD_STAC_URL": f"{self.stac.url}/v1",
        }


@contextmanager
def serving_space(space: Space):
    """Its servers while the block lasts."""
    with ExitStack() as stack:
        apps: list[App] = [space.catalogue, space.identity, space.nodes, space.bucket, space.stac]
        yield Servers(space, *(stack.enter_context(serving(app)) for app in apps))


def json_reply(answer: object, status: int = 200) -> Reply:
    return Reply(json.dumps(answer).encode(), status, kind="application/json", ranges=False)


def key_of(root: Path) -> str:
    """An id for a product, as UUIDs are."""
    return f"{abs(hash(root.name)):032x}"[:32]


def facts_of(root: Path):
    content = (root / "MTD_MSIL1C.xml").read_bytes()
    return found_in(content, root.name, "space", root.name, root.name[39:44])
