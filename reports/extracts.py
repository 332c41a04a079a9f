"""The figures and tables of a finished page, one by one, for files of their own."""

import re
from collections.abc import Iterable
from html import unescape
from html.parser import HTMLParser

import pandas as pd

from blrobust.reports import svg

FIGURE = re.compile(r'<figure[^>]* data-name="([^"]*)".*?<div class="plot[^>]*>(<svg.*?</svg>)', re.DOTALL)
MOST_LETTERS = 80  # of a name


def figures(page: str) -> dict[str, str]:
    """Return the figures of a page as SVG files, in the colours of light screens, by name.

    Names have only ASCII letters, digits and hyphens. Of a figure with several widths, it is the widest.
    """
    found = FIGURE.findall(page)
    names = _distinct(unescape(name) for name, _ in found)
    return {name: svg.standalone(element) for name, (_, element) in zip(names, found, strict=True)}


def tables(page: str) -> dict[str, pd.DataFrame]:
    """Return the tables of a page as frames of text, by name.

    Names have only ASCII letters, digits and hyphens. The small print of a cell is in brackets.
    """
    reader = _Reader()
    reader.feed(page)
    reader.close()
    names = _distinct(caption for caption, _ in reader.tables)
    return {
        name: pd.DataFrame(rows[1:], columns=rows[0])
        for name, (_, rows) in zip(names, reader.tables, strict=True)
    }


class _Reader(HTMLParser):
    """Reads captions and cells of the tables of a page of this package, whose HTML is well formed."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[tuple[str, list[list[str]]]] = []  # caption, then header and rows
        self._parts: list[str] | None = None  # of the text of the open cell or caption

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append(("", []))
        elif tag == "tr":
            self.tables[-1][1].append([])
        elif tag in ("caption", "th", "td"):
            self._parts = []
        elif tag == "small" and self._parts is not None:
            self._parts.append(" (")

    def handle_endtag(self, tag: str) -> None:
        if self._parts is None:
            return
        if tag == "small":
            self._parts.append(")")
        elif tag in ("caption", "th", "td"):
            text = " ".join("".join(self._parts).split(" ")).strip()
            self._parts = None
            if tag == "caption":
                self.tables[-1] = (text, self.tables[-1][1])
            else:
                self.tables[-1][1][-1].append(text)

    def handle_data(self, data: str) -> None:
        if self._parts is not None:
            self._parts.append(data.replace("\n", " "))


def _distinct(names: Iterable[str]) -> list[str]:
    """Return the names as parts of file names, with a number at the end of each that is not the first."""
    plain = [re.sub("[^A-Za-z0-9]+", "-", name).strip("-")[:MOST_LETTERS].lower() for name in names]
    counts = [plain[:index].count(name) for index, name in enumerate(plain)]
    return [f"{name}-{count + 1}" if count else name for name, count in zip(plain, counts, strict=True)]
