"""The page itself: one file, whose policy lets nothing run or load but what is in it."""

import base64
import hashlib
import re
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from s2cd.output import check_writable, completed
from s2cd.results.dates import sensed
from s2cd.results.polygons.style import COLOURS
from s2cd.results.report.content import Content, Request, gather, names_of
from s2cd.results.report.facts import area_rows, day, hectares, kind_rows, percent, provenance
from s2cd.results.report.packing import pack

_SCRIPTS = ("data.js", "format.js", "map.js", "list.js", "filters.js", "export.js")
_AREA_CLASSES = ("changed", "stable", "unseen")


def write_report(request: Request, path: Path, overwrite: bool = False) -> int:
    """Write the page about a map; give its size in bytes.

    Raises:
        S2cdError: where an input cannot be used or the page cannot be written.
    """
    check_writable(path, overwrite)
    page = render(gather(request)).encode()
    with completed(path, overwrite) as temporary:
        temporary.write_bytes(page)
    return len(page)


def render(content: Content, review: bool = False) -> str:
    """The page as text.

    Args:
        content: What it shows.
        review: Whether it is the page of `s2cd review`, which talks to its own server.
    """
    from s2cd import __version__

    pictures = (*content.dates, *content.seen.pictures)
    data, left_out = pack(content.table, content.geobox, _rest(content, pictures, review))
    scripts, styles = _scripts(review), _styles(review)
    years = sorted({str(d)[:4] for d in names_of(content).values() if d})
    return Template(_asset("page.html")).substitute(
        policy=_policy(scripts, styles, review),
        version=escape(__version__),
        title=escape(content.title),
        map=escape(content.change.name),
        dates=_dates(content),
        mode="review" if review else "report",
        figures=_figures(content),
        areas=_areas(content, left_out),
        provenance=_provenance(content),
        weights=f" The model's weights are for {escape(content.licence)}."
        if content.licence
        else "",
        years=f" ({', '.join(map(escape, years))})" if years else "",
        styles="\n".join(f"<style>{style}</style>" for style in styles),
        data=_blocks(data, pictures),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _rest(content: Content, pictures: tuple[Any, ...], review: bool) -> dict[str, Any]:
    return {
        "name": f"{content.change.stem}-changes",
        "calibrated": content.tags.get("CALIBRATION") == "calibrated",
        "review": review,
        "dates": {role.lower(): day(sensed(content.tags, role)) for role in ("BEFORE", "AFTER")},
        "sensed": names_of(content),
        "pictures": [
            {"id": f"picture-{n}", "layer": p.layer, "box": p.box} for n, p in enumerate(pictures)
        ],
    }


def _asset(name: str) -> str:
    text = (files("s2cd.results.report") / "assets" / name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n")


def _scripts(review: bool) -> list[str]:
    """What runs: Leaflet, and the page's own files as one, which keep their names to themselves."""
    leaflet = re.sub(r"\n//# sourceMappingURL=.*", "", _asset("leaflet/leaflet.js"))
    names = (*_SCRIPTS, *(("review.js",) if review else ()), "main.js")
    own = "\n".join(_asset(name) for name in names)
    return [leaflet, f'(() => {{\n"use strict";\n{own}}})();\n']


def _styles(review: bool) -> list[str]:
    """How it looks; of Leaflet's, without the pictures of controls that are not used."""
    leaflet = re.sub(r"background-image: url\(images/.*?\);", "", _asset("leaflet/leaflet.css"))
    own = _asset("page.css") + (_asset("review.css") if review else "")
    dots = "".join(f".dot-kind-{n} {{ --dot: {c}; }}\n" for n, c in enumerate(COLOURS.values()))
    return [leaflet, own + dots]


def _policy(scripts: list[str], styles: list[str], review: bool) -> str:
    rules = [
        "default-src 'none'",
        f"script-src {' '.join(map(_hash, scripts))}",
        f"style-src {' '.join(map(_hash, styles))}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join([*rules, "connect-src 'self'"] if review else rules)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _blocks(data: str, pictures: tuple[Any, ...]) -> str:
    """Data that the scripts read; a browser runs none of these types."""
    lines = [f'<script type="application/gzip" id="data">{data}</script>']
    for number, picture in enumerate(pictures):
        text = f"data:{picture.kind};base64,{base64.b64encode(picture.data).decode()}"
        lines.append(f'<script type="text/plain" id="picture-{number}">{text}</script>')
    return "\n".join(lines)


def _dates(content: Content) -> str:
    before, after = (day(sensed(content.tags, role)) for role in ("BEFORE", "AFTER"))
    if before and after:
        return f"What changed between {escape(before)} and {escape(after)}"
    sources = [escape(content.tags[r]) for r in ("BEFORE", "AFTER") if r in content.tags]
    return f"What changed between {' and '.join(sources)}" if len(sources) == 2 else "What changed"


def _figures(content: Content) -> str:
    seen, table = content.seen, content.table
    total = seen.observed + seen.unseen
    share = seen.changed / seen.observed if seen.observed else 0.0
    figures = [
        ("mapped as changed", f"{hectares(seen.changed)} ha"),
        ("of what was observed", percent(share)),
        ("changes listed", f"{len(table):,}"),
        ("not observed", percent(seen.unseen / total)),
    ]
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures)


def _areas(content: Content, left_out: int) -> str:
    rows = area_rows(content.seen)
    kinds = kind_rows(content.table)
    lines = [_area_line(row, f"dot-{name}") for name, row in zip(_AREA_CLASSES, rows, strict=True)]
    parts = [_bar(rows), _tally(("Of the whole map", "ha", "share"), lines)]
    listed = float(content.table["area_m2"].sum()) if len(content.table) else 0.0
    if kinds:
        heads = ("Of the changes listed, by what the spectra say", "ha", "share")
        parts.append(
            _tally(heads, [_area_line(row, f"dot-kind-{_KIND.get(row[0])}") for row in kinds])
        )
    parts.append(f'<p class="fine">{_listed(content, listed, left_out)}</p>')
    return "\n".join(parts)


_KIND = {kind: number for number, kind in enumerate(COLOURS)}


def _listed(content: Content, area: float, left_out: int) -> str:
    text = f"The list holds {len(content.table):,} changes, {hectares(area)} ha together."
    if content.min_area:
        text += f" Those smaller than {content.min_area:,.0f} m² are not listed."
    if left_out:
        text += (
            f" This page draws the largest {len(content.table) - left_out:,} of them; "
            "<code>s2cd polygons</code> writes all."
        )
    return text


def _area_line(row: tuple[str, float, float], dot: str) -> str:
    name, area, share = row
    return (
        f'<tr><th scope="row"><span class="dot {dot}" aria-hidden="true"></span>{escape(name)}</th>'
        f"<td>{hectares(area)}</td><td>{percent(share)}</td></tr>"
    )


def _tally(heads: tuple[str, str, str], lines: list[str]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(lines)
    return f'<table class="tally"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _bar(rows: list[tuple[str, float, float]]) -> str:
    """The shares as one bar; its colours are told again in the table below."""
    left, parts = 0.0, []
    for name, (_, _, share) in zip(_AREA_CLASSES, rows, strict=True):
        width = 1000 * share
        parts.append(f'<rect class="fill-{name}" x="{left:.2f}" width="{width:.2f}" height="14"/>')
        left += width
    bar = 'class="share" viewBox="0 0 1000 14" preserveAspectRatio="none" aria-hidden="true"'
    return f"<svg {bar}>{''.join(parts)}</svg>"


def _provenance(content: Content) -> str:
    known = provenance(content.change, content.geobox, content.tags)
    every = _terms(sorted(content.tags.items()))
    card = _folded("The model's card", f"<pre>{escape(content.card)}</pre>") if content.card else ""
    return f"{_terms(known)}{card}{_folded('All that the map says of itself', every)}"


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>{body}</details>"


def _terms(rows: list[tuple[str, str]]) -> str:
    body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return f'<dl class="origin">{body}</dl>'
