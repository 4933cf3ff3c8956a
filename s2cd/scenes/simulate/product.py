"""A simulated date as a Level-1C product: a ``.SAFE`` folder with what s2cd reads of one."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine

from s2cd.scenes.bands import BANDS
from s2cd.scenes.simulate.files import CORNER, CRS, MGRS_TILE, SENSING_TIME, write_band_files
from s2cd.scenes.simulate.scene import Simulation
from s2cd.scenes.simulate.sensor import sun_angles

_ABSOLUTE_ORBIT = 124
_PSD = "https://psd-14.sentinel2.eo.esa.int/PSD"
_OFFSET_SINCE = "04.00"


@dataclass(frozen=True)
class Sheet:
    """What a product's metadata says: one tile of one datatake.

    Attributes:
        day: Of sensing.
        size: Side of the tile in 10 m pixels.
        baseline: Of the processing, such as ``05.00``; since 04.00 DN are higher by 1000.
        tile: Such as ``43QBF``.
        crs: Of the tile, ``EPSG:32643``.
        corner: Easting and northing of the upper left corner.
        unit: A, B or C: which of the satellites.
        orbit: Relative orbit number.
        cloud: Percent, as the product's own assessment.
    """

    day: date
    size: int
    baseline: str = "05.00"
    tile: str = MGRS_TILE
    crs: str = CRS
    corner: tuple[float, float] = CORNER
    unit: str = "A"
    orbit: int = 5
    cloud: float = 0.0

    @property
    def offset(self) -> int:
        """RADIO_ADD_OFFSET, by the baseline."""
        return -1000 if self.baseline >= _OFFSET_SINCE else 0

    @property
    def sensed(self) -> str:
        """The time of sensing as names have it."""
        return f"{self.day:%Y%m%d}{SENSING_TIME}"

    @property
    def name(self) -> str:
        """The product's name."""
        return (
            f"S2{self.unit}_MSIL1C_{self.sensed}_N{self.baseline.replace('.', '')}"
            f"_R{self.orbit:03d}_T{self.tile}_{self.day:%Y%m%d}T090000"
        )

    @property
    def granule(self) -> str:
        """The folder of the tile within the product."""
        return f"GRANULE/L1C_T{self.tile}_A{_ABSOLUTE_ORBIT:06d}_{self.sensed}"

    def band_file(self, band: str) -> str:
        """The name of a band's file within the product."""
        return f"{self.granule}/IMG_DATA/T{self.tile}_{self.sensed}_{band}.jp2"


def write_product(
    simulation: Simulation, date_index: int, folder: Path, baseline: str = "05.00"
) -> Path:
    """Writes one date as ``S2A_MSIL1C_….SAFE``: JPEG 2000 bands, metadata, manifest, a mask.

    Args:
        simulation: the pair.
        date_index: 0 for the first date, 1 for the second.
        folder: where the product's own folder is made; it must exist.
        baseline: of the processing; since 04.00 products carry an offset of -1000.

    Raises:
        S2cdError: where the folder does not exist.
    """
    sheet = Sheet(simulation.dates[date_index], simulation.size, baseline, unit="AB"[date_index])
    root = folder / f"{sheet.name}.SAFE"
    bands = root / sheet.granule / "IMG_DATA"
    bands.mkdir(parents=True, exist_ok=True)
    write_band_files(simulation, date_index, bands, "JP2OpenJPEG", sheet.offset)
    write_metadata(root, sheet)
    return root


def write_metadata(root: Path, sheet: Sheet) -> None:
    """Writes all of a product but its bands; the manifest, which lists every file, at last."""
    quality = root / sheet.granule / "QI_DATA"
    quality.mkdir(parents=True, exist_ok=True)
    _write_mask(quality / "MSK_DETFOO_B02.jp2", sheet)
    (root / "MTD_MSIL1C.xml").write_text(_product_xml(sheet), encoding="utf-8")
    (root / sheet.granule / "MTD_TL.xml").write_text(_tile_xml(sheet), encoding="utf-8")
    (root / "manifest.safe").write_text(_manifest(root), encoding="utf-8")


def _write_mask(path: Path, sheet: Sheet) -> None:
    """A raster of detector numbers, as granules hold since 2022: a band by its name's end alone."""
    profile = {
        "driver": "GTiff",
        "width": sheet.size,
        "height": sheet.size,
        "count": 1,
        "dtype": "uint8",
        "crs": sheet.crs,
        "transform": Affine(10, 0, sheet.corner[0], 0, -10, sheet.corner[1]),
    }
    with rasterio.MemoryFile() as memory, rasterio.Env(GDAL_PAM_ENABLED="NO"):
        with memory.open(**profile) as target:
            target.write(np.full((1, sheet.size, sheet.size), 7, np.uint8))
        rasterio.shutil.copy(memory.name, path, driver="JP2OpenJPEG", CODEC="JP2")


