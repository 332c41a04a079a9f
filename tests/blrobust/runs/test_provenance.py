import json
import subprocess
import sys

import pytest
from msgspec import convert, to_builtins
from support import invented, stand_in

from blrobust.errors import UserError
from blrobust.runs import provenance
from blrobust.runs.record import Record, digest


def test_the_digest_is_of_canonical_json():
    assert (
        digest({"b": 1, "a": [0.1]})
        == digest({"a": [0.1], "b": 1})
        # printf '{"a":[0.1],"b":1}' | sha256sum
        == "d7582fcee4f8f93004bdb8f725022ae44acb9c523ffa474316662408086c59de"
    )


def test_the_digest_survives_json():
    config = {"levels": [0.1 * i for i in range(21)], "label": "naïve ☃"}
    assert digest(json.loads(json.dumps(config))) == digest(config)


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
    data = stand_in.dataset(5)
    identity = {"name": data.name, "checksum": data.checksum, "n": 5}
    config = invented.configuration("a", n=5, dataset=identity)
    found = provenance.new_record(
        config, dataset=data, cards=[invented.card("a")], device="x", batch_size=7, answers={"a": {}}
    )
    plain = to_builtins(found)
    assert plain["finished"] is None
    assert plain["dataset"]["n"] == 5
    assert plain["dataset"]["std"] == list(stand_in.STD)
    assert len(plain["dataset"]["checksum"]) == 64
    assert plain["config"]["command"] == "noise"
    assert plain["hash"] == digest(plain["config"])
    assert [session["batch_size"] for session in plain["sessions"]] == [7]
    assert plain["answers"] == {"a": {}}
    assert convert(plain, Record) == found


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


def test_facts_that_do_not_fit_are_refused_before_they_are_written():
    data = stand_in.dataset(5)
    identity = {"name": data.name, "checksum": data.checksum, "n": 5}
    config = invented.configuration("a", n=5, dataset=identity)
    cards = [invented.card("a", seed="text")]
    with pytest.raises(UserError, match=r"do not fit run.json: Expected `int \| null`, got `str`"):
        provenance.new_record(config, dataset=data, cards=cards, device="x", batch_size=7)
