"""The facts about stored runs, for their list and for scripts."""

from pathlib import Path
from typing import Any

from blrobust.errors import UserError
from blrobust.runs.run import Run
from blrobust.runs.stored_runs import run_folders

KEYS = (
    *("run", "id", "folder", "command", "summary", "models", "dataset", "n", "done", "cells", "seconds"),
    *("started", "finished", "error"),
)


def facts(run: Run) -> dict[str, Any]:
    """Return the facts about a run by key: name, id, folder, command, models, images, progress and times."""
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


def listing(folder: Path) -> list[dict[str, Any]]:
    """Return the facts about each run in `folder` by `KEYS`, the latest run last.

    Names are relative to `folder`. The facts about an unreadable run are None, except for `error`. Raises
    `UserError` if the folder does not exist or has no runs.
    """
    if not folder.is_dir():
        raise UserError(f"folder: got {folder}; legal: a folder that exists ('blrobust noise' makes runs)")
    found = run_folders(folder)
    if not found:
        raise UserError(f"folder: got {folder}; legal: a run folder, or a folder that contains runs")
    return sorted((_facts(path, folder) for path in found), key=lambda each: each["started"] or "")


def _facts(path: Path, folder: Path) -> dict[str, Any]:
    name = path.resolve().name if path == folder else path.relative_to(folder).as_posix()
    empty = dict.fromkeys(KEYS)
    try:
        with Run.open(path) as run:
            return empty | facts(run) | {"run": name}
    except (UserError, OSError) as error:
        return empty | {"run": name, "folder": str(path), "error": str(error)}
