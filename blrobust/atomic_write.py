"""Files that are complete or absent: a killed process or a full disk does not leave half a file."""

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
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


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all.

    File names on disk may have bytes that are not UTF-8, and a text may contain such a name. These bytes are
    written as escape sequences such as `\\udcff`, so that the name does not prevent writing the results.
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to a new file in the folder of `path`, sync it to the disk, and rename it to `path`.

    A link at `path` is replaced, not followed. The name of the new file contains a code for the host and the
    id of the process. So a later call recognises files of processes that ended before the rename, and removes
    them.
    """
    temporary = path.with_name(f".blrobust-{HOST}-{os.getpid()}-{secrets.token_hex(8)}.tmp")
    _remove_leftovers(path.parent)
    try:
        with temporary.open("xb") as file:  # exclusive: an existing file or link is an error
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk names no file; the temporary one is unknown to users
            error.filename2 = None
        raise


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files in `folder` that were written by processes of this host that have ended."""
    if os.name != "posix":  # on Windows, `os.kill` ends the process
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match and match[1] == HOST and not _is_alive(int(match[2])):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # the process of another user
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Sync the list of files in `folder` to the disk, if the file system supports it."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
