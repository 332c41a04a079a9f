import json
import subprocess
import sys

import pytest
from support import stand_in

from blrobust.errors import UserError
from blrobust.runs import provenance


def test_the_digest_is_of_canonical_json():
    assert (
        provenance.digest({"b": 1, "a": [0.1]})
        == provenance.digest({"a": [0.1], "b": 1})
        # printf '{"a":[0.1],"b":1}' | sha256sum
        == "d7582fcee4f8f93004bdb8f725022ae44acb9c523ffa474316662408086c59de"
    )


def test_the_digest_survives_json():
    config = {"levels": [0.1 * i for i in range(21)], "label": "naïve ☃"}
    assert provenance.digest(json.loads(json.dumps(config))) == provenance.digest(config)


def test_versions_name_what_results_depend_on():
    versions = provenance.versions()
    assert versions["python"].split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    assert {"blrobust", "torch", "numpy"} <= set(versions)


def test_the_command_line_can_be_pasted(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/blrobust", "noise", "--models", "a=b c"])
    assert provenance.command_line() == "blrobust noise --models 'a=b c'"
    monkeypatch.setattr(sys, "argv", ["/somewhere/blrobust/__main__.py", "noise"])
    assert provenance.command_line() == "blrobust noise"


def test_the_record_holds_what_the_protocol_asks_for():
    record = provenance.new_record(
        {"seed": 3}, dataset=stand_in.dataset(5), cards=[{"label": "a"}], device="x", batch_size=7
    )
    assert record["finished"] is None
    assert record["dataset"]["n"] == 5
    assert record["dataset"]["std"] == list(stand_in.STD)
    assert len(record["dataset"]["checksum"]) == 64
    assert record["hash"] == provenance.digest({"seed": 3})
    assert [session["batch_size"] for session in record["sessions"]] == [7]
    json.dumps(record, allow_nan=False)


def git(*arguments, cwd):
    subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True)


class TestGit:
    @pytest.fixture
    def package(self, tmp_path, monkeypatch):
        folder = tmp_path / "package"
        folder.mkdir()
        (folder / "provenance.py").write_text("")
        monkeypatch.setattr(provenance, "__file__", str(folder / "provenance.py"))
        for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
            monkeypatch.setenv(f"{name}_NAME", "a")
            monkeypatch.setenv(f"{name}_EMAIL", "a@b")
        return folder

    def test_no_working_tree_is_none(self, package, monkeypatch):
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(package.parent))
        assert provenance.git_revision() is None

    def test_no_git_is_none(self, package, monkeypatch):
        monkeypatch.setenv("PATH", str(package))
        assert provenance.git_revision() is None

    def test_a_tree_that_does_not_track_the_package_is_none(self, package):
        git("init", cwd=package.parent)
        git("commit", "--allow-empty", "-m", "x", cwd=package.parent)
        assert provenance.git_revision() is None

    def test_the_commit_and_whether_it_was_changed(self, package):
        git("init", cwd=package.parent)
        git("add", "package/provenance.py", cwd=package.parent)
        git("commit", "-m", "x", cwd=package.parent)
        git("tag", "-a", "v1", "-m", "x", cwd=package.parent)
        revision = provenance.git_revision()
        assert revision is not None
        assert len(revision) == 40
        (package / "provenance.py").write_text("changed")
        assert provenance.git_revision() == f"{revision}-dirty"


@pytest.fixture
def record(tmp_path):
    record = provenance.new_record(
        {"seed": 3}, dataset=stand_in.dataset(5), cards=[{"label": "a"}], device="x", batch_size=7
    )
    provenance.write_record(tmp_path, record)
    assert provenance.read_record(tmp_path) == record
    return tmp_path / provenance.FILE


@pytest.mark.parametrize("key", ["config", "models", "dataset", "finished", "sessions", "format", "checksum"])
def test_a_record_that_was_edited_is_corrupt(record, key):
    whole = json.loads(record.read_text())
    for changed in ({**whole, key: "edited"}, {k: v for k, v in whole.items() if k != key}):
        record.write_text(json.dumps(changed))
        with pytest.raises(UserError, match="is corrupt"):
            provenance.read_record(record.parent)


def test_a_record_of_another_format_says_so(record, monkeypatch):
    now = provenance.FORMAT
    monkeypatch.setattr(provenance, "FORMAT", now + 1)
    with pytest.raises(UserError, match=rf"got format {now}; legal: {now + 1}"):
        provenance.read_record(record.parent)
