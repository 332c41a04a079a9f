import math
import os
import re
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from support.invented_training import CPU, RECIPE, bits, invented, rows, same, tiny, trainees
from torch import nn

from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.models import ARCHITECTURES, checkpoint
from blrobust.models.accuracy import accuracy
from blrobust.models.precision import reduce_precision
from blrobust.runs.held_file import HeldFile
from blrobust.training import training
from blrobust.training.recipes import Recipe
from blrobust.training.training import epoch_batches, train


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "tiny", tiny)


# --- the schedule, the step, the batches ---


@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.5])
def test_learning_rate(warmup):
    recipe = Recipe(lr=0.4, warmup=warmup)
    for step in range(1000):
        t = step / 1000
        if t < warmup:
            wanted = 0.02 + t / warmup * (0.4 - 0.02)
        else:
            wanted = 0.4 * math.cos(math.pi / 2 * (t - warmup) / (1 - warmup)) ** 2
        assert recipe.lr_at(t) == pytest.approx(wanted, abs=1e-12)
    assert recipe.lr_at(warmup) == 0.4
    assert recipe.lr_at(0.999999) < 1e-6


def test_the_schedule_is_followed_step_by_step(tmp_path):
    heard = []

    def listen(done, total, subjects):
        heard.append((done, total, [float(trainee.lr) for trainee in subjects]))

    subjects = trainees(tmp_path)
    train(subjects, invented(), CPU, on_step=listen)
    assert [done for done, _, _ in heard] == list(range(1, 13))  # 72 images: 4 whole batches, 3 epochs
    assert {total for _, total, _ in heard} == {12}
    for done, _, rates in heard:
        wanted = RECIPE.lr_at((done - 1) / 12)
        assert rates == pytest.approx([wanted, wanted])
    assert [float(row["lr"]) for row in rows(subjects[0])] == pytest.approx(
        [RECIPE.lr_at(step / 12) for step in (3, 7, 11)], rel=1e-5
    )


