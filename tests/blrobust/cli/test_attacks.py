"""`blrobust attacks`: the list of attacks."""

import json
import re

import pytest

from blrobust.attacks.catalogue.measured_queries import measured_queries
from blrobust.attacks.catalogue.suites import SUITES
from blrobust.attacks.catalogue.table import ATTACKS
from blrobust.cli import main
from blrobust.cli.attacks import COLUMNS


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    with pytest.raises(SystemExit) as exit_:
        main(["attacks", *arguments])
    assert exit_.value.code == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("columns", [50, 80, 100, 150, 300])
def test_an_attack_is_one_line_below_its_family(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"COLUMNS": str(columns), "FORCE_COLOR": "1", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    lines = listed(capsys)
    family, found = "", {}
    for line in lines[1 : 1 + len(ATTACKS) + 4]:
        if line.startswith("  "):
            found[line.split()[0]] = family
        else:
            family = line.strip()
    assert found == {kind: spec.family for kind, spec in ATTACKS.items()}
    texts = " ".join(" ".join(lines).split())
    assert all(spec.strength.axis in texts for spec in ATTACKS.values())
    if columns >= 80:
        assert max(map(len, lines)) <= columns
    if columns == 100:
        assert lines[0].split() == ["name", "norm", "levels", "forward", "gradient"]
        assert "A wider terminal also shows queries, source." in lines
    if columns == 300:
        assert re.split("  +", lines[0].strip()) == list(COLUMNS)


def test_a_pipe_has_all_columns(capsys: pytest.CaptureFixture[str]) -> None:
    header, family, first, *_ = listed(capsys, "gaussian")
    assert re.split("  +", header) == list(COLUMNS)
    assert family == "noise"
    assert first.split()[:5] == ["gaussian", "none", "0:0.4", "1", "0"]
    assert first.endswith("Dziedzic et al. 2019")


def test_every_attack_has_measured_queries(capsys: pytest.CaptureFixture[str]) -> None:
    found = {each["name"]: each["measured"] for each in json.loads("".join(listed(capsys, "--json")))}
    assert all(found.values())
    assert list(measured_queries()) == list(ATTACKS)
    assert found["fgsm"] == {"forwards": 2, "backwards": 1}


def test_a_suite_has_its_own_levels(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys, "suite:quick")
    assert {line.split()[0] for line in lines if line.startswith("  ")} == set(SUITES["quick"])
    (line,) = (line for line in lines if " pgd-linf " in line)
    assert line.split()[2] == "0,1/255,4/255"
    found = {
        each["name"]: each["levels"] for each in json.loads("".join(listed(capsys, "suite:quick", "--json")))
    }
    assert list(found) == list(SUITES["quick"])
    assert found["pixel"] == [0, 10, 50, 200]


def test_names_patterns_and_suites_together(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys, "pgd-l*", "nes", "suite:standard", "--parameters")
    found = {line.split()[0] for line in lines if line.startswith("  ")}
    assert found == {"pgd-l1", "pgd-l2", "pgd-linf", "nes", *SUITES["standard"]}


@pytest.mark.parametrize(
    ("text", "legal"), [("suite:fast", "suite:quick"), ("pgd", "did you mean pgd-linf or ")]
)
def test_an_unknown_name_is_one_line(text: str, legal: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["attacks", text])
    out, err = capsys.readouterr()
    assert (exit_.value.code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"Error: PATTERNS: got '{text}'")
    assert legal in err
    assert len(err) < 160
