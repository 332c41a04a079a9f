"""What a hostile user types: one line, the documented exit code, and nothing lost."""

import contextlib
import dataclasses
import errno
import json
import os
import re
import resource
import shlex
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from safetensors.torch import save_file
from support.messages import error

from blrobust.cli import main
from blrobust.errors import UserError
from blrobust.models import checkpoint, zoo
from blrobust.runs.record import Record, digest
from blrobust.runs.run import Run

MODULE = """
import sys
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, classes))
    def forward(self, x):
        return x.mean((1, 2, 3))[:, None] * self.weight

class Nan(Net):
    def forward(self, x):
        return super().forward(x) * float("nan")

class Pair(Net):
    def forward(self, x):
        return "logits", 1

class Picky(Net):
    def forward(self, x):
        assert x.max() <= 1, "not an image"
        return super().forward(x)

class Rude(Net):
    def forward(self, x):
        sys.exit(0)

def raises():
    raise RuntimeError("two\\nlines \\x1b[31m in red")

def text():
    return "a model"

def seven():
    return Net(7)

def leaves():
    sys.exit(0)
"""
GOOD = "--models a=hostile:Net --dataset npz:good.npz --sigma 0:1"

# What is typed, and what the one line must say. The files are made below.
CASES = """
noise --models fp31                               | unknown model 'fp31'; legal are fp32
noise --models fft0                               | unknown model 'fft0'
noise --models fft100                             | unknown model 'fft100'
noise --models fft61                              | make them with: blrobust train fft61
noise --models fp32 --arch vgg                    | --arch: got 'vgg'; legal: resnet20
noise --models ''                                 | models '' has an empty name
noise --models fp32,                              | has an empty name
noise --models fp32,fp32                          | model 'fp32' is given twice
noise --models a=hostile:Net,a=x.safetensors      | model 'a' is given twice
noise --models =hostile:Net                       | label '' of model
noise --models $'a\\x1b[31m=hostile:Net'          | label 'a\\x1b[31m' of model
noise --models $'a\\nb=hostile:Net'               | new-line character
noise --models a=                                 | what follows the last '=' must be FILE.safetensors
noise --models a=hostile.py                       | what follows the last '=' must be FILE.safetensors
noise --models a=missing.safetensors              | checkpoint missing.safetensors does not exist
noise --models a=folder.safetensors               | checkpoint folder.safetensors
noise --models a=text.safetensors                 | text.safetensors is not a readable safetensors file
noise --models a=empty.safetensors                | empty.safetensors is not a readable safetensors file
noise --models a=truncated.safetensors            | truncated.safetensors is not a readable
noise --models a=foreign.safetensors              | was not written by blrobust
noise --models a=misfit.safetensors               | does not fit resnet18
noise --models a=facts.safetensors                | unusable metadata: Expected `int`, got `str`
noise --models a=nan.safetensors                  | logits that are not finite
noise --models a=nowhere:Net                      | No module named 'nowhere'
noise --models a=hostile:absent                   | has no attribute 'absent'
noise --models a=syntax:net                       | SyntaxError
noise --models a=hostile:raises                   | RuntimeError: two lines \\x1b[31m in red
noise --models a=hostile:leaves                   | hostile:leaves failed: SystemExit
noise --models a=hostile:text                     | returned a str, not an nn.Module
noise --models a=hostile:seven                    | returns (2, 7)
noise --models a=hostile:Nan                      | logits that are not finite
noise --models a=hostile:Pair                     | returns tuple
noise --models a=hostile:Rude                     | fails on images (3, 32, 32)
noise --sigma 2:0                                 | the first level 2 is not below the last 0
noise --sigma 1:1                                 | the first level 1 is not below the last 1
noise --sigma -1:2                                | -1 is not from 0 to 1e9
noise --sigma -0.5                                | -0.5 is not from 0 to 1e9
noise --sigma nan                                 | nan is not from 0 to 1e9
noise --sigma 0:inf                               | inf is not from 0 to 1e9
noise --sigma 1e39                                | 1e39 is not from 0 to 1e9
noise --sigma ''                                  | --sigma: got '', where '' is not a number; legal: a:b
noise --sigma lots                                | 'lots' is not a number
noise --sigma 0,,1                                | got '0,,1', where '' is not a number
noise --sigma 0:1:0                               | the step must be > 0
noise --sigma 0:1:1e-7                            | give at most 1001 levels
noise --sigma 0:1:2:3                             | too many colons
noise --epsilon 0:1                               | --epsilon: got 0:1 with --kind gaussian; legal: --sigma
noise --kind uniform --sigma 0:1                  | --sigma: got 0:1 with --kind uniform; legal: --epsilon
noise --kind pink                                 | 'pink' is not one of 'gaussian', 'uniform'
noise --space fourier                             | 'fourier' is not one of 'normalized', 'pixel'
noise --space pixel --legacy                      | --space: got pixel with --legacy; legal
noise --legacy --models a=hostile:Net --dataset npz:good.npz | got data set npz:good.npz; legal: cifar10
noise --draws 0                                   | '--draws': 0 is not in the range
noise --draws 99999999999                         | '--draws': 99999999999 is not in the range
noise --limit 0                                   | '--limit': 0 is not in the range
noise --limit many                                | '--limit': 'many' is not a valid integer
noise --batch-size 0                              | '--batch-size': got 0; legal: a whole number
noise --seed -1                                   | '--seed': -1 is not in the range
noise --device tpu                                | --device: got 'tpu'; legal: auto
noise --device cuda:99                            | --device: got 'cuda:99'; legal: auto
noise --dataset imagenet                          | data set: got 'imagenet'; legal: cifar10
noise --dataset cifar10                           | Get it with: blrobust data get cifar10
noise --dataset cifar10 --data-dir damaged        | cifar10 is incomplete or damaged
noise --data-dir damaged                          | cifar10 is incomplete or damaged
noise --dataset folder:                           | data set: got 'folder:'; legal: folder:PATH
noise --dataset folder:missing                    | got missing, which does not exist
noise --dataset folder:flat                       | got flat without sub-folders; legal: one per class
noise --dataset folder:hollow                     | got hollow/a without images; legal: files in .png
noise --dataset folder:odd                        | got 31x31 pixels; legal: 32x32, the size of
noise --dataset folder:torn                       | torn/b/1.png cannot be read as an image
noise --dataset npz:missing.npz                   | npz: got missing.npz, which does not exist
noise --dataset npz:text.npz                      | got text.npz, which is damaged or of another format
noise --dataset npz:keys.npz                      | got keys.npz with a; legal: x and y
noise --dataset npz:shape.npz                     | x in shape.npz: got shape (12, 32, 32, 2); legal
noise --dataset npz:length.npz                    | legal: 12 integers, one per image
noise --dataset npz:pickled.npz                   | x: Object arrays cannot be loaded
noise --dataset npz:range.npz                     | got values from 0 to 255; legal: floats in [0, 1]
noise --dataset npz:labels.npz                    | got labels from -1 to 8; legal: 0 to
noise --dataset npz:classes.npz                   | legal: at least 10 texts
noise --dataset npz:flat.npz                      | a channel has the same value in every pixel
noise {GOOD} --out file                           | --out: got file, which is a file; legal: a new
noise {GOOD} --out file/below                     | --out: got file/below, where file is a file; legal: a new
noise {GOOD} --out dangling                       | --out: got dangling, where dangling is a link to nothing
noise {GOOD} --out foreign                        | got foreign, which has 'notes.txt' and no run.json; legal
noise {GOOD} --out done --limit 3                 | another configuration (different: dataset); legal
noise {GOOD} --out done --seed 1                  | another configuration (different: seed)
noise {GOOD} --out json                           | json/run.json is corrupt
noise {GOOD} --out edited                         | edited/run.json is corrupt: checksum mismatch
noise {GOOD} --out newer                          | newer/run.json: got format 5; legal: 2, 3, 4
noise {GOOD} --out sqlite                         | sqlite/run.sqlite cannot be used
noise --nonsense                                  | No such option '--nonsense'
noise extra                                       | unexpected extra argument (extra)
attack                                            | Missing option '--kind'
attack --kind nonsense                            | --kind: got 'nonsense'; legal:
attack --kind pgd_linf                            | did you mean pgd-linf or band
attack --kind fgsm --strength 8                   | write 8/255
attack --kind apgd-targeted --target 3            | got 3 for apgd-targeted; legal: targeted attacks (gen)
attack --kind pgd* --set steps=3 --set steps=4    | got 'steps=3' and 'steps=4'; legal: each parameter once
attack --kind fgsm --set eot=2,eot=2              | got 'eot=2' and 'eot=2'; legal: each parameter once
attack --kind deepfool-l2 --set candidates=1000   | legal for 10 classes: 2 to 10
attack --kind apgd-targeted --set targets=20      | legal for 10 classes: 1 to 9
attack --kind local-search --set candidates=1025  | legal for images of 32 x 32: 1 to 1024
attack --kind simba-dct --set frequencies=33      | legal for images of 32 x 32: 1 to 32
attack --kind fourier --set row=99                | legal for images of 32 x 32: -16 to 16
attack --kind fourier --set column=-17            | legal for images of 32 x 32: -16 to 16
attack --kind fourier-worst --set step=32         | legal for images of 32 x 32: 1 to 31
recover --strength 2/0                            | got 2/0; legal: a number such as 0.01 or 2/255
attack --kind pixel --strength 0.5                | got strength 0.5; legal: whole numbers of pixels
attack --kind pixel --strength 5000               | whole numbers of pixels from 0 to 1024
attack --kind pixel --strength 0:1                | strength 0.05
attack --kind pixel --sigma 0:1                   | No such option '--sigma'
attack --kind pixel --legacy --models a=hostile:Net --dataset npz:good.npz | legal: cifar10, cifar10-sample
report                                            | Missing argument 'RUN...'
report missing                                    | RUN: got 'missing', which does not exist; legal: a run
report foreign                                    | foreign is not a run folder: it has no run.json
report json                                       | json/run.json is corrupt
report newer                                      | newer/run.json: got format 5
report sqlite                                     | sqlite/run.sqlite cannot be used
report blob                                       | blob/run.sqlite cannot be used
report begun                                      | begun/run.sqlite cannot be used
report done done                                  | RUN: got done more than once
report done --output nowhere/report.html          | a folder that exists (nowhere does not)
report done --output folder.html                  | is a directory
report done --out done/run.json                   | legal: a name that ends in .html
report done --output done/run.sqlite              | legal: a name that ends in .html
runs missing                                      | FOLDER: got missing; legal: a folder that exists
runs foreign                                      | FOLDER: got foreign; legal: a run folder
runs file                                         | FOLDER: got file; legal: a folder that exists
data get nonsense                                 | data set: got 'nonsense'; legal: cifar10
data get                                          | Missing argument 'NAME'
data put cifar10                                  | No such command 'put'
models nonsense                                   | unexpected extra argument
train                                             | --models: got none; legal: models
train fp32 --models fft50                         | --models: got fft50 beside the argument fp32
heatmap                                           | --models: got none; legal: models
heatmap fp32 --models fft50                       | --models: got fft50 beside the argument fp32
train nonsense                                    | unknown model 'nonsense'
train a=x.safetensors                             | unknown model 'a=x.safetensors'
train fp32 --arch vgg                             | --arch: got 'vgg'
train fp32 --dataset npz:good.npz                 | got 'train' for npz:good.npz; legal: test
train fp32 --dataset cifar10-sample               | got 'train' for cifar10-sample; legal: test
train fp32                                        | Get it with: blrobust data get cifar10
train fp32 --lr 0                                 | '--lr': 0.0 is not in the range
train fp32 --lr nan                               | '--lr': got nan; legal: a finite number
train fp32 --epochs 0                             | '--epochs': 0 is not in the range
train fp32 --noise nan                            | '--noise': got nan; legal: a finite number
train fp32,fp32-early                             | got fp32 and fp32-early, which have different recipes
train lowpass0.5+fp32                             | unknown model 'lowpass0.5+fp32'
noise --models lowpass0.5                         | got the channel 'lowpass0.5' without a model
noise --models lowpass1.5+fp32                    | got an input low-pass of compression 1.5; legal
noise --models lowpass0.5x+fp32                   | got the channel 'lowpass0.5x'; legal: lowpassC
noise --models depth0+fp32                        | got a colour depth of 0 bits; legal: 1 to 16
noise --models depth2.5+fp32                      | got the channel 'depth2.5'; legal: lowpassC
noise --models blur99+fp32                        | got a blur of sigma 99 pixels; legal: 1e-06 to 20
noise --models blur1e-300+fp32                    | got a blur of sigma 1e-300 pixels; legal: 1e-06 to 20
noise --models blur9+fp32                         | a blur of 9 pixels reaches over images of 32 x 32
noise --models lowpass-fft70+fp32                 | got lowpass-fft70 for cifar10-resnet20
nonsense                                          | no such command 'nonsense'; blrobust --help lists
--nonsense                                        | No such option '--nonsense'
"""
TABLE = [[part.strip() for part in line.rsplit(" | ", 1)] for line in CASES.strip().splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with everything that is wrong."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name in ("BLROBUST_DATA", "BLROBUST_WEIGHTS", "XDG_CACHE_HOME"):
            patch.setenv(name, str(place / "nothing"))
        Path("hostile.py").write_text(MODULE)
        Path("syntax.py").write_text("def net(:\n")
        make_checkpoints()
        make_images()
        with pytest.raises(SystemExit) as exit_:
            main(["noise", *GOOD.split(), "--out", "done"])
        assert exit_.value.code == 0
        make_runs()
        yield place


def make_checkpoints():
    bundled = zoo.BUNDLED / "cifar10-resnet20-fp32.safetensors"
    tensors, facts = checkpoint.load(bundled)
    Path("text.safetensors").write_text("a text\n" * 9)
    Path("empty.safetensors").touch()
    Path("folder.safetensors").mkdir()
    Path("truncated.safetensors").write_bytes(bundled.read_bytes()[:9000])
    save_file({"weight": torch.zeros(3)}, "foreign.safetensors")
    wrong = {
        "format": checkpoint.FORMAT,
        "facts": json.dumps({**dataclasses.asdict(facts), "classes": "ten"}),
    }
    save_file({"weight": torch.zeros(3)}, "facts.safetensors", wrong)
    few = {"weight": torch.zeros(3)}
    checkpoint.save(Path("misfit.safetensors"), few, dataclasses.replace(facts, arch="resnet18"))
    spoilt = {name: torch.full_like(tensor, torch.nan) for name, tensor in tensors.items()}
    checkpoint.save(Path("nan.safetensors"), spoilt, facts)


def make_images():
    x = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    y = np.arange(12) % 10
    np.savez("good.npz", x=x, y=y)
    np.savez("keys.npz", a=x)
    np.savez("shape.npz", x=x[..., :2], y=y)
    np.savez("length.npz", x=x, y=y[:5])
    np.savez("pickled.npz", x=np.array([{}], dtype=object), y=y[:1])
    np.savez("range.npz", x=x.astype(float), y=y)
    np.savez("labels.npz", x=x, y=y - 1)
    np.savez("classes.npz", x=x, y=y, classes=np.array(["one"]))
    np.savez("flat.npz", x=x * 0, y=y)
    Path("text.npz").write_text("a text")
    for name, size in {
        "flat/1.png": 32,
        "odd/a/1.png": 32,
        "odd/b/1.png": 31,
        "torn/a/1.png": 32,
        "torn/b/1.png": 32,
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[0, :size, :size]).save(name)
    Path("torn/b/1.png").write_bytes(Path("torn/a/1.png").read_bytes()[:900])
    Path("hollow/a").mkdir(parents=True)
    batch = Path("damaged/cifar-10-batches-py/test_batch")
    batch.parent.mkdir(parents=True)
    batch.write_bytes(b"not CIFAR" * 99)


def make_runs():
    """Copies of the run in "done", each damaged in its own way."""
    Path("file").write_text("mine")
    Path("folder.html").mkdir()
    Path("foreign").mkdir()
    Path("dangling").symlink_to("absent")
    Path("foreign/notes.txt").write_text("mine")
    for name in ("json", "edited", "newer", "sqlite", "begun", "blob"):
        shutil.copytree("done", name)
    Path("json/run.json").write_text('{"config": {"ver')
    edited = Path("edited/run.json")
    edited.write_text(edited.read_text().replace('"seed": 0', '"seed": 1'))
    record = Record.read(Path("done"))
    plain = json.loads(Path("done/run.json").read_text()) | {"format": 5}
    del plain["checksum"]
    Path("newer/run.json").write_text(json.dumps(plain | {"checksum": digest(plain)}))
    Path("sqlite/run.sqlite").write_bytes(b"not a database" * 999)
    record.finished = None
    record.write(Path("begun"))
    Path("begun/run.sqlite").write_bytes(Path("done/run.sqlite").read_bytes()[:5000])
    database = sqlite3.connect("blob/run.sqlite")
    with database:
        database.execute("UPDATE cells SET outcomes = x'00'")
    database.close()


def contents(place):
    """Every file below a folder with its bytes; what only reading makes is left out."""
    made_by_reading = {"__pycache__", "run.sqlite-shm", "run.sqlite-wal"}
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in place.rglob("*")
        if not made_by_reading & set(path.relative_to(place).parts)
    }


