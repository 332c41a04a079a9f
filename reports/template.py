"""A page about one measurement that is no sweep: its template, and what all of them say of it."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from blrobust import __version__, atomic_write
from blrobust.runs.measurement import Measurement


def render(template: str, measurement: Measurement, destination: Path, **content: Any) -> None:
    """Write the page, whole or not at all; ``content`` are the template's own variables."""
    environment = Environment(
        loader=PackageLoader("blrobust.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(template).render(
        **content, record=measurement.record, folder=str(measurement.folder), version=__version__
    )
    atomic_write.write_text(destination, html)
