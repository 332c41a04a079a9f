"""The output for scripts: one JSON document with `--json`, and only the folder with `--quiet`."""

import json
import math
import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from typing import Any

import click


def _remember(context: click.Context, option: click.Parameter, value: bool) -> None:
    context.meta[f"{__name__}.{option.name}"] = value


def _is_given(name: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and context.meta.get(f"{__name__}.{name}", False)


JSON = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_remember,
    help="Print one JSON document on stdout, and nothing else there.",
)
QUIET = click.option(
    "--quiet",
    "-q",
    is_flag=True,
    expose_value=False,
    callback=_remember,
    help="Print only the folder of the results on stdout, without tables and progress. Errors and warnings "
    "still go to stderr.",
)


def is_json() -> bool:
    """Return whether the command that is running has the option `--json`."""
    return _is_given("json")


def is_quiet() -> bool:
    """Return whether the command that is running has the option `--quiet`."""
    return _is_given("quiet")


def is_for_people() -> bool:
    """Return whether the command that is running prints tables and sentences."""
    return not is_json() and not is_quiet()


def own_stdout() -> AbstractContextManager[Any]:
    """Return a context in which prints of a user's model go to stderr if stdout is for scripts."""
    return nullcontext() if is_for_people() else redirect_stdout(sys.stderr)


def print_json(document: Any) -> None:
    """Print a document of dicts, lists, texts and numbers; numbers that are not finite become null."""
    print(json.dumps(_finite(document), indent=1, allow_nan=False, default=str), flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