def by_hand(model, recipe, batches):
    """SGD with Nesterov momentum, weight decay on matrices and filters only, in plain tensors."""
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    losses = []
    for lr, pixels, labels in batches:
        logits = model(pixels)
        loss = -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        losses.append(float(loss.detach()))
        with torch.no_grad():
            for (name, p), gradient in zip(model.named_parameters(), gradients, strict=True):
                decayed = gradient + recipe.weight_decay * p if p.dim() > 1 else gradient
                velocity[name] = recipe.momentum * velocity[name] + decayed
                p -= lr * (decayed + recipe.momentum * velocity[name])
    return losses


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_one_epoch_is_nesterovs_descent_by_hand(tmp_path, dtype):
    recipe = replace(RECIPE, epochs=1, weight_decay=0.05)
    (subject,) = trainees(tmp_path, recipe, ["two"])
    torch.manual_seed(recipe.seed)
    model = subject.facts.build()
    assert same(dict(model.named_parameters()), dict(subject.model.named_parameters()))
    data = invented(dtype=dtype)
    order, images = epoch_batches(data.images, recipe, 0)
    pixels = images.float() / 255 if dtype == torch.uint8 else images
    batches = [
        (recipe.lr_at(i / 4), pixels[16 * i : 16 * i + 16], data.labels[order[16 * i : 16 * i + 16]])
        for i in range(4)
    ]
    losses = by_hand(model.train(), recipe, batches)
    train([subject], data, CPU)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(subject.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    assert float(subject.history[0]["loss"]) == pytest.approx(sum(losses) / 4, abs=1e-4)


@pytest.mark.parametrize("crop", [0, 1, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_batches_are_padded_crops_and_flips_of_the_images(crop, dtype):
    """Image by image: whichever window and side were drawn, one of them explains every pixel."""
    images = torch.randint(1, 255, (60, 2, 5, 7), dtype=torch.uint8).to(dtype)
    order, cut = epoch_batches(images, Recipe(crop=crop, seed=9), 3)
    assert sorted(order.tolist()) == list(range(60))
    assert (cut.shape, cut.dtype) == (images.shape, dtype)
    found = []
    for source, result in zip(order.tolist(), cut, strict=True):
        wide = torch.zeros(2, 5 + 2 * crop, 7 + 2 * crop, dtype=dtype)
        wide[:, crop : crop + 5, crop : crop + 7] = images[source]
        explanations = [
            (top, left, flipped)
            for top in range(2 * crop + 1)
            for left in range(2 * crop + 1)
            for flipped in (False, True)
            if torch.equal(result, (wide.flip(-1) if flipped else wide)[:, top : top + 5, left : left + 7])
        ]
        assert len(explanations) == 1
        found += explanations
    assert {flipped for _, _, flipped in found} == {False, True}
    assert {top for top, _, _ in found} == {left for _, left, _ in found} == set(range(2 * crop + 1))
    assert order.tolist() != list(range(60))


def test_windows_rows_and_sides_are_drawn_independently_and_evenly():
    n, crop = 20_000, 1
    images = torch.arange(9).reshape(1, 1, 3, 3).expand(n, 1, 3, 3) + 1
    order, cut = epoch_batches(images, Recipe(crop=crop, seed=1), 0)
    kinds, counts = torch.unique(cut.flatten(1), dim=0, return_counts=True)
    assert len(kinds) == 18
    expected = n / 18
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 45  # 17 degrees of freedom: exceeded with probability 0.0003
    assert not torch.equal(order.sort().values, order)


def test_batches_depend_on_seed_and_epoch_alone():
    images = torch.randint(0, 255, (40, 1, 4, 4), dtype=torch.uint8)
    first = epoch_batches(images, Recipe(seed=1), 2)
    torch.manual_seed(99)
    again = epoch_batches(images, Recipe(seed=1, epochs=3, lr=9.0), 2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for seed, epoch in ((1, 3), (2, 2), (0, 0)):
        other, _ = epoch_batches(images, Recipe(seed=seed), epoch)
        assert not torch.equal(other, first[0])


def test_accuracy_counts_every_image_once():
    class FirstPixel(nn.Module):
        def forward(self, x):
            assert not self.training
            return F.one_hot((x[:, 0, 0, 0] * 255).round().long() % 3, 3).float()

    n = 1203  # two whole evaluation batches and a rest
    images = torch.randint(0, 256, (n, 1, 2, 2), dtype=torch.uint8)
    labels = torch.randint(0, 3, (n,))
    data = Dataset("x", "test", images, labels, ("a", "b", "c"), (0.5,), (0.2,))
    hits = [int(image[0, 0, 0]) % 3 == int(label) for image, label in zip(images, labels, strict=True)]
    model = FirstPixel().train()
    assert accuracy(model, data, CPU) == sum(hits) / n
    assert accuracy(model, data, CPU, start=700) == sum(hits[700:]) / 503
    assert accuracy(model, data, CPU, start=n - 1) == float(hits[-1])


# --- training as a whole ---


def test_it_learns_and_writes_what_it_says(tmp_path):
    recipe = replace(RECIPE, epochs=12, holdout=24)
    subjects = trainees(tmp_path, recipe)
    train(subjects, invented(240), CPU)
    for subject in subjects:
        history = rows(subject)
        assert [row["epoch"] for row in history] == [str(i) for i in range(1, 13)]
        assert float(history[-1]["loss"]) < 0.5 < float(history[0]["loss"])
        assert subject.state_path.exists()
        facts = subject.finish(invented(90, split="test"), CPU)
        assert not subject.state_path.exists()
        assert facts.test_accuracy > 0.9
        assert facts.holdout_accuracy == float(history[-1]["holdout_accuracy"])
        model, stored = checkpoint.load_model(subject.path)
        assert stored == facts
        assert stored.recipe == asdict(recipe)
        assert stored.seed == recipe.seed
        assert accuracy(model, invented(90, split="test"), CPU) == facts.test_accuracy
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "one.history.csv",
        "one.safetensors",
        "two.history.csv",
        "two.safetensors",
    ]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision(tmp_path, precision):
    recipe = replace(RECIPE, epochs=8)
    subjects = trainees(tmp_path, recipe, precision=precision)
    used = []
    for subject in subjects:
        layer = subject.model.network[0]
        layer.register_forward_hook(lambda module, inputs, output: used.append(output.dtype))
    train(subjects, invented(240), CPU)
    assert set(used) == {torch.float16 if precision == "fp16" else torch.bfloat16}
    test = invented(90, split="test")
    for subject in subjects:
        facts = subject.finish(test, CPU)
        assert facts.precision == precision
        assert facts.test_accuracy > 0.8
        model, _ = checkpoint.load_model(subject.path)
        model, _ = reduce_precision(model, precision, CPU)
        assert accuracy(model, test, CPU) == facts.test_accuracy


def test_fp16_gradients_are_scaled_and_scaled_back(tmp_path):
    """A gradient below half precision's smallest number survives."""
    subjects = trainees(tmp_path, RECIPE, ["one"], precision="fp16")
    exact = trainees(tmp_path, RECIPE, ["one"])
    pixels, labels = torch.rand(16, 2, 6, 6), torch.randint(0, 3, (16,))
    before = [p.detach().clone() for p in exact[0].model.parameters()]
    for subject in (*subjects, *exact):
        subject.model.train()
        subject.compute_gradients(pixels, labels)
        subject.update()
    moved = zip(subjects[0].model.parameters(), exact[0].model.parameters(), before, strict=True)
    for half, single, start in moved:
        scale = float((single - start).detach().abs().max())
        assert scale > 0
        assert float((half - single).detach().abs().max()) < 0.05 * scale


def test_the_state_of_side_by_side_models_is_that_of_each_alone(tmp_path):
    together = trainees(tmp_path / "together")
    train(together, invented(), CPU)
    for trained in together:
        (alone,) = trainees(tmp_path / "alone", names=[trained.name])
        train([alone], invented(), CPU)
        assert same(bits(alone), bits(trained))
        assert rows(alone) == rows(trained)


# --- stopping and going on ---


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", tiny)
        recipe = replace(RECIPE, holdout=8)
        subjects = trainees(tmp_path_factory.mktemp("undisturbed"), recipe)
        train(subjects, invented(), CPU)
        return recipe, [bits(subject) for subject in subjects], [rows(subject) for subject in subjects]


def resumed_matches(folder, undisturbed):
    recipe, states, histories = undisturbed
    subjects = trainees(folder, recipe)
    torch.manual_seed(12345)
    train(subjects, invented(), CPU, resume=True)
    for subject, state, history in zip(subjects, states, histories, strict=True):
        assert rows(subject) == history
        assert same(bits(subject), state)


@pytest.mark.parametrize("write", range(1, 13))
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_write(tmp_path, monkeypatch, undisturbed, write, when):
    """Two models, two files, three epochs: twelve moments at which a file is put in place."""
    count = 0

    def replace_until_killed(source, target, *, really=os.replace, **folders):
        nonlocal count
        count += 1
        if count == write and when == "before":
            raise Killed
        really(source, target, **folders)
        if count == write:
            raise Killed

    recipe = undisturbed[0]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_until_killed)
        with pytest.raises(Killed):
            train(trainees(tmp_path, recipe), invented(), CPU)
    resumed_matches(tmp_path, undisturbed)


@pytest.mark.parametrize("step", [1, 4, 5, 9, 12])
def test_killed_inside_an_epoch_twice(tmp_path, undisturbed, step):
    recipe = undisturbed[0]

    def kill(done, total, subjects):
        if done == step:
            raise Killed

    for resume in (False, True):
        with pytest.raises(Killed):
            train(trainees(tmp_path, recipe), invented(), CPU, resume=resume, on_step=kill)
    resumed_matches(tmp_path, undisturbed)


def test_resuming_a_training_that_is_done_changes_nothing(tmp_path, undisturbed):
    recipe = undisturbed[0]
    train(trainees(tmp_path, recipe), invented(), CPU)
    steps = []
    subjects = trainees(tmp_path, recipe)
    train(subjects, invented(), CPU, resume=True, on_step=lambda *step: steps.append(step))
    assert not steps
    assert same(bits(subjects[0]), undisturbed[1][0])


@pytest.mark.parametrize(
    "change", [{"lr": 0.2}, {"seed": 5}, {"epochs": 9}, {"holdout": 3}, {"batch_size": 8}], ids=str
)
def test_resuming_with_other_options_is_refused(tmp_path, change):
    train(trainees(tmp_path), invented(), CPU)
    other = replace(RECIPE, **change)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UserError) as caught:
        train(trainees(tmp_path, other), invented(), CPU, resume=True)
    message = str(caught.value)
    assert "one.training.safetensors: got {" in message
    assert message.endswith("with which the training was begun, or another folder")
    assert "\n" not in message
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_damaged_state_is_one_line(tmp_path):
    subjects = trainees(tmp_path)
    train(subjects, invented(), CPU)
    subjects[0].state_path.write_bytes(subjects[0].state_path.read_bytes()[:900])
    with pytest.raises(UserError, match=r"one.training.safetensors is not a readable safetensors file"):
        train(trainees(tmp_path), invented(), CPU, resume=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: {}, "is nothing, wanted"),
        (lambda state: state | {"more": torch.zeros(1)}, "more is (1,), wanted nothing"),
        (lambda state: state | {"epochs": torch.tensor(1.5)}, "epochs is (), wanted torch.int64 ()"),
        (lambda state: state | {"epochs": torch.zeros(2).long()}, "epochs is torch.int64 (2,), wanted"),
        (lambda state: state | {"momentum.0": torch.zeros(3)}, "momentum.0 is (3,), wanted ("),
        (lambda state: state | {"epochs": torch.tensor(-1)}, "got the state after -1 epochs"),
        (lambda state: state | {"epochs": torch.tensor(2**40)}, "got the state after 1099511627776 epochs"),
    ],
)
def test_a_state_that_does_not_fit_is_one_line(tmp_path, change, told):
    (subject,) = trainees(tmp_path, names=("one",))
    train([subject], invented(), CPU)
    checkpoint.save(subject.state_path, change(checkpoint.load(subject.state_path)[0]), subject.facts)
    (again,) = trainees(tmp_path, names=("one",))
    before = bits(again)
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        again.resume()
    assert "one.training.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert same(bits(again), before)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "got the state after 3 epochs, of which"),
        (b"epoch,lr,loss,holdout_accuracy,seconds\n1,0.1,1,,2\n", "has 1; legal: a row for each epoch"),
        (b"a,b\n1,2\n", "got a row"),
        (b"epoch,lr,loss,holdout_accuracy,seconds\n1,0.1\n", "got a row"),
        (b"epoch,lr,loss,holdout_accuracy,seconds\n1,0.1,1,,2,3\n", "got a row"),
        (b"\xff\xfe", "cannot be read as a history"),
        (b'"' + b"x" * 200_000, "cannot be read as a history"),
    ],
)
def test_a_damaged_history_is_one_line(tmp_path, content, told):
    (subject,) = trainees(tmp_path, names=("one",))
    train([subject], invented(), CPU)
    subject.history_path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(told)) as caught:
        trainees(tmp_path, names=("one",))[0].resume()
    assert "\n" not in str(caught.value)


