"""Rendering of a page from one of the templates beside this file."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from blrobust import __version__, atomic_write

BASELINE = Markup('<meta name="baseline" content="{}">')


def shows_baseline(page: Path, name: str) -> bool:
    """Return whether the file `page` is the report of one run with `name` as the baseline."""
    return page.exists() and BASELINE.format(name) in page.read_text("utf-8", errors="replace")


def render(template: str, destination: Path, **content: Any) -> None:
    """Write the page, whole or not at all; `content` are the template's variables.

    Raises `OSError` where `destination` cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("blrobust.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(template).render(**content, version=__version__)
    atomic_write.write_text(destination, html)
