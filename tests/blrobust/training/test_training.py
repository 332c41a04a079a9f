import math
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