def refused(capsys, arguments):
    """The one line on stderr that the command ends with."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    shown = capsys.readouterr()
    assert exit_.value.code == 2
    assert shown.out == ""
    line = error(shown.err)
    assert line.isprintable()
    return line


def words(line):
    """The arguments of a line as a shell reads it, with $'...' for control characters."""
    line = line.replace("{GOOD}", GOOD)
    line = re.sub(r"\$'(.*?)'", lambda m: shlex.quote(m[1].encode().decode("unicode_escape")), line)
    return shlex.split(line)


@pytest.mark.parametrize(("line", "told"), TABLE, ids=[line for line, _ in TABLE])
def test_one_line_and_nothing_lost(place, capsys, line, told):
    before = contents(place)
    assert told in refused(capsys, words(line))
    assert contents(place) == before


def test_there_are_more_than_fifty_kinds():
    assert len({line for line, _ in TABLE}) == len(TABLE) > 100


def test_a_network_that_fails_on_noise_only_is_named_with_the_level(place, capsys):
    arguments = words("noise --models a=hostile:Picky --dataset npz:good.npz --sigma 0,1 --out picky")
    message = "Error: model 'a' at gaussian 1: failed on 12 images: AssertionError: not an image"
    for _ in range(2):  # also where the run goes on
        assert refused(capsys, arguments) == message
        with Run.open(Path("picky")) as run:
            assert run.done() == {("a", "gaussian", 0.0, 0)}


def test_a_run_that_another_process_works_on(place, capsys):
    Path("busy").mkdir()
    with FileLock("busy/lock"):
        before = contents(place)
        message = refused(capsys, words("noise {GOOD} --out busy"))
        assert message == "Error: busy: another process is working on this run"
        assert contents(place) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize(
    "line",
    ["noise {GOOD} --out sealed/run", "noise {GOOD} --out sealed", "report done --output sealed/a.html"],
)
def test_a_folder_without_write_permission(place, capsys, line):
    sealed = Path("sealed")
    sealed.mkdir(mode=0o500, exist_ok=True)
    assert "sealed" in refused(capsys, words(line))
    assert not list(sealed.iterdir())


def test_a_damaged_database_of_an_unfinished_run_stays_as_it_is(place, capsys):
    before = Path("begun/run.sqlite").read_bytes()
    assert "begun/run.sqlite cannot be used" in refused(capsys, words("noise {GOOD} --out begun"))
    assert Path("begun/run.sqlite").read_bytes() == before


@contextlib.contextmanager
def room(size):
    """A limit on the size of files stands in for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (100, f"full100/run.json: {os.strerror(errno.EFBIG)}"),
        (20_000, f"full20000/run.sqlite: {os.strerror(errno.EFBIG)}"),  # written as a whole at the start
        (50_000, "run.sqlite cannot"),
    ],
)
def test_a_full_disk_loses_no_finished_cell(place, capsys, size, told):
    arguments = words(f"noise {{GOOD}} --out full{size}")
    with room(size):
        assert told in refused(capsys, arguments)
    folder = Path(f"full{size}")
    assert not list(folder.glob(".*"))
    done = set()
    if (folder / "run.sqlite").exists():
        with contextlib.suppress(UserError), Run.open(folder) as run:  # not even its tables fitted
            done = run.done()
            assert not run.finished
    assert bool(done) == (size == 50_000)
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 0
    with Run.open(folder) as run:
        assert run.finished
        assert done < run.done()


def test_a_full_disk_keeps_the_old_report(place, capsys):
    before = contents(place)
    with room(5000):
        assert refused(capsys, ["report", "done"]).startswith("Error: done/report.html: ")
    assert contents(place) == before
