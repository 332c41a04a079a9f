"""The Python interface: the same bits as the command line, plain PyTorch as the judge, errors in one line."""

import io
import json
import subprocess
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import foolbox
import numpy as np
import pandas as pd
import pytest
import torch
from support import invented
from support.plain_model import SHAPE, Plain, write_images
from torch import nn
from torch.utils.data import TensorDataset

import blrobust
from blrobust.cli import main
from blrobust.errors import UserError
from blrobust.perturbations import random_numbers
from blrobust.runs.record import Record

NOISE = {"gaussian": [0, 0.1, 0.4]}
ATTACKS = {"pgd-linf": ["0", "8/255"], "deepfool-l2": [0.2], "square-linf": "0,0.05"}


def pair(n: int = 130) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of the plain model and labels that it often gets right; more than one block."""
    source = torch.Generator().manual_seed(1)
    images = torch.rand(n, *SHAPE, generator=source)
    with torch.no_grad():
        labels = Plain()(images).argmax(1)
    labels[::5] = (labels[::5] + 1) % 3
    return images, labels


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    code: int = exit_.value.code
    return code


def rows(folder: Path) -> pd.DataFrame:
    """The results as text, without the wall times."""
    return pd.read_csv(folder / "results.csv", dtype=str).drop(columns="seconds")


# The example of the requirement


def test_noise_and_attacks_make_two_runs_and_one_table(tmp_path: Path) -> None:
    images, labels = pair()
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    run = blrobust.evaluate(
        {"mine": model, "plain": Plain()}, data=(images, labels), noise=NOISE, space="pixel",
        attacks={"pgd-linf": ["0", "2/255"], "fgsm": None}, limit=120, out=tmp_path / "mine",
    )  # fmt: skip
    assert [folder.name for folder in run.folders] == ["noise", "attack"]
    stored = [pd.read_csv(folder / "results.csv") for folder in run.folders]
    pd.testing.assert_frame_equal(run.table.drop(columns="level_label"), pd.concat(stored, ignore_index=True))
    labels = run.per_image()[["kind", "level", "level_label"]].drop_duplicates().astype({"level_label": str})
    assert len(run.table.merge(labels)) == len(run.table)
    assert run.table.level_label[run.table.kind == "pgd-linf"].tolist() == ["0", "2/255"] * 2
    assert run.table.kind.unique().tolist() == ["gaussian", "pgd-linf", "fgsm"]
    assert set(run.table.n) == {120}
    images_table = run.per_image()
    assert len(images_table) == 120 * len(run.table)
    found = images_table.groupby(["kind", "model", "level"], observed=True).correct.mean()
    wanted = run.table.set_index(["kind", "model", "level"]).accuracy
    np.testing.assert_allclose(found.loc[wanted.index], wanted)
    assert set(run.summary(baseline="plain").model) == {"mine", "plain"}
    assert set(run.worst_case().attacks) == {2}
    page = run.report(tmp_path / "report.html").read_text("utf-8")
    with pytest.raises(UserError, match=r"path: got .*run.json; legal: a name that ends in .html or .htm"):
        run.report(run.folder / "run.json")
    assert "pgd-linf" in page
    assert "2 runs compared" in page
    again = blrobust.open_run(tmp_path / "mine")
    assert again.folders == run.folders
    pd.testing.assert_frame_equal(again.table, run.table)


def test_accuracy_is_that_of_plain_pytorch(tmp_path: Path) -> None:
    images, labels = pair()
    run = blrobust.evaluate(Plain(), data=(images, labels), noise=NOISE, space="pixel", seed=7, out=tmp_path)
    table = run.per_image()
    for level, found in table.groupby("level"):
        z = random_numbers.standard_normal(SHAPE, seed=7, draw=0, samples=range(len(images)))
        noisy = (images.double() + level * z.double()).clamp(0, 1)
        with torch.no_grad():
            logits = Plain().double()(noisy)
        chances = logits.softmax(1)[range(len(labels)), labels]
        sure = (logits.topk(2).values.diff().abs() > 1e-4).squeeze(1).numpy()
        assert (found.prediction.to_numpy() == logits.argmax(1).numpy())[sure].all()
        np.testing.assert_allclose(found.probability_label, chances, rtol=6e-4, atol=1e-6)
    assert run.table.accuracy.tolist() == table.groupby("level").correct.mean().tolist()


# The same bits as the command line


def test_noise_has_the_bits_of_the_command_line(tmp_path: Path) -> None:
    assert call("noise", "--models", "fp32,fft85", "--sigma", "0,0.3", "--draws", 2, "--limit", 20,
                "--dataset", "cifar10-sample", "--seed", 3, "--out", tmp_path / "cli") == 0  # fmt: skip
    run = blrobust.evaluate(
        ["fp32", "fft85"], data="cifar10-sample", noise={"gaussian": [0.3]}, draws=2, limit=20, seed=3,
        out=tmp_path / "api",
    )  # fmt: skip
    assert run.folders == (tmp_path / "api",)
    pd.testing.assert_frame_equal(rows(tmp_path / "api"), rows(tmp_path / "cli"))
    command_line = blrobust.open_run(tmp_path / "cli").per_image()
    pd.testing.assert_frame_equal(run.per_image(), command_line)
    records = [Record.read(tmp_path / name) for name in ("cli", "api")]
    assert records[0].hash == records[1].hash


def test_a_module_has_the_bits_of_a_factory(tmp_path: Path) -> None:
    write_images(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as archive:
        images, labels = archive["x"], archive["y"]
    strengths = ["--kind", "pgd-linf,square-linf", "--strength", "0,8/255", "--set", "steps=7"]
    assert call("attack", "--models", "mine=support.plain_model:Plain", *strengths, "--dataset",
                f"npz:{tmp_path / 'x.npz'}", "--out", tmp_path / "cli") == 0  # fmt: skip
    run = blrobust.evaluate(
        {"mine": Plain()}, data=(images, labels), classes=["a", "b", "c"], out=tmp_path / "api",
        attacks={"pgd-linf": [0, "8/255"], "square-linf": [0, 8 / 255]}, parameters={"steps": 7},
    )  # fmt: skip
    assert set(run.table.dataset) == {"arrays"}
    found, wanted = (rows(tmp_path / name).drop(columns="dataset") for name in ("api", "cli"))
    pd.testing.assert_frame_equal(found, wanted)
    pd.testing.assert_frame_equal(run.per_image(), blrobust.open_run(tmp_path / "cli").per_image())
    records = [Record.read(tmp_path / name) for name in ("api", "cli")]
    assert records[0].config.dataset.checksum == records[1].config.dataset.checksum
    assert records[0].answers == records[1].answers


def test_all_kinds_of_data_have_the_same_bits(tmp_path: Path) -> None:
    images, labels = pair(30)
    tensors = (images, labels)
    arrays = (images.numpy().astype(np.float64), labels.numpy().astype(np.uint8)[:, None])
    loaded = blrobust.load_data(TensorDataset(images, labels))
    assert torch.equal(loaded.pixels(slice(0, 30)), images)
    tables = []
    for number, data in enumerate((tensors, arrays, TensorDataset(images, labels), loaded)):
        run = blrobust.evaluate(Plain(), data=data, noise=NOISE, out=tmp_path / str(number))
        tables.append(run.table.drop(columns="seconds"))
        pd.testing.assert_frame_equal(tables[-1], tables[0])


def test_bytes_are_the_floats_that_they_stand_for(tmp_path: Path) -> None:
    images, labels = pair(30)
    integers = (images * 255).round().to(torch.uint8)
    runs = [
        blrobust.evaluate(Plain(), data=(x, labels), noise=NOISE, space="pixel", out=tmp_path / str(x.dtype))
        for x in (integers, integers / 255)
    ]
    pd.testing.assert_frame_equal(*(run.table.drop(columns="seconds") for run in runs))


# Models


class Recorder(nn.Module):
    """Two layers with batch norm, which would change in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_a_module_is_returned_as_it_was(tmp_path: Path) -> None:
    model = Recorder().train()
    model.layers[0].eval()
    model.layers[3].bias.requires_grad_(False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    modes = [part.training for part in model.modules()]
    identities = [id(parameter) for parameter in model.parameters()]
    data = pair(20)
    generators = torch.get_rng_state()
    blrobust.evaluate(model, data=data, noise=NOISE, attacks={"fgsm": [0.1]}, out=tmp_path)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert [part.training for part in model.modules()] == modes
    assert [id(parameter) for parameter in model.parameters()] == identities
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generators)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of TorchScript
def test_a_script_with_buffers_is_measured(tmp_path: Path) -> None:
    model = torch.jit.script(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(108), nn.Linear(108, 3)).train())
    results = blrobust.evaluate(model, data=pair(20), noise=NOISE, out=tmp_path)
    assert len(results.table)
    assert all(part.training for part in model.modules() if hasattr(part, "training"))


