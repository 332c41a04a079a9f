"""Options of a command in a TOML file: `--config` reads them, and `--dump-config` prints them."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from blrobust.cli.options import UserPath
from blrobust.errors import UserError, reason, shorten
from blrobust.regular_file import problem_of, read_bytes
from blrobust.terminal import echo

NOT_IN_FILES = {"dry_run"}
MOST_BYTES = 1_000_000
_DUMP = f"{__name__}.dump"

Scalars = str | bool | list[str]


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options `--config` and `--dump-config` to a command."""
    command = click.option(
        "--dump-config",
        is_flag=True,
        expose_value=False,
        callback=_remember,
        help="Print the options as a file for --config, and do nothing else. Options that are not set and "
        "have no fixed default are left out.",
    )(command)
    return click.option(
        "--config",
        type=UserPath(dir_okay=False),
        is_eager=True,
        expose_value=False,
        callback=_read,
        help="TOML file of options. Its keys are their long names without the leading --, as in batch-size = "
        "64. Options on the command line and environment variables have priority over the file.",
    )(command)


def dumped(**effective: Any) -> bool:
    """Print the options as TOML if `--dump-config` was given, and return whether it was.

    `effective` are values by the name of a parameter, where they differ from those that click parsed.
    Options without a value, whose default depends on others, are left out.
    """
    context = click.get_current_context()
    if not context.meta[_DUMP]:
        return False
    values = context.params | effective
    for option in _options(context.command):
        value = values[str(option.name)]
        if value is not None and value != ():
            name = option.opts[0].removeprefix("--")
            echo(f"{name} = {_toml(name, value)}")
    return True


def _remember(context: click.Context, option: click.Parameter, value: bool) -> None:
    context.meta[_DUMP] = value


def _read(context: click.Context, option: click.Parameter, path: Path | None) -> None:
    """Make the entries of the file the defaults of the command; raise `UserError` for an illegal entry."""
    if path is None:
        return
    entries = _entries(path)
    options = {name.removeprefix("--"): each for each in _options(context.command) for name in each.opts}
    defaults: dict[str, Scalars] = {}
    for key, value in entries.items():
        if key not in options:
            raise UserError(f"--config: got the key {key!r} in {path}; legal: {', '.join(options)}")
        name = str(options[key].name)
        if name in defaults:
            raise UserError(f"--config: got {key!r} in {path} beside its other name; legal: one of the two")
        try:
            place = f"--config: got {key} = {shorten(repr(value))} in {path}"
        except ValueError as error:  # a whole number with thousands of digits
            raise UserError(f"--config: got {key} in {path}: {reason(error)}") from error
        defaults[name] = _given(value, options[key], place)
        try:
            options[key].type_cast_value(context, defaults[name])
        except click.BadParameter as error:
            raise UserError(f"{place}: {error.message}") from error
    context.default_map = {**(context.default_map or {}), **defaults}


def _entries(path: Path) -> dict[str, Any]:
    """Return the entries of a TOML file; raise `UserError` for a file that cannot be read or is too large."""
    problem = problem_of(path)
    try:
        if problem is None:
            return tomllib.loads(read_bytes(path, most=MOST_BYTES).decode())
    except UserError as error:
        raise UserError(f"--config: {error}") from None
    except OSError as error:
        problem = f"which cannot be read ({error.strerror or reason(error)})"
    except (ValueError, RecursionError) as error:
        problem = f"which is not TOML: {reason(error)}"
    raise UserError(f"--config: got {path}, {problem}; legal: a TOML file of at most {MOST_BYTES:,} bytes")


def _options(command: click.Command) -> list[click.Option]:
    """Return the options of a command that files may have: not those of its output, such as `--json`."""
    options = (each for each in command.params if isinstance(each, click.Option) and each.expose_value)
    return [each for each in options if each.name not in NOT_IN_FILES]


def _given(value: object, option: click.Option, place: str) -> Scalars:
    """Return the value of an entry as it would be on the command line: a text, or a bool for a flag.

    A list of texts and numbers becomes a comma-separated text; for an option that can be repeated, such as
    `--set`, it stays a list. Raises `UserError`, which begins with `place`, for another type.
    """
    if option.is_flag:
        if not isinstance(value, bool):
            raise UserError(f"{place}; legal: true or false")
        return value
    values = value if isinstance(value, list) else [value]
    if any(isinstance(each, bool) or not isinstance(each, str | int | float) for each in values):
        raise UserError(f"{place}; legal: a text, a number, or a list of them")
    texts = [str(each) for each in values]
    if any("\0" in text for text in texts):  # no path, and no argument of a command, may have it
        raise UserError(f"{place}; legal: text without the character NUL")
    return texts if option.multiple else ",".join(texts)


def _toml(name: str, value: object) -> str:
    """Return a value in TOML. Raises `UserError` for a text that is not Unicode, such as some file names."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(name, each) for each in value)}]"
    text = str(value)
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise UserError(f"--{name}: got {text}; legal with --dump-config: Unicode text")
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(text, ensure_ascii=False))