def test_held_out_images_are_the_last_and_not_trained_on(tmp_path, monkeypatch):
    recipe = replace(RECIPE, epochs=1, holdout=24)
    data = invented()
    seen = []

    def cut(images, *arguments, really=epoch_batches):
        seen.append(images.clone())
        return really(images, *arguments)

    monkeypatch.setattr(training, "epoch_batches", cut)
    (subject,) = trainees(tmp_path, recipe, ["one"])
    train([subject], data, CPU)
    assert torch.equal(seen[0], data.images[:48])
    predicted = subject.model.eval()(data.images[48:].float() / 255).argmax(1)
    wanted = float((predicted == data.labels[48:]).float().mean())
    assert float(subject.history[0]["holdout_accuracy"]) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_a_label_without_a_class_is_one_line(tmp_path, label):
    data = invented()
    data.labels[5] = label
    with pytest.raises(UserError, match=rf"invented \(train\): got label {label} for image 5; legal: 0 to 2"):
        train(trainees(tmp_path), data, CPU)


def test_a_training_that_diverges(tmp_path):
    recipe = replace(RECIPE, lr=1e30)
    with pytest.raises(UserError, match=r"training of one diverged in epoch \d; try a lower learning rate"):
        train(trainees(tmp_path, recipe), invented(), CPU)


