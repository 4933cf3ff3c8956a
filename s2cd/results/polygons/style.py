"""How changes are coloured, here and in QGIS."""

from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

COLOURS = {
    "vegetation to built-up": "#d7263d",
    "bare to built-up": "#f46036",
    "vegetation lost": "#b5651d",
    "vegetation gained": "#3a9d5d",
    "water gained": "#1b6ec2",
    "water lost": "#7a5ea8",
    "other": "#c99700",
}
"""Colour of each kind of change, as red, green and blue."""
_PLAIN = "#d61820"


def qml(table: "GeoDataFrame") -> str:
    """A QGIS style: by kind where kinds are known, else one colour; outlines with a light fill."""
    kinds = [] if table["kind"].isna().all() else list(COLOURS)
    colours = [COLOURS[kind] for kind in kinds] or [_PLAIN]
    symbols = "".join(_symbol(str(i), colour) for i, colour in enumerate(colours))
    if kinds:
        categories = "".join(
            f'<category symbol="{i}" value={quoteattr(k)} label={quoteattr(k)} render="true"/>'
            for i, k in enumerate(kinds)
        )
        head = '<renderer-v2 type="categorizedSymbol" attr="kind" enableorderby="0" forceraster="0"'
        body = f"<categories>{categories}</categories>"
    else:
        head = '<renderer-v2 type="singleSymbol" enableorderby="0" forceraster="0"'
        body = ""
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.22.0" styleCategories="Symbology|MapTips">\n'
        f'{head} symbollevels="0">{body}<symbols>{symbols}</symbols></renderer-v2>\n'
        '<mapTip>&lt;b&gt;[% "id" %] [% coalesce("kind", \'change\') %]&lt;/b&gt;&lt;br/&gt;'
        '[% round("area_m2" / 10000, 2) %] ha</mapTip>\n</qgis>\n'
    )


def _symbol(name: str, colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    options = {
        "color": f"{red},{green},{blue},70",
        "style": "solid",
        "outline_color": f"{red},{green},{blue},255",
        "outline_style": "solid",
        "outline_width": "0.5",
        "outline_width_unit": "MM",
        "joinstyle": "round",
    }
    items = "".join(f'<Option type="QString" name="{k}" value="{v}"/>' for k, v in options.items())
    return (
        f'<symbol type="fill" name="{name}" alpha="1" clip_to_extent="1" force_rhr="0">'
        f'<layer class="SimpleFill" enabled="1" locked="0" pass="0"><Option type="Map">{items}'
        "</Option></layer></symbol>"
    )
