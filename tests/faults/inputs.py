"""Hostile options, files and names: one line, a documented code, and the files that were there stay."""

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from blrobust.runs.database_files import FILES
from blrobust.runs.folder import RESULTS
from blrobust.runs.record import FILE as RECORD
from faults import edits
from faults.commands import SHORT, hostile_command, hostile_name
from faults.process import CODES, Process, run
from faults.result import Fault, Result

BATCH = 50  # inputs that hypothesis draws at once
PATIENCE = 20.0  # seconds; a legal measurement can take hours and is then interrupted
INTERRUPTED = 130
# Written anew by commands that show a run, and made from the files that are compared.
WRITTEN_ANEW = (".html", ".out", ".err")


class Input(NamedTuple):
    """A kind of input, the arguments of a command, and an edit of its folder before it is called."""

    kind: str
    arguments: list[str]
    edit: edits.Edit | None


noise_on_data = ["noise", "--dataset", "npz:data.npz", "--models", "fp32", "--sigma", "0"]
noise_with_weights = ["noise", *SHORT["noise"], "--models", "x=weights.safetensors"]
MAKERS = {  # the commands of the runs; the others fit into one line
    "run": ["noise", *SHORT["noise"]],
    "map": ["heatmap", "fp32", *SHORT["heatmap"]],
    "back": ["recover", *SHORT["recover"]],
}


@st.composite
def run_inputs(draw: st.DrawFn) -> Input:
    """Return a command that reads a run, and an edit of the run."""
    run = draw(st.sampled_from(list(MAKERS)))
    again = [*MAKERS[run], "--out", run]
    readers = [["report", run], ["runs", "."], ["export", run, "--table", "table.csv"], again]
    kind = draw(st.sampled_from(["run.json", "run.json", "run.sqlite"]))
    edit = edits.records(run) if kind == "run.json" else edits.rows(run)
    return Input(kind, draw(st.sampled_from(readers)), draw(edit))


inputs: st.SearchStrategy[Input] = st.one_of(
    st.builds(Input, st.just("options"), hostile_command(), st.none()),
    st.builds(Input, st.just("names"), hostile_name(), st.none()),
    run_inputs(),
    st.builds(Input, st.just("checkpoint"), st.just(noise_with_weights), edits.checkpoints()),
    st.builds(Input, st.just("npz"), st.just(noise_on_data), edits.arrays()),
)


@cache
def batch(number: int) -> list[Input]:
    """Return the inputs of a batch; they depend on its number alone."""
    drawn: list[Input] = []

    @seeded(number)
    @settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def draw(found: Input) -> None:
        drawn.append(found)

    draw()
    return drawn


def trial(seed: int, shared: Path, scratch: Path) -> Result:
    """Call a command with a hostile input."""
    result, drawn = Result(), batch(seed // BATCH)
    kind, arguments, edit = drawn[seed % BATCH % len(drawn)]
    shutil.copytree(bystanders(shared), scratch, dirs_exist_ok=True)
    if edit:
        edit(scratch)
    unfinished = [run for run in MAKERS if _is_unfinished(scratch / run / RECORD)]
    may_change = {f"{run}/{name}" for run in unfinished for name in (RECORD, RESULTS, *FILES)}
    before = digests(scratch)
    process = Process(arguments, scratch)
    process.go()
    ended = process.wait(PATIENCE)
    faults = ended.faults(*CODES, INTERRUPTED)
    errors = [line for line in ended.err.splitlines() if line.startswith("Error")]
    if ended.code == 2 and len(errors) != 1 and "could not be" not in ended.err:
        faults.append(Fault("other", f"{arguments}: {len(errors)} lines of errors: {ended.err[-300:]}"))
    after = digests(scratch)
    lost = [name for name in before.keys() - may_change if after.get(name) != before[name]]
    faults += [Fault("lost", f"{arguments}: {name} has changed") for name in lost]
    result.add(faults, kind)
    what = {0: "carried out", INTERRUPTED: "interrupted, still at work"}.get(ended.code, "refused")
    result.tried[f"{kind}: {what}"] += 1
    return result


def digests(folder: Path) -> dict[str, str]:
    """Return the checksums of the files that no command may change: all but a report and a lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.suffix not in WRITTEN_ANEW and path.name != "lock"
    }


def _is_unfinished(record: Path) -> bool:
    """Return whether an edit made a finished run one that a command may finish again."""
    found = json.loads(record.read_text("utf-8"))
    return isinstance(found, dict) and found.get("finished") is None


@cache
def bystanders(shared: Path) -> Path:
    """Return a folder with a run, data, weights and texts, made once for all trials."""
    folder = shared / "bystanders"
    (folder / "precious").mkdir(parents=True)
    (folder / "precious.txt").write_text("mine\n")
    (folder / "precious" / "letter.txt").write_text("mine too\n")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.savez(folder / "data.npz", images=images, labels=np.arange(4))
    commands = [[*maker, "--out", run] for run, maker in MAKERS.items()]
    for command in (*commands, ["train", "fp32", *SHORT["train"], "--out", "."]):
        ended = run(command, folder)
        if ended.code:
            raise RuntimeError(ended.err)
    (folder / "cifar10-tiny-fp32.safetensors").rename(folder / "weights.safetensors")
    return folder
