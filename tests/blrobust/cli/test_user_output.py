"""Warnings and prints of a user's model: a cause once, with a count, however its text changes."""

import pdb
import sys
from pathlib import Path

import numpy as np
import pytest
from support.plain_model import write_images

from blrobust.cli import main
from blrobust.user_output import masked, prints_counted, warnings_counted

MODEL = """
import sys
import warnings
from support.plain_model import Plain


class Talks(Plain):
    calls = 0

    def forward(self, x):
        self.calls += 1
        print("call", self.calls)
        for name in ("a", "b"):
            print(name, end="")
            print("=", x.mean().item())
        print("error", self.calls, file=sys.stderr)
        sys.stdout.buffer.flush()
        sys.stdout.close()
        warnings.warn(f"call {self.calls}")
        return super().forward(x)


class Rings(Plain):
    def __init__(self):
        print("made \\x1b[31m")
        super().__init__()

    def forward(self, x):
        print("call \\x07")
        return super().forward(x)


class WithoutTextError(Exception):
    def __str__(self):
        raise RuntimeError


def on_meta():
    return Plain().to("meta")


def fails():
    raise WithoutTextError


class Breaks(Plain):
    calls = 0

    def forward(self, x):
        logits = super().forward(x)
        if logits.requires_grad:
            logits.register_hook(self.fail)
        return logits

    def fail(self, gradient):
        self.calls += 1
        if self.calls > 4:  # in the attack: the checks before it count apart
            raise RuntimeError(f"call {self.calls}")
"""


@pytest.fixture(autouse=True)
def _model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "talkative", raising=False)
    Path("talkative.py").write_text(MODEL)
    write_images(Path("images.npz"))


def call(words: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*words.split(), "--dataset", "npz:images.npz", "--device", "cpu", "--out", "run"])
    assert exit_.value.code == code


@pytest.mark.filterwarnings("default:call")
def test_what_a_model_prints_and_warns_at_every_call_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    call("noise --models x=talkative:Talks --sigma 0,0.5")
    printed = capsys.readouterr()
    assert [line.split("=")[0] for line in printed.out.splitlines()[:3]] == ["call 1", "a", "b"]
    assert "call 2" not in printed.out
    lines = printed.err.splitlines()
    assert lines[1:3] == ["error 1", "talkative.py:19: UserWarning: call 1"]
    assert lines[-6].startswith("done in")
    causes = [line.rpartition(": ") for line in lines[-5:]]
    *prints, warned = [int(count.removesuffix(" more")) for *_, count in causes]
    assert set(prints) == {prints[0]}
    assert 0 < warned <= prints[0]  # Python itself drops a warning whose text repeats
    assert [cause for cause, *_ in causes] == [
        "printed at talkative.py:12: call #",
        "printed at talkative.py:15: a= #",
        "printed at talkative.py:15: b= #",
        "printed at talkative.py:16: error #",
        "UserWarning at talkative.py:19",
    ]


def test_control_characters_that_a_model_prints_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    call("noise --models x=talkative:Rings --sigma 0")
    assert capsys.readouterr().out.splitlines()[:2] == ["made \\x1b[31m", "call \\x07"]


def test_a_module_without_weights_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    call("noise --models x=talkative:on_meta --sigma 0", code=2)
    (*_, line) = capsys.readouterr().err.splitlines()
    assert line == (
        "Error: model 'x': got weights on the meta device, which have no values; legal: loaded weights"
    )


def test_an_error_of_a_factory_whose_text_fails_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    call("noise --models x=talkative:fails --sigma 0", code=2)
    (*_, line) = capsys.readouterr().err.splitlines()
    assert "talkative:fails failed: WithoutTextError at talkative.py:" in line


def test_errors_of_a_backward_pass_are_one_cause(caplog: pytest.LogCaptureFixture) -> None:
    call("attack --kind pgd-linf --set steps=2 --strength 0,0.1,0.2,0.3 --models x=talkative:Breaks")
    (line,) = (line for line in caplog.messages if "RuntimeError" in line)
    assert "RuntimeError: call " in line


def test_a_debugger_is_never_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings_counted():
        for _ in range(2):
            with prints_counted():
                pdb.Pdb(nosigint=True, stdout=sys.stdout).message("the same")
    assert capsys.readouterr().out == "the same\nthe same\n"


def test_numbers_are_masked() -> None:
    assert masked(f"loss {np.pi}, step 3") == "loss # step #"
    assert masked("tensor([[ 0.5, -1e-3]])") == masked("tensor([[-0.5,  1e-03]])")
    assert masked("no number") == "no number"
