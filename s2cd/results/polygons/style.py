"""How changes are coloured, here and in QGIS."""

from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from s2cd.detection.changemap import class_colours

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
    """A QGIS style: by kind where kinds are known, by class where there are several, else alike.

    Outlines have a light fill. What belongs to no category, such as a change that somebody added,
    is drawn too: QGIS leaves it out unless a category without a value is there.
    """
    attribute, colours = _categories(table)
    symbols = "".join(_symbol(str(i), colour) for i, colour in enumerate(colours.values()))
    shape = "singleSymbol"
    if attribute:
        shape = f'categorizedSymbol" attr="{attribute}'
    body = "".join(
        f'<category symbol="{i}" value={quoteattr(v)} label={quoteattr(v or "not known")} '
        'render="true"/>'
        for i, v in enumerate(colours)
    )
    categories = f"<categories>{body}</categories>" if attribute else ""
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.22.0" styleCategories="Symbology|MapTips">\n'
        f'<renderer-v2 type="{shape}" enableorderby="0" forceraster="0" symbollevels="0">'
        f"{categories}<symbols>{symbols}</symbols></renderer-v2>\n"
        '<mapTip>&lt;b&gt;[% "id" %] [% coalesce("kind", \'change\') %]&lt;/b&gt;&lt;br/&gt;'
        '[% round("area_m2" / 10000, 2) %] ha</mapTip>\n</qgis>\n'
    )


def _categories(table: "GeoDataFrame") -> tuple[str, dict[str, str]]:
    """The column that changes are told apart by (none: empty), and a colour for each value."""
    if not table["kind"].isna().all():
        return "kind", {**COLOURS, "": _PLAIN}
    classes = sorted({int(value) for value in table["class"].dropna()})
    if len(classes) < 2:
        return "", {"": _PLAIN}
    colours = class_colours(classes[-1])
    named = {str(c): "#{:02x}{:02x}{:02x}".format(*colours[c]) for c in classes if c in colours}
    return "class", {**named, "": _PLAIN}


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
