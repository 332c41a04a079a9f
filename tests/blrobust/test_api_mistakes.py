"""Mistakes in calls of the Python interface: one line that names the argument, before anything is stored."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.plain_model import SHAPE, Plain
from torch.utils.data import TensorDataset

import blrobust
from blrobust.errors import FailedPartsError, UserError

NOISE = {"gaussian": [0, 0.1, 0.4]}


def pair(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of the plain model, with all of its labels."""
    images = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))
    return images, torch.arange(n) % 3


BAD = {
    "models=None": "models: got a NoneType; legal: names, an nn.Module",
    "models={'a': 3}": "models: got a int for 'a'; legal: names, an nn.Module",
    "models={'=a': Plain()}": "label '=a' of model '=a=' starts as a formula",
    "models={'': Plain()}": "label '' of model '=' must be printable text",
    "models={}": "models '' has an empty name",
    "data=3": "data: got a int; legal: a name, a pair (images, labels), a torch data set",
    "data=(images, labels[:3])": "data: got labels of shape (3,); legal: (20,), one per image",
    "data=(images, labels + 0.5)": "data: got labels of type float32; legal: integers",
    "data=(images, labels - 1)": "data: got label -1 for image",
    "data=(images * 2, labels)": "data: got values from ",
    "data=(images.mul(float('nan')), labels)": "data: got values from nan to nan; legal: floats in [0, 1]",
    "data=(images.long(), labels)": "data: got images of type int64; legal: uint8, or float in [0, 1]",
    "data=(images[0], labels)": "data: got images of shape (3, 6, 6); legal: (n, C, H, W)",
    "data=(images.permute(0, 2, 3, 1), labels)": "data: got images of shape (20, 6, 6, 3); legal: (n,",
    "data=([images, 'x'], labels)": "data: the images are not an array: ",
    "data=(images * 0, labels)": "data: a channel has the same value in every pixel",
    "data=(images[:0], labels[:0])": "data: got images of shape (0, 3, 6, 6); legal: (n, C, H, W)",
    "classes=2": "classes: got 2 for labels up to 2; legal: 3 or more",
    "classes=0": "classes: got 0; legal: 1 to 32768, or names",
    "classes=7": "model 'model' returns (2, 3) for two images; arrays wants (2, 7); legal: classes=3, or a",
    "data=(images, labels + labels // 2)": "model 'model' returns (2, 3) for two images; arrays wants (2, 4)",
    "data='cifar10-sample', classes=10": "classes: got classes for data that has its own",
    "data='nothing'": "data set: got 'nothing'; legal: cifar10",
    "data=TensorDataset(images)": "data: item 0 is not (image, label): ",
    "noise=None": "noise, attacks: got neither; legal: at least one of them",
    "noise=0.1": "noise: got 0.1; legal: a dictionary from kinds to levels, or names of kinds",
    "attacks=8": "attacks: got 8; legal: a dictionary from names to levels, or names",
    "noise={'pink': None}": "noise: got 'pink'; legal: gaussian, uniform",
    "noise={'gaussian': [-1]}": "noise: got '-1', where -1 is not from 0 to 1e9",
    "noise={'gaussian': []}": "noise: got no levels; legal: a:b",
    "noise={}": "noise: got no kind; legal: gaussian, uniform",
    "noise=['gaussian', 'uniform']": "space: got none for gaussian and uniform; legal: normalized, pixel",
    "space='lab'": "space: got 'lab'; legal: normalized, pixel, legacy",
    "space='legacy'": "space: got data set arrays; legal: cifar10, cifar10-sample",
    "attacks='pgd'": "attacks: got 'pgd', did you mean pgd-linf or pgd-l2 or pgd-l1?; legal: names, patterns",
    "attacks='fgsm,xyzzy'": "attacks: got 'xyzzy'; legal: names, patterns such as 'pgd*' and suites",
    "attacks={'pgd-linf': [8]}": "attacks: got 8 for pgd-linf; legal: 0 to 1",
    "attacks={}": "attacks: got no attacks; legal: names that 'blrobust attacks' lists",
    "attacks='fgsm', target=1": "target: got 1 for fgsm; legal: targeted attacks",
    "attacks='pgd-linf', parameters={'step': 3}": "parameters: got 'step=3'; legal parameters",
    "attacks='fgsm', source='fp32,fp16'": "source: got 'fp32,fp16'; legal: one model",
    "preset='long'": "preset: got 'long'; legal: default, paper",
    "draws=0": "draws: got 0; legal: whole numbers from 1 to 10,000",
    "seed=-1": "seed: got -1; legal: whole numbers from 0 to 4,294,967,295",
    "seed=0.5": "seed: got 0.5; legal: whole numbers",
    "batch_size=0": "batch_size: got 0; legal: whole numbers from 1",
    "limit=0": "limit: got 0; legal: whole numbers from 1",
    "device='tpu'": "device: got 'tpu'; legal: auto, ",
    "data=(images.to_sparse(), labels)": "data: got images in a sparse_coo tensor; legal: dense tensors",
    "data=(images.to('meta'), labels)": "data: got images in a meta tensor; legal: dense tensors with values",
    "data=(images, labels.to('meta'))": "data: got labels in a meta tensor; legal: dense tensors with values",
    "data=(np.ma.masked_array(images.numpy()), labels)": "data: got images with a mask, which would be",
    "classes=10**9": "classes: got 1000000000; legal: 1 to 32768, or names",
    "classes=3.5": "classes: got 3.5; legal: 1 to 32768, or a list of names",
    "classes='abc'": "classes: got 'abc'; legal: 1 to 32768, or a list of names",
    "classes=True": "classes: got True; legal: 1 to 32768, or a list of names",
    "noise=[('gaussian', [0])]": "noise: got a tuple in a list; legal: a dictionary from kinds to levels",
    "noise={3: None}": "noise: got 3 in a list; legal: a dictionary from kinds to levels",
    "noise={'gaussian': 3j}": "noise: got a complex; legal: a:b",
    "noise={'gaussian': [10**5000]}": "noise: got a list; legal: a:b",
    "noise={'gaussian': '0,a\\0b'}": "noise: got '0,a\\x00b', where 'a\\x00b' is not a number; legal: a:b",
    "attacks=[3]": "attacks: got 3 as a name; legal: a dictionary from names to levels, or names",
    "attacks={3: None}": "attacks: got 3 as a name; legal: a dictionary from names to levels, or names",
    "attacks='fgsm', parameters=3": "parameters: got 3; legal: a dictionary",
    "attacks='fgsm', parameters=[3]": "parameters: got 3 in a list; legal: a dictionary",
    "attacks='fgsm', target='cat'": "target: got 'cat'; legal: whole numbers from 0, or None",
    "attacks='fgsm', preset=None": "preset: got None; legal: default, paper",
    "attacks='fgsm', source=3": "models: got a int; legal: names",
    "seed=None": "seed: got None; legal: whole numbers from 0 to 4,294,967,295",
    "draws=None": "draws: got None; legal: whole numbers from 1 to 10,000",
    "seed=10**5000": "seed: got a number with thousands of digits; legal: whole numbers",
    "arch=3": "arch: got 3; legal: resnet20, resnet18",
    "arch='vgg'": "arch: got 'vgg'; legal: resnet20, resnet18",
    "space=3": "space: got 3; legal: normalized, pixel, legacy",
    "device=3": "device: got 3; legal: auto, ",
    "data='a\\0b'": "data set: got 'a\\x00b'; legal: cifar10",
    "out='file/below'": "out: got file/below, where file is a file; legal: a new or empty folder",
    "out='file'": "out: got file, which is a file; legal: a new or empty folder",
    "out='used'": "out: got used, which has 'mine.txt' and no run.json; legal: a new or empty folder",
}