def test_a_module_made_in_inference_mode_is_measured(tmp_path: Path) -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    assert len(blrobust.evaluate(model, data=pair(20), noise=NOISE, out=tmp_path).table)


@pytest.mark.parametrize("setting", ["float64", "autocast", "inference"])
def test_settings_of_the_caller_change_no_result(tmp_path: Path, setting: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
    tasks: dict[str, Any] = {"data": pair(20), "noise": NOISE, "attacks": {"fgsm": [0.1]}}
    expected = blrobust.evaluate(model, out=tmp_path / "plain", **tasks)
    with ExitStack() as stack:
        if setting == "float64":
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float64)
        elif setting == "autocast":
            stack.enter_context(torch.autocast("cpu", torch.bfloat16))
        else:
            stack.enter_context(torch.inference_mode())
        found = blrobust.evaluate(model, out=tmp_path / "changed", **tasks)
    for command in ("noise", "attack"):
        pd.testing.assert_frame_equal(
            rows(tmp_path / "plain" / command), rows(tmp_path / "changed" / command)
        )
    assert len(found.table) == len(expected.table)


def test_a_module_that_fails_is_returned_as_it_was(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(7, 3)).half().train()
    with pytest.raises(UserError, match=r"model 'model' fails on images \(3, 6, 6\)"):
        blrobust.evaluate(model, data=pair(20), noise=NOISE, out=tmp_path)
    assert model.training
    assert model[1].weight.dtype == torch.float16
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_record_says_that_a_module_cannot_be_loaded_again(tmp_path: Path) -> None:
    images, labels = pair(20)
    run = blrobust.evaluate({"mine": Plain()}, data=(images, labels), noise=NOISE, out=tmp_path)
    plain = json.loads((run.folder / "run.json").read_text())
    assert "cannot be loaded again" in plain["models"][0]["note"]
    assert plain["models"][0]["arch"] == "support.plain_model.Plain"
    assert plain["command_line"].startswith(
        "blrobust.evaluate({'mine': <Plain>}, data=(<Tensor (20, 3, 6, 6)>"
    )
    assert plain["config"]["dataset"]["checksum"] == blrobust.load_data((images, labels)).checksum