@pytest.mark.parametrize("recipe", [replace(RECIPE, batch_size=73), replace(RECIPE, holdout=60)], ids=str)
def test_a_batch_larger_than_the_training_set(tmp_path, recipe):
    with pytest.raises(UserError, match=r"^batch_size: got \d+; legal: 1 to \d+, the number"):
        train(trainees(tmp_path, recipe), invented(), CPU)


def test_resnet20_trains(tmp_path):
    recipe = replace(RECIPE, epochs=1)
    (subject,) = trainees(tmp_path, recipe, ["two"], arch="resnet20")
    train([subject], invented(), CPU)
    subject.finish(invented(split="test"), CPU)
    model, _ = checkpoint.load_model(subject.path)
    assert torch.isfinite(model(torch.rand(2, 2, 6, 6))).all()


@pytest.mark.gpu
def test_on_cuda_the_graph_takes_the_same_steps(tmp_path):
    cuda = torch.device("cuda")
    recipe = replace(RECIPE, epochs=2)
    on_cpu = trainees(tmp_path / "cpu", recipe)
    train(on_cpu, invented(), CPU)
    on_gpu = trainees(tmp_path / "gpu", recipe, device=cuda)
    train(on_gpu, invented(), cuda)
    for ours, theirs in zip(on_gpu, on_cpu, strict=True):
        for a, b in zip(rows(ours), rows(theirs), strict=True):
            assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=2e-2)
        (again,) = trainees(tmp_path / "gpu", recipe, [ours.name], device=cuda)
        assert again.resume() == 2
        assert same(bits(again), bits(ours))
        assert ours.finish(invented(90, split="test"), cuda).test_accuracy is not None


@pytest.mark.skipif(os.name != "posix", reason="a folder cannot be moved while a file in it is open")
def test_a_training_whose_folder_was_moved_writes_nothing_to_the_one_in_its_place(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    subjects = trainees(folder)
    subjects[0].lock_path.touch()
    with subjects[0].lock_path.open():
        for subject in subjects:
            subject.check = HeldFile(subjects[0].lock_path).check
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        with pytest.raises(OSError, match="the folder was moved or replaced"):
            train(subjects, invented(), CPU)
    assert not list(folder.iterdir())