@pytest.mark.parametrize("arguments", BAD)
def test_a_mistake_is_one_line(arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("used").mkdir()
    Path("used/mine.txt").touch()
    images, labels = pair(20)
    names = {"images": images, "labels": labels, "Plain": Plain, "TensorDataset": TensorDataset, "np": np}
    given = eval(f"dict({arguments})", names)
    call = {"models": Plain(), "data": (images, labels), "noise": NOISE, "out": "run"} | given
    with pytest.raises(UserError) as caught:
        blrobust.evaluate(**call)
    message = str(caught.value)
    assert message.startswith(BAD[arguments])
    assert "--" not in message
    assert message.isprintable()
    assert isinstance(caught.value, ValueError)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (None, "attack: got None; legal: the name of one attack"),
        ("pgd*", "attack: got 'pgd*'; legal: the name of one attack"),
        ("a\0", "attack: got 'a\\x00'; legal: names, patterns"),
    ],
)
def test_an_attack_of_another_name(name: object, told: str) -> None:
    with pytest.raises(UserError) as caught:
        blrobust.attack(name)  # type: ignore[arg-type]
    assert str(caught.value).startswith(told)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match="is not a run folder"):
            blrobust.open_run(path)


RECOVER = {
    "attacks=3": "attacks: got 3; legal: a list of names",
    "attacks='fgsm'": "attacks: got 'fgsm'; legal: a list of names",
    "strength='x'": "strength: got 'x'; legal: numbers above 0, up to 1e+09",
    "strength=0": "strength: got 0; legal: numbers above 0, up to 1e+09",
    "compressions=0.5": "compressions: got 0.5; legal: a list of numbers from 0, below 1",
    "compressions=['x']": "compressions: got 'x' in a list; legal: a list of numbers from 0, below 1",
    "bits=[2.5]": "bits: got 2.5 in a list; legal: a list of whole numbers from 1 to 16",
    "networks=3": "networks: got 3; legal: names of models",
    "seed=None": "seed: got None; legal: whole numbers",
}


@pytest.mark.parametrize("arguments", RECOVER)
def test_a_mistake_in_a_recovery(arguments: str, tmp_path: Path) -> None:
    given = {"data": "cifar10-sample", "limit": 2, "out": tmp_path / "run", **eval(f"dict({arguments})")}
    with pytest.raises(UserError) as caught:
        blrobust.recover(**given)
    assert str(caught.value).startswith(RECOVER[arguments])


@pytest.mark.parametrize("norm", [None, "4", -1, float("nan"), 10**400])
def test_a_norm_of_a_heat_map(norm: object, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"norm: got .*; legal: 0 to 1e"):
        blrobust.heatmap(Plain(), data=pair(4), norm=norm, out=tmp_path / "run")  # type: ignore[arg-type]


def test_a_part_that_fails_leaves_the_other_results(tmp_path: Path) -> None:
    class FailsOnNoise(Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.max() > 1.5 and len(x) == 20:
                raise RuntimeError("too bright")
            return super().forward(x)

    with pytest.raises(FailedPartsError, match=r"'bad'.*too bright") as caught:
        blrobust.evaluate(
            {"good": Plain(), "bad": FailsOnNoise()}, data=pair(20), noise={"gaussian": [0, 3]},
            attacks="fgsm", out=tmp_path / "run",
        )  # fmt: skip
    assert caught.value.folder == tmp_path / "run/noise"
    assert set(blrobust.open_run(tmp_path / "run").table.kind) == {"gaussian", "fgsm"}