def _product_xml(sheet: Sheet) -> str:
    day = f"{sheet.day:%Y-%m-%d}T{SENSING_TIME[1:3]}:{SENSING_TIME[3:5]}:{SENSING_TIME[5:]}.024Z"
    taken = f"GS2{sheet.unit}_{sheet.sensed}_{_ABSOLUTE_ORBIT:06d}_N{sheet.baseline}"
    images = _lines(
        f"<IMAGE_FILE>{sheet.band_file(band).removesuffix('.jp2')}</IMAGE_FILE>" for band in BANDS
    )
    offsets = ""
    if sheet.offset:
        listed = _lines(
            f'<RADIO_ADD_OFFSET band_id="{n}">{sheet.offset}</RADIO_ADD_OFFSET>'
            for n in range(len(BANDS))
        )
        offsets = f"<Radiometric_Offset_List>\n{listed}\n</Radiometric_Offset_List>"
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-1C_User_Product xmlns:n1="{_PSD}/User_Product_Level-1C.xsd">
<n1:General_Info>
<Product_Info>
<PRODUCT_START_TIME>{day}</PRODUCT_START_TIME>
<PRODUCT_STOP_TIME>{day}</PRODUCT_STOP_TIME>
<PRODUCT_URI>{sheet.name}.SAFE</PRODUCT_URI>
<PROCESSING_LEVEL>Level-1C</PROCESSING_LEVEL>
<PRODUCT_TYPE>S2MSI1C</PRODUCT_TYPE>
<PROCESSING_BASELINE>{sheet.baseline}</PROCESSING_BASELINE>
<Datatake datatakeIdentifier="{taken}">
<SPACECRAFT_NAME>Sentinel-2{sheet.unit}</SPACECRAFT_NAME>
<DATATAKE_SENSING_START>{day}</DATATAKE_SENSING_START>
<SENSING_ORBIT_NUMBER>{sheet.orbit}</SENSING_ORBIT_NUMBER>
<SENSING_ORBIT_DIRECTION>DESCENDING</SENSING_ORBIT_DIRECTION>
</Datatake>
<Product_Organisation><Granule_List><Granule imageFormat="JPEG2000">
{images}
</Granule></Granule_List></Product_Organisation>
</Product_Info>
<Product_Image_Characteristics>
<Special_Values>
<SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
<SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
</Special_Values>
<Special_Values>
<SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
<SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX>
</Special_Values>
<QUANTIFICATION_VALUE unit="none">10000</QUANTIFICATION_VALUE>
{offsets}
</Product_Image_Characteristics>
</n1:General_Info>
<n1:Geometric_Info>
<Product_Footprint><Product_Footprint><Global_Footprint>
<EXT_POS_LIST>{_corners(sheet)}</EXT_POS_LIST>
</Global_Footprint></Product_Footprint></Product_Footprint>
</n1:Geometric_Info>
<n1:Quality_Indicators_Info>
<Cloud_Coverage_Assessment>{sheet.cloud}</Cloud_Coverage_Assessment>
</n1:Quality_Indicators_Info>
</n1:Level-1C_User_Product>
"""


def _corners(sheet: Sheet) -> str:
    """Latitude and longitude of the tile's corners, in turns; the first one comes again."""
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(sheet.crs, "EPSG:4326", always_xy=True)
    west, north = sheet.corner
    east, south = west + 10 * sheet.size, north - 10 * sheet.size
    ring = [(west, north), (west, south), (east, south), (east, north), (west, north)]
    degrees = [to_degrees.transform(x, y) for x, y in ring]
    return " ".join(f"{latitude:.9f} {longitude:.9f}" for longitude, latitude in degrees)


def _tile_xml(sheet: Sheet) -> str:
    zenith, azimuth = sun_angles(sheet.day)
    zone, north = int(sheet.crs[-2:]), "N" if sheet.crs[-3] == "6" else "S"
    sizes, places = [], []
    for metres in (10, 20, 60):
        side = -(-sheet.size * 10 // metres)
        sizes.append(
            f'<Size resolution="{metres}"><NROWS>{side}</NROWS><NCOLS>{side}</NCOLS></Size>'
        )
        places.append(
            f'<Geoposition resolution="{metres}"><ULX>{sheet.corner[0]:.0f}</ULX>'
            f"<ULY>{sheet.corner[1]:.0f}</ULY><XDIM>{metres}</XDIM><YDIM>-{metres}</YDIM>"
            "</Geoposition>"
        )
    made = f"S2{sheet.unit}_OPER_MSI_L1C_TL_SIMU_{sheet.day:%Y%m%d}T090000"
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-1C_Tile_ID xmlns:n1="{_PSD}/S2_PDI_Level-1C_Tile_Metadata.xsd">
<n1:General_Info>
<TILE_ID>{made}_A{_ABSOLUTE_ORBIT:06d}_T{sheet.tile}_N{sheet.baseline}</TILE_ID>
</n1:General_Info>
<n1:Geometric_Info>
<Tile_Geocoding>
<HORIZONTAL_CS_NAME>WGS84 / UTM zone {zone}{north}</HORIZONTAL_CS_NAME>
<HORIZONTAL_CS_CODE>{sheet.crs}</HORIZONTAL_CS_CODE>
{_lines(sizes)}
{_lines(places)}
</Tile_Geocoding>
<Tile_Angles>
<Mean_Sun_Angle>
<ZENITH_ANGLE unit="deg">{zenith:.6f}</ZENITH_ANGLE>
<AZIMUTH_ANGLE unit="deg">{azimuth:.6f}</AZIMUTH_ANGLE>
</Mean_Sun_Angle>
</Tile_Angles>
</n1:Geometric_Info>
</n1:Level-1C_Tile_ID>
"""


def _manifest(root: Path) -> str:
    files: Mapping[str, Path] = {
        path.relative_to(root).as_posix(): path
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    listed = _lines(
        f'<dataObject ID="D{n}"><byteStream size="{path.stat().st_size}">'
        f'<fileLocation locatorType="URL" href="./{name}"/>'
        f'<checksum checksumName="SHA3-256">{_hash(path)}</checksum></byteStream></dataObject>'
        for n, (name, path) in enumerate(files.items())
        if name != "manifest.safe"
    )
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" version="esa/safe/sentinel/1.1/sentinel-2">
<dataObjectSection>
{listed}
</dataObjectSection>
</xfdu:XFDU>
"""


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha3_256").hexdigest()


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)
