"""Free memory within the limits of machine, container and process."""

from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest

from blrobust import memory
from blrobust.errors import UserError

GB = 10**9
NO_LIMIT = 2**63 - 4096  # in version 1


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups, on a machine with 64 GB free."""
    monkeypatch.setattr(memory, "PROCESS_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(
        memory, "FILES", {v: (tmp_path / f"v{v}", *files) for v, (_, *files) in memory.FILES.items()}
    )
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Mock(available=64 * GB))
    return tmp_path


def limit(folder: Path, most: int | str, used: int, *, droppable: int = 0, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _, *names, kinds = memory.FILES[version]
    for name, value in zip(names, (most, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    stat = "\n".join(f"{kind} {droppable // 2}" for kind in kinds)
    (folder / "memory.stat").write_text(f"anon 5\n{stat}\nworkingset_nodes 0\n")


def test_no_groups(groups: Path) -> None:
    assert memory.available() == 64 * GB
    (groups / "cgroup").write_text("0::/somewhere/else\n")
    assert memory.available() == 64 * GB


def test_the_smallest_limit_of_the_groups_around_the_process(groups: Path) -> None:
    (groups / "cgroup").write_text("0::/a/b/c\n")
    limit(groups / "v2" / "a" / "b" / "c", "max", 7 * GB)
    limit(groups / "v2" / "a" / "b", 10 * GB, 8 * GB, droppable=3 * GB)
    limit(groups / "v2" / "a", 20 * GB, 14 * GB)
    assert memory.available() == 5 * GB
    limit(groups / "v2" / "a", 20 * GB, 19 * GB)
    assert memory.available() == 1 * GB
    limit(groups / "v2" / "a", 100 * GB, 0)
    limit(groups / "v2" / "a" / "b", 100 * GB, 0)
    assert memory.available() == 64 * GB
    limit(groups / "v2" / "a" / "b", 1 * GB, 2 * GB)
    assert memory.available() == 0


@pytest.mark.parametrize("group", ["/", "/docker/0123", "/../other"])
def test_inside_a_container(groups: Path, group: str) -> None:
    """The group is at the top of the tree, whatever its name is outside."""
    (groups / "cgroup").write_text(f"9:name=systemd:/\n4:cpu,memory:{group}\n0::{group}\n")
    limit(groups / "v1", 4 * GB, 3 * GB, droppable=1 * GB, version=1)
    assert memory.available() == 2 * GB
    limit(groups / "v1", NO_LIMIT, 3 * GB, version=1)
    assert memory.available() == 64 * GB


def test_files_that_are_damaged(groups: Path) -> None:
    (groups / "cgroup").write_text("0::/a\n")
    (groups / "v2" / "a" / "memory.max").mkdir(parents=True)
    assert memory.available() == 64 * GB
    limit(groups / "v2", "text", 3)
    assert memory.available() == 64 * GB
    (groups / "cgroup").write_text("no line of a group\n\n1:memory\n0:\n")
    assert memory.available() == 64 * GB


def test_a_machine_that_cannot_be_queried(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", Mock(side_effect=OSError))
    assert memory.available() is None
    memory.check(10**18, "the work", legal="less")


def test_the_message_has_both_sizes(groups: Path) -> None:
    memory.check(64 * GB, "the work", legal="less")
    with pytest.raises(UserError, match=r"^the work: needs 65.0 GB of memory, 64.0 GB are free; legal: "):
        memory.check(65 * GB, "the work", legal="less")


def test_this_machine() -> None:
    free = memory.available()
    assert free is not None
    assert 0 < free <= psutil.virtual_memory().total
