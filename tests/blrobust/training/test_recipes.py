import csv
import math
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from support.invented_training import CPU, RECIPE, bits, invented, rows, same, tiny, trainees

from blrobust.cli import recipe_options
from blrobust.errors import UserError
from blrobust.models import ARCHITECTURES, checkpoint
from blrobust.training.batches import epoch_batches
from blrobust.training.recipes import EARLY_EPOCHS, RECIPES, Recipe, check_alike, completed, recipe_of
from blrobust.training.training import train


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "tiny", tiny)


# --- the table ---


def test_the_command_has_the_recipes_of_the_table():
    assert list(RECIPES) == list(EARLY_EPOCHS) == list(recipe_options.RECIPES)


def test_the_default_is_that_of_the_bundled_models():
    assert recipe_of("fft50") == RECIPES["default"] == Recipe(epochs=150, batch_size=128, lr=0.2)


def test_the_authors_recipe():
    recipe = recipe_of("fft50-seed2", "published")
    assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.momentum) == (350, 32, 0.01, 0.9)
    assert (recipe.nesterov, recipe.decayed, recipe.weight_decay, recipe.seed) == (False, "all", 5e-4, 2)


@pytest.mark.parametrize("recipe", RECIPES)
def test_controls_have_their_own_values(recipe):
    plain = recipe_of("fp32", recipe)
    assert recipe_of("fp32-noise-seed3", recipe) == replace(plain, noise=1.0, seed=3)
    assert recipe_of("fp32-early", recipe) == replace(plain, epochs=EARLY_EPOCHS[recipe], ema=0)


@pytest.mark.parametrize(("field", "value"), [("epochs", 9), ("batch_size", 8), ("holdout", 5)])
def test_models_side_by_side_take_the_same_steps(field, value):
    check_alike({"a": Recipe(), "b": Recipe(lr=9, seed=3, noise=1, label_smoothing=0.1, schedule="plateau")})
    with pytest.raises(
        UserError, match=rf"got a and b, which have different recipes \({field} \d+ and {value}"
    ):
        check_alike({"a": Recipe(), "b": replace(Recipe(), **{field: value})})


# --- the schedule "plateau" ---


@given(
    st.lists(st.sampled_from([1.0, 0.9, 0.8999999, 0.5, 0.49999, 0.3]), max_size=80),
    st.sampled_from([0.01, 0.2]),
)
def test_the_plateau_is_that_of_torch(losses, lr):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=10, eps=0)
    recipe = Recipe(schedule="plateau", lr=lr)
    for epoch in range(len(losses) + 1):
        assert recipe.lr_at(0.5, losses[:epoch]) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        if epoch < len(losses):
            reference.step(losses[epoch])


def test_a_plateau_in_training(tmp_path):
    recipe = replace(RECIPE, schedule="plateau", lr=1e-9, epochs=14)  # too low to learn anything
    (subject,) = trainees(tmp_path, recipe, ["one"])
    train([subject], invented(), CPU)
    history = rows(subject)
    rates = [float(row["lr"]) for row in history]
    assert rates == [
        pytest.approx(recipe.lr_at(0, (float(r["loss"]) for r in history[:e]))) for e in range(14)
    ]
    assert rates[0] == pytest.approx(1e-9)


# --- the step ---


