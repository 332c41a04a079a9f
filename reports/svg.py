"""A matplotlib figure as an SVG element of a page: unique ids, no global style, tool tips as text."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from markupsafe import Markup
from matplotlib import style
from matplotlib.figure import Figure

from blrobust.escaping import escape
from blrobust.reports import palette

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
GROUP, USE, TEXT = (f"{{{SVG}}}{name}" for name in ("g", "use", "text"))
FONT = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
DECIMALS = 2  # of a coordinate: a hundredth of a pixel is not visible
NUMBER = re.compile(r"-?\d+\.\d{3,}")
NO_ROTATION = re.compile(r"rotate\(-?0 [^)]*\)")
FAMILY = re.compile(r"\s*font-family: [^;]*;")
SIZE = "11px"  # of most texts, set once for the whole figure
BACKGROUND = f"fill: {palette.themed(palette.PAPER)}"
POINT = re.compile(r"M (\S+ \S+) L \1")  # a line without length, of a grid without lines
BEHIND = '<rect width="100%" height="100%" fill="#ffffff" />'


_lock = Lock()  # matplotlib's settings are those of all threads


@contextmanager
def styled(*styles: Any) -> Iterator[None]:
    """Return a context for one figure in matplotlib's `styles`, which does not change the user's settings."""
    with _lock, style.context(list(styles)):
        yield


def element(
    figure: Figure,
    *,
    prefix: str,
    label: str,
    tips: Mapping[str, Sequence[str]] | None = None,
    series: Mapping[str, int] | None = None,
) -> Markup:
    """Return the figure as an SVG element whose colours follow the theme of the page.

    `prefix` makes the ids of the element unique in the page, and `label` is the text for screen readers.
    `tips` maps the gid of a matplotlib artist (see `Artist.set_gid`) to the tool tips of its shapes, in
    order. For a line with markers, the markers get the tool tips. Tips may contain any characters. `series`
    maps gids to the numbers of the models that they show, for the attribute `data-model`.
    """
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(file.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{SVG}}}style" or child.tag.endswith("metadata"):
                parent.remove(child)  # the style has the selector "*": it would apply to the whole page
    codes: dict[str, str] = {}  # ids -> short ids
    for node in root.iter():
        _add_tips(node, (tips or {}).get(node.get("id", ""), ()))
        if node.get("id") in (series or {}):
            node.set("data-model", str((series or {})[node.attrib["id"]]))
        _rename_ids(node, prefix, codes)
        _shorten(node)
    _drop_invisible(root)
    _unwrap(root)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("font-family", FONT)
    root.set("font-size", SIZE)
    root.set("role", "img")
    root.set("aria-label", label)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def standalone(element: str) -> str:
    """Return an SVG element as a file of its own, in the colours of light screens."""
    opening, _, content = palette.unthemed(element).partition(">")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{opening}>{BEHIND}{content}\n'


def _add_tips(node: Element, texts: Sequence[str]) -> None:
    markers = list(node.iter(USE)) if texts else []
    for text, shape in zip(texts, markers or node.iter(f"{{{SVG}}}path"), strict=False):
        ElementTree.SubElement(shape, f"{{{SVG}}}title").text = escape(text)


def _rename_ids(node: Element, prefix: str, codes: dict[str, str]) -> None:
    """Drop the ids of groups, and give all others short ids that begin with the prefix."""

    def short(found: str) -> str:
        return codes.setdefault(found, f"{prefix}-{len(codes)}")

    for key, value in list(node.attrib.items()):
        if key == "id" and node.tag == GROUP:
            del node.attrib[key]
        elif key == "id":
            node.set(key, short(value))
        elif value.startswith("url(#"):
            node.set(key, f"url(#{short(value[5:-1])})")
        elif key == f"{{{XLINK}}}href" and value.startswith("#"):
            node.set(key, f"#{short(value[1:])}")


def _drop_invisible(node: Element) -> None:
    """Remove backgrounds, which the page has, lines without length, and empty definitions."""
    for child in list(node):
        _drop_invisible(child)
        is_background = child.get("style") == BACKGROUND
        is_empty = child.tag == f"{{{SVG}}}defs" and not len(child)
        if is_background or is_empty or POINT.fullmatch(child.get("d", "")):
            node.remove(child)


def _shorten(node: Element) -> None:
    """Round coordinates, replace colours by variables, and drop white space and what has no effect."""
    for key in ("d", "x", "y", "transform", "points", "width", "height"):
        if key in node.attrib:
            node.set(key, " ".join(NUMBER.sub(_rounded, node.attrib[key]).split()))
    if NO_ROTATION.fullmatch(node.get("transform", "")):
        del node.attrib["transform"]
    if "style" in node.attrib:
        node.set("style", palette.themed(FAMILY.sub("", node.attrib["style"])))
        if node.tag == TEXT:
            node.set("style", node.attrib["style"].replace(f"font-size: {SIZE}; ", ""))
    styles = {child.get("style", "") for child in node if child.tag == USE}
    if node.tag == GROUP and len(styles) == 1 and all(child.tag == USE for child in node):
        node.set("style", palette.themed(styles.pop()))
        for child in node:
            child.attrib.pop("style", None)
    for name in ("text", "tail"):
        if not (getattr(node, name) or "").strip():
            setattr(node, name, None)


def _rounded(number: re.Match[str]) -> str:
    return f"{round(float(number[0]), DECIMALS):g}" if "e" not in number[0] else number[0]


def _unwrap(node: Element) -> None:
    """Replace every group without attributes by its children."""
    children = []
    for child in node:
        _unwrap(child)
        children += list(child) if child.tag == GROUP and not child.attrib else [child]
    node[:] = children
