"""A matplotlib figure as an SVG element of a page: unique ids, no global style, tool tips as text."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import style
from matplotlib.figure import Figure

from blrobust.escaping import escape

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"


_lock = Lock()  # matplotlib's settings are those of all threads


@contextmanager
def styled(*styles: Any) -> Iterator[None]:
    """Return a context for one figure in matplotlib's `styles`, which does not change the user's settings."""
    with _lock, style.context(list(styles)):
        yield


def element(
    figure: Figure, *, prefix: str, label: str, tips: Mapping[str, Sequence[str]] | None = None
) -> Markup:
    """Return the figure as an SVG element.

    `prefix` makes the ids of the element unique in the page, and `label` is the text for screen readers.
    `tips` maps the gid of a matplotlib artist (see `Artist.set_gid`) to the tool tips of its shapes, in
    order. For a line with markers, the markers get the tool tips. Tips may contain any characters.
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
    for node in root.iter():
        texts = (tips or {}).get(node.get("id", ""), ())
        markers = list(node.iter(f"{{{SVG}}}use"))
        for text, shape in zip(texts, markers or node.iter(f"{{{SVG}}}path"), strict=False):
            ElementTree.SubElement(shape, f"{{{SVG}}}title").text = escape(text)
        for key, value in list(node.attrib.items()):
            if key == "id" and node.tag == f"{{{SVG}}}g":
                del node.attrib[key]
            elif key == "id":
                node.set(key, f"{prefix}-{value}")
            elif value.startswith("url(#"):
                node.set(key, value.replace("url(#", f"url(#{prefix}-"))
            elif key == f"{{{XLINK}}}href" and value.startswith("#"):
                node.set(key, f"#{prefix}-{value[1:]}")
    for key in ("width", "height"):
        del root.attrib[key]
    root.set("role", "img")
    root.set("aria-label", label)
    return Markup(ElementTree.tostring(root, encoding="unicode"))