@pytest.mark.parametrize(
    "change",
    [
        {"nesterov": False},
        {"decayed": "all"},
        {"label_smoothing": 0.2},
        {"label_smoothing": 0.1, "nesterov": False, "decayed": "all", "schedule": "plateau"},
    ],
    ids=str,
)
def test_the_step_is_that_of_torch(tmp_path, change):
    recipe = replace(RECIPE, epochs=2, weight_decay=0.05, **change)
    (subject,) = trainees(tmp_path, recipe, ["two"])
    torch.manual_seed(recipe.seed)
    model = subject.facts.build().train()
    data = invented()
    wanted = [p for p in model.parameters() if p.dim() > 1 or recipe.decayed == "all"]
    others = [p for p in model.parameters() if p.dim() <= 1 and recipe.decayed != "all"]
    optimizer = torch.optim.SGD(
        [{"params": wanted, "weight_decay": 0.05}, {"params": others}],
        lr=1,
        momentum=0.9,
        nesterov=recipe.nesterov,
    )
    losses = []
    for epoch in range(2):
        order, images = epoch_batches(data.images, recipe, epoch)
        for step in range(4):
            at = slice(16 * step, 16 * step + 16)
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr_at((epoch + step / 4) / 2)
            logits = model(images[at].float() / 255)
            targets = F.one_hot(data.labels[order[at]], 3) * (1 - recipe.label_smoothing)
            targets = targets + recipe.label_smoothing / 3
            loss = -(targets * logits.log_softmax(1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    train([subject], data, CPU)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(subject.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    assert [float(row["loss"]) for row in rows(subject)] == pytest.approx(
        [sum(losses[:4]) / 4, sum(losses[4:]) / 4], abs=1e-5
    )


def test_the_moving_average_is_what_is_stored(tmp_path):
    recipe = replace(RECIPE, ema=0.8, epochs=2, holdout=8)
    (subject,) = trainees(tmp_path, recipe, ["one"])
    heard = []
    train(
        [subject],
        invented(),
        CPU,
        on_step=lambda *step: heard.append({n: t.clone() for n, t in subject.model.state_dict().items()}),
    )
    shares = [0.8 ** (len(heard) - 1 - step) for step in range(len(heard))]
    for name, tensor in subject.stored_model().state_dict().items():
        if tensor.is_floating_point():
            average = sum(share * each[name] for share, each in zip(shares, heard, strict=True)) / sum(shares)
            torch.testing.assert_close(tensor, average, rtol=1e-4, atol=1e-5)
            assert not torch.equal(tensor, heard[-1][name])
    (plain,) = trainees(tmp_path / "plain", replace(recipe, ema=0.0), ["one"])
    train([plain], invented(), CPU)
    assert same(
        {f"model.{n}": t for n, t in heard[-1].items()}, dict(list(bits(plain).items())[: len(heard[-1])])
    )
    facts = subject.finish(invented(90, split="test"), CPU)
    stored, _ = checkpoint.load(subject.path)
    for name, parameter in subject.stored_model().named_parameters():
        assert torch.equal(stored[name], parameter.half())
    assert facts.recipe["ema"] == 0.8


def test_a_training_with_everything_is_resumed_bit_for_bit(tmp_path):
    class Stop(BaseException):
        pass

    recipe = replace(RECIPE, ema=0.9, cutout=2, label_smoothing=0.1, noise=0.5, schedule="plateau", holdout=8)
    whole = trainees(tmp_path / "whole", recipe)
    train(whole, invented(), CPU)

    def stop(done, total, subjects):
        if done == 6:
            raise Stop

    with pytest.raises(Stop):
        train(trainees(tmp_path, recipe), invented(), CPU, on_step=stop)
    resumed = trainees(tmp_path, recipe)
    train(resumed, invented(), CPU, resume=True)
    for ours, theirs in zip(resumed, whole, strict=True):
        assert same(bits(ours), bits(theirs))
        assert rows(ours) == rows(theirs)


# --- states and checkpoints that lack the later fields ---

LATER = ("nesterov", "schedule", "decayed", "label_smoothing", "ema", "cutout")


def test_a_stored_recipe_without_the_later_fields_is_the_default():
    old = {key: value for key, value in asdict(Recipe(lr=0.3)).items() if key not in LATER}
    assert len(old) == 10
    assert completed(old) == asdict(Recipe(lr=0.3))


def test_an_old_training_is_resumed_and_recognised(tmp_path):
    whole = trainees(tmp_path / "whole", names=["one"])
    train(whole, invented(), CPU)
    (subject,) = trainees(tmp_path, names=["one"])

    class Stop(BaseException):
        pass

    def stop(done, total, subjects):
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        train([subject], invented(), CPU, on_step=stop)

    def aged(facts):
        return replace(facts, recipe={k: v for k, v in facts.recipe.items() if k not in LATER})

    tensors, facts = checkpoint.load(subject.state_path)
    checkpoint.save(subject.state_path, tensors, aged(facts))
    with subject.history_path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    columns = ["epoch", "lr", "loss", "holdout_accuracy", "seconds"]
    subject.history_path.write_text(f"{','.join(columns)}\n{','.join(row[c] for c in columns)}\n")

    (again,) = trainees(tmp_path, names=["one"])
    train([again], invented(), CPU, resume=True)
    assert same(bits(again), bits(whole[0]))
    assert [row["train_accuracy"] == "" for row in rows(again)] == [True, False, False]
    test = invented(90, split="test")
    done = again.finish(test, CPU)
    tensors, facts = checkpoint.load(again.path)
    checkpoint.save(again.path, tensors, aged(facts))
    (last,) = trainees(tmp_path, names=["one"])
    assert last.finished().test_accuracy == done.test_accuracy


def test_the_message_for_another_recipe_has_the_values_that_differ(tmp_path):
    train(trainees(tmp_path), invented(), CPU)
    with pytest.raises(UserError) as caught:
        trainees(tmp_path, replace(RECIPE, ema=0.5, lr=0.2))[0].resume()
    told = "got {'ema': 0.5, 'lr': 0.2}; legal: {'ema': 0.0, 'lr': 0.1}, with which the training was begun"
    assert told in str(caught.value)


# --- augmentation ---


@pytest.mark.parametrize("side", [1, 2, 3, 9])
def test_cutout_makes_a_square_black_and_nothing_else(side):
    images = torch.randint(1, 255, (80, 2, 6, 7), dtype=torch.uint8)
    recipe = Recipe(crop=0, seed=2)
    order, plain = epoch_batches(images, recipe, 1)
    again, cut = epoch_batches(images, replace(recipe, cutout=side), 1)
    assert torch.equal(order, again)
    for before, after in zip(plain, cut, strict=True):
        black = (after == 0).all(0)
        assert torch.equal(after, before * ~black)
        rows, columns = black.any(1).nonzero().flatten(), black.any(0).nonzero().flatten()
        assert int(black.sum()) == len(rows) * len(columns)  # a rectangle: a square, or a part at the edge
        for line, size in ((rows, 6), (columns, 7)):
            assert math.ceil(side / 2) <= len(line) <= side or len(line) == size
            assert line.tolist() == list(range(int(line[0]), int(line[-1]) + 1))


def test_a_share_of_an_epoch_is_a_part_of_the_whole():
    images = torch.randint(0, 255, (40, 1, 4, 4), dtype=torch.uint8)
    recipe = Recipe(seed=1, cutout=2)
    order, cut = epoch_batches(images, recipe, 2)
    share = torch.tensor([3, 4, 5, 33, 0])
    mine, part = epoch_batches(images, recipe, 2, share)
    assert torch.equal(mine, order[share])
    assert torch.equal(part, cut[share])


# --- seeds side by side ---


def test_models_with_different_seeds_are_those_of_each_alone(tmp_path):
    recipes = [replace(RECIPE, seed=seed, noise=0.5 * seed) for seed in (0, 1, 2)]
    together = [t for i, r in enumerate(recipes) for t in trainees(tmp_path / str(i), r)]
    train(together, invented(), CPU)
    for trained in together:
        (alone,) = trainees(tmp_path / "alone" / str(trained.recipe.seed), trained.recipe, [trained.name])
        train([alone], invented(), CPU)
        assert same(bits(alone), bits(trained))
        assert rows(alone) == rows(trained)
    assert not same(bits(together[0]), bits(together[2]))
