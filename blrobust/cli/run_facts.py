"""The facts about a run and its results as an entry of a JSON document."""

from pathlib import Path
from typing import Any

from blrobust.analysis.view import View
from blrobust.runs.run import Run


def run_facts(run: Run) -> dict[str, Any]:
    """Return the name, id, folder, command, models, images, progress and times of a run, by key."""
    record = run.record
    return {
        "run": run.path.resolve().name,
        "id": record.id,
        "folder": str(run.path),
        "command": run.config.command,
        "summary": run.config.summary,
        "models": list(run.models),
        "dataset": record.dataset.name,
        "n": record.dataset.n,
        "done": len(run.done()),
        "cells": run.cells,
        "seconds": run.total_seconds(),
        "started": record.started,
        "finished": record.finished,
    }


def results_facts(view: View, report: Path) -> dict[str, Any]:
    """Return the facts of the run, the path of its report, and the rows of results.csv."""
    return {
        **run_facts(view.run),
        "report": str(report),
        "results": view.table.to_dict("records"),
    }
