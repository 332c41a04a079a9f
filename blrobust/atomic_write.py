"""Files that are complete or absent: a killed process or a full disk does not leave half a file."""

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path

HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_TEMPORARY = re.compile(r"\.blrobust-([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{16}\.tmp")
# Names of temporary files in early versions of 0.1.0, which a killed process may have left.
_PREDICTABLE = re.compile(
    r"\.((run|measurement)\.json|(results|heatmap|recovery|[^/]+\.history)\.csv"
    r"|(report|heatmap|recovery)\.html|[^/]+\.safetensors)\.tmp"
)
# Errors of file systems that cannot open or sync a folder.
_UNSUPPORTED = {errno.EINVAL, errno.EACCES, errno.ENOTSUP}


def is_temporary(name: str) -> bool:
    """Return whether `name` is a name of temporary files of `write_bytes`, of this or an earlier version.

    Files of an earlier version are never opened or removed: a process may still write to them.
    """
    return any(pattern.fullmatch(name) for pattern in (_TEMPORARY, _PREDICTABLE))


def write_text(path: Path, text: str, *, check: Callable[[], None] = lambda: None) -> None:
    """Write `text` to `path` as UTF-8, completely or not at all; `check` is that of `write_bytes`.

    File names on disk may have bytes that are not UTF-8, and a text may contain such a name. These bytes are
    written as escape sequences such as `\\udcff`, so that the text can be written.
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"), check=check)


def write_bytes(path: Path, content: bytes, *, check: Callable[[], None] = lambda: None) -> None:
    """Write `content` to a new file in the folder of `path`, sync it to the disk, and rename it to `path`.

    A link at `path` is replaced, not followed. The name of the new file contains a code for the host and the
    id of the process. So a later call recognises files of processes that ended before the rename, and removes
    them.

    `check` raises an error if the folder is not the right one. It is called after the folder was opened, and
    all files are written relative to the open folder. So even if the folder is moved or replaced after the
    check, the file is written into the folder that was checked.
    """
    name, folder = f".blrobust-{HOST}-{os.getpid()}-{secrets.token_hex(8)}.tmp", None
    try:
        try:
            folder = _open_folder(path.parent)
        except FileNotFoundError:
            check()  # its error says that the folder was moved
            raise
        check()
        _remove_leftovers(path.parent, folder)
        temporary, target = (_relative(path.with_name(each), folder) for each in (name, path.name))
        # Exclusive: an existing file or link is an error.
        with open(temporary, "xb", opener=partial(os.open, mode=0o666, dir_fd=folder)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target, src_dir_fd=folder, dst_dir_fd=folder)
        _sync_folder(folder)
    except BaseException as error:
        _remove(path.with_name(name), folder)
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk names no file; the temporary one is unknown to users
            error.filename2 = None
        raise
    finally:
        if folder is not None:
            os.close(folder)


def _relative(path: Path, folder: int | None) -> Path:
    """Return the path of a file relative to its open `folder`; `path` itself if `folder` is None."""
    return path if folder is None else Path(path.name)


def _open_folder(path: Path) -> int | None:
    """Return a descriptor of the folder `path`; None on systems where folders cannot be opened."""
    if os.name != "posix":
        return None
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return None


def _remove(path: Path, folder: int | None) -> None:
    """Remove the file `path`, relative to its open `folder` unless this is None; errors are ignored."""
    with contextlib.suppress(OSError):
        os.unlink(_relative(path, folder), dir_fd=folder)


def _remove_leftovers(path: Path, folder: int | None) -> None:
    """Remove temporary files in the folder `path` that were written by ended processes of this host.

    `folder` is a descriptor of the folder, or None.
    """
    if os.name != "posix":  # on Windows, `os.kill` ends the process
        return
    with contextlib.suppress(OSError), os.scandir(path if folder is None else folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match and match[1] == HOST and not _is_alive(int(match[2])):
                _remove(path / entry.name, folder)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # the process of another user
        return True
    return True


def _sync_folder(folder: int | None) -> None:
    """Sync the list of files in an open folder to the disk, if the file system supports it."""
    if folder is None:
        return
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