def test_inputs_are_found_on_a_module_and_tested_on_another(tmp_path: Path) -> None:
    images, labels = pair(20)
    source = nn.Sequential(nn.Flatten(), nn.Linear(108, 3)).train()
    run = blrobust.evaluate(
        {"mine": Plain()}, data=(images, labels), attacks={"fgsm": [0.1]}, source=source, out=tmp_path
    )
    assert source.training
    assert all(parameter.requires_grad for parameter in source.parameters())
    inputs = images.clone().requires_grad_()
    nn.functional.cross_entropy(source(inputs), labels, reduction="sum").backward()
    adversarial = (images + 0.1 * inputs.grad.sign()).clamp(0, 1)
    attacked = source(images).argmax(1) == labels  # an image that the source misclassifies is not attacked
    with torch.no_grad():
        found = Plain()(torch.where(attacked.view(-1, 1, 1, 1), adversarial, images)).argmax(1)
    outcomes = run.per_image()
    assert outcomes[outcomes.level == 0.1].prediction.tolist() == found.tolist()


def test_another_module_with_the_same_label_is_refused(tmp_path: Path) -> None:
    class Louder(Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * torch.tensor([1.0, 2.0, 3.0])

    Louder.__name__ = "Plain"  # the same checksum, which the answers must make up for
    data = pair(20)
    blrobust.evaluate({"mine": Plain()}, data=data, noise=NOISE, out=tmp_path)
    with pytest.raises(UserError, match=r"^out: got .* but mine answers differently"):
        blrobust.evaluate({"mine": Louder()}, data=data, noise=NOISE, out=tmp_path)


def test_a_name_gets_the_label_of_its_key(tmp_path: Path) -> None:
    options = {"data": "cifar10-sample", "noise": {"gaussian": [0.2]}, "limit": 5}
    named = {"band": "fft85", "low": "lowpass0.48+fp32"}
    run = blrobust.evaluate(named, out=tmp_path / "a", **options)
    assert run.table.model.unique().tolist() == ["band", "low"]
    plain = blrobust.evaluate("fft85,lowpass0.48+fp32", out=tmp_path / "b", **options)
    assert run.table.accuracy.tolist() == plain.table.accuracy.tolist()


# What is printed


def test_nothing_is_printed_without_progress(tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        blrobust.evaluate(Plain(), data=pair(20), noise=NOISE, attacks="fgsm", out=tmp_path / "a")
    assert (out.getvalue(), err.getvalue()) == ("", "")
    with redirect_stdout(out), redirect_stderr(err):
        blrobust.evaluate(Plain(), data=pair(20), noise=NOISE, out=tmp_path / "b", progress=True)
    assert out.getvalue() == ""
    assert err.getvalue().startswith("model: ")


def test_a_notebook_shows_tables_and_figures(tmp_path: Path) -> None:
    data = pair(20)
    run = blrobust.evaluate({"<b>&": Plain()}, data=data, noise=NOISE, attacks="fgsm", out=tmp_path / "a")
    html = run._repr_html_()
    assert html.count("<svg") == html.count("<table") == 2
    assert "&lt;b&gt;&amp;" in html
    assert "<b>&" not in html.replace("<b>&amp;", "")
    assert "gaussian, accuracy" in repr(run)
    level = run.table[run.table.kind == "gaussian"].accuracy.iloc[0]
    assert f"{100 * level:.1f}\N{NO-BREAK SPACE}%" in html


def test_the_root_is_imported_without_torch() -> None:
    script = (
        "import sys, blrobust; assert 'torch' not in sys.modules; blrobust.evaluate; print(dir(blrobust))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "evaluate" in shown.stdout
    assert blrobust.__version__ == "0.1.0"
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        blrobust.evaluat  # noqa: B018


# The other functions


def test_an_attack_is_that_of_foolbox() -> None:
    found = blrobust.attack("pgd-linf", steps=3)
    assert isinstance(found, foolbox.attacks.LinfPGD)
    assert (found.steps, found.rel_stepsize) == (3, 0.1)
    images, labels = pair(20)
    fmodel = foolbox.PyTorchModel(Plain().eval(), bounds=(0, 1))
    _, clipped, _ = found(fmodel, images, labels, epsilons=[0.01])
    assert (clipped[0] - images).abs().max() <= 0.01 + 1e-6
    for arguments, text in (
        (("pgd",), "attack: got 'pgd', did you mean"),
        (("pgd*",), "attack: got 'pgd\\*'; legal: the name of one attack"),
        (("pgd-linf", {"step": 3}), "parameters: got 'step=3'; legal parameters of the chosen attacks"),
        (("pgd-linf", {"steps": 0}), "parameters: got 'steps=0'; legal: numbers from 1"),
        (("pgd-linf", {"restarts": 2}), "restarts: got 2; legal: this parameter in evaluate only"),
    ):
        name, changes = arguments[0], arguments[1] if len(arguments) > 1 else {}
        with pytest.raises(UserError, match=f"^{text}"):
            blrobust.attack(name, **changes)


def test_a_model_takes_pixels() -> None:
    data = blrobust.load_data("cifar10-sample", limit=50)
    model = blrobust.load_model("fp32")
    with torch.no_grad():
        accuracy = (model(data.pixels(slice(None))).argmax(1) == data.labels).double().mean()
    assert accuracy > 0.8
    with pytest.raises(UserError, match=r"^model: got 'fp32,fp16'; legal: one model"):
        blrobust.load_model("fp32,fp16")
    own = blrobust.load_model(Plain(), data=pair(5))
    assert torch.equal(own(pair(5)[0]), Plain()(pair(5)[0]).detach())


def test_runs_are_opened_by_their_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = blrobust.evaluate(Plain(), data=pair(20), noise=NOISE)
    record = Record.read(run.folder)
    assert run.folder.parent == Path("runs")
    for name in (run.folder, run.folder.name, record.id, record.id[:8], record.hash):
        assert blrobust.open_run(name).folder == run.folder
    for name in ("missing", record.id[:3], "0" * 32):
        with pytest.raises(UserError, match=f"^run: got '{name}', which does not exist; legal: a run folder"):
            blrobust.open_run(name)
    other = blrobust.evaluate(Plain(), data=pair(20), noise={"gaussian": [0.2]})
    both = blrobust.compare(run, other.folder)
    assert both.table.run.unique().tolist() == [run.folder.name, other.folder.name]
    assert len(both.per_image()) == 20 * len(both.table)
    assert "2 runs compared" in both.report(tmp_path / "page.html").read_text("utf-8")
    tests = both.paired()
    (row,) = tests[tests.level == 0].to_dict("records")  # the same model on the same clean images
    assert (row["run"], row["baseline"], row["difference"], row["p"]) == (other.folder.name, "model", 0, 1)
    assert tests.level.tolist() == [0]  # the only level that both runs have
    elsewhere = blrobust.evaluate(Plain(), data=pair(21), noise=NOISE)
    with pytest.raises(UserError, match=r"got 21 images of arrays .* legal: those of .* 20 images"):
        blrobust.compare(run, elsewhere).paired()
    with pytest.raises(UserError, match=r"^runs: got .* more than once"):
        blrobust.compare(run, run.folder)


def test_a_heat_map_and_a_recovery_have_the_bits_of_the_command_line(tmp_path: Path) -> None:
    options = ["--dataset", "cifar10-sample", "--limit", 6]
    assert call("heatmap", "fp32", "--size", 3, *options, "--out", tmp_path / "cli map") == 0
    found = blrobust.heatmap("fp32", size=3, data="cifar10-sample", limit=6, out=tmp_path / "map")
    assert (tmp_path / "map/results.csv").read_bytes() == (tmp_path / "cli map/results.csv").read_bytes()
    assert "<table" in found._repr_html_()
    with pytest.raises(UserError, match="legal: noise or attack"):
        found.per_image()
    ways = ["--kind", "fgsm", "--compressions", "0.5", "--bits", "4", "--networks", "fft85"]
    assert call("recover", *ways, *options, "--out", tmp_path / "cli recovery") == 0
    found = blrobust.recover(
        attacks=["fgsm"], compressions=[0.5], bits=[4], networks="fft85", data="cifar10-sample", limit=6,
        out=tmp_path / "recovery",
    )  # fmt: skip
    names = ("recovery", "cli recovery")
    texts = [(tmp_path / name / "results.csv").read_bytes() for name in names]
    assert texts[0] == texts[1]
    assert len(found.table) == 3


def test_the_worst_case_of_one_attack_is_that_attack(tmp_path: Path) -> None:
    run = blrobust.evaluate(
        Plain(), data=pair(), attacks={"fgsm": ["0", "8/255"]}, limit=120, out=tmp_path / "run"
    )
    found = run.worst_case()
    assert found.norm.tolist() == ["Linf", "any"]
    assert found.attacks.tolist() == [1, 1]
    assert found.accuracy.tolist() == run.table.accuracy.tolist()[1:] * 2


def test_data_is_shown_as_one_line() -> None:
    shown = repr(blrobust.load_data("cifar10-sample"))
    assert shown == "<cifar10-sample, test: 1,000 images of 3 x 32 x 32 uint8, 10 classes>"
    assert repr(blrobust.load_data(pair(), limit=1)).startswith(
        "<arrays, test: 1 image of 3 x 6 x 6 float32, 3"
    )


def test_runs_are_a_table(tmp_path: Path) -> None:
    invented.run(tmp_path / "noisy", {"x": [0.9, 0.2]}, [0.0, 1.0])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/run.json").write_text("{")
    found = blrobust.list_runs(tmp_path).set_index("run")
    assert found.command.to_dict() == {"noisy": "noise", "broken": None}
    assert blrobust.open_run(found.folder["noisy"]).table.accuracy[0] == 0.9
    with pytest.raises(UserError, match=r"^folder: got nowhere; legal: a folder that exists"):
        blrobust.list_runs("nowhere")


def test_a_device_of_torch_is_a_device(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    run = blrobust.evaluate(Plain(), data=pair(20), noise={"gaussian": [0]}, device=cpu, out=tmp_path / "run")
    assert Record.read(run.folder).command_line.count("device='cpu'") == 1


def test_a_recovery_needs_a_named_source() -> None:
    with pytest.raises(UserError, match=r"^source: got a Plain; legal: the name of a model"):
        blrobust.recover(Plain(), data=pair(20))
