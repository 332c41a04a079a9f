import hashlib
import itertools
import json
import os
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torchvision.transforms.v2.functional import gaussian_blur

from blconv import BandLimitedConv2d, set_compression
from blrobust.data import datasets
from blrobust.data.datasets import Dataset
from blrobust.errors import UserError
from blrobust.models import checkpoint, zoo
from blrobust.models.channel_names import build_channel

CPU = torch.device("cpu")
BUNDLED = Path(zoo.__file__).parents[1] / "weights"
# name -> precision, nominal compression, transform, the least accuracy on the test images
PROMISED = {
    "fp32": ("fp32", 0.0, "paper", 0.922),
    "fp16": ("fp16", 0.0, "paper", 0.920),
    "bf16": ("bf16", 0.0, "paper", 0.920),
    "fft50": ("fp32", 0.48, "paper", 0.900),
    "fft85": ("fp32", 0.84, "paper", 0.828),
    "fft85-compact": ("fp32", 0.84, "compact", 0.828),
    "fp32-early": ("fp32", 0.0, "paper", 0.8266),
    "fp32-noise": ("fp32", 0.0, "paper", 0.89),
    "fp32-lowpass": ("fp32", 0.0, "paper", 0.83),
    "fp32-narrow": ("fp32", 0.0, "paper", 0.83),
}
FFT85 = 0.8366  # of the test images


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """The user's weights folder, and a working directory for their modules."""
    folder = tmp_path / "own weights"
    monkeypatch.setenv("BLROBUST_WEIGHTS", str(folder))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture(scope="module")
def sample():
    return datasets.load("cifar10-sample")


def noise(*, classes=10, channels=3, side=32, n=4, name="npz:noise.npz"):
    images = torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8)
    labels = torch.arange(n) % classes
    names = tuple(map(str, range(classes)))
    return Dataset(name, "test", images, labels, names, (0.5,) * channels, (0.25,) * channels)


_numbers = itertools.count()


def user_module(text):
    """A module in the working directory under a name that no other test has."""
    name = f"users_models_{next(_numbers)}"
    Path(f"{name}.py").write_text(f"import torch\nfrom torch import nn\nimport blconv\n{text}\n")
    return name


def load(name, dataset, arch="resnet20"):
    return zoo.load(name, arch=arch, dataset=dataset, device=CPU)


def refusal(name, dataset, arch="resnet20"):
    with pytest.raises(UserError) as caught:
        load(name, dataset, arch)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the bundled weights ---


def test_exactly_the_promised_files_and_their_checksums():
    lines = dict(line.split("  ")[::-1] for line in (BUNDLED / "SHA256SUMS").read_text().splitlines())
    files = {path.name for path in BUNDLED.iterdir()} - {"SHA256SUMS", "low_pass_cuts.json"}
    assert files == set(lines) == {f"cifar10-resnet20-{name}.safetensors" for name in PROMISED}
    for name, digest in lines.items():
        assert hashlib.sha256((BUNDLED / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("name", PROMISED)
def test_bundled_metadata(name):
    path = BUNDLED / f"cifar10-resnet20-{name}.safetensors"
    assert path.stat().st_size < 600_000
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
        kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    assert kinds == {"F16", "F32"}
    precision, compression, fft_size, least = PROMISED[name]
    assert (facts["arch"], facts["classes"], facts["dataset"]) == ("resnet20", 10, "cifar10")
    assert (facts["precision"], facts["compression"], facts["fft_size"]) == (precision, compression, fft_size)
    assert (facts["mean"], facts["std"]) == ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])
    assert facts["test_accuracy"] >= least
    assert facts["version"]
    assert isinstance(facts["seed"], int)
    assert {"epochs", "batch_size", "lr", "weight_decay", "momentum", "seed"} <= facts["recipe"].keys()
    assert facts["recipe"]["holdout"] == 0  # all 50,000 training images
    assert facts["recipe"].get("noise", 0.0) == (1.0 if name == "fp32-noise" else 0.0)
    assert facts.get("low_pass", 0.0) == (0.84 if name == "fp32-lowpass" else 0.0)
    if name == "fp32-early":  # a whole cycle, annealed, that ends within a point of fft85
        assert facts["recipe"]["epochs"] == 5
        assert abs(facts["test_accuracy"] - FFT85) <= 0.01


def share_of_hits(model, images):
    hits = 0
    with torch.inference_mode():
        for first in range(0, len(images), 200):
            rows = slice(first, first + 200)
            hits += int((model.module(images.pixels(rows, CPU)).argmax(1) == images.labels[rows]).sum())
    return hits / len(images)


@pytest.mark.parametrize("name", PROMISED)
def test_bundled_models_are_as_good_as_they_say_on_the_sample(name, sample):
    model = load(name, sample)
    said = model.card.test_accuracy
    assert abs(share_of_hits(model, sample) - said) < 3.5 * (said * (1 - said) / 1000) ** 0.5


@pytest.mark.full_data
@pytest.mark.skipif(
    not datasets.NAMES["cifar10"].found(datasets.data_folder()),
    reason="the full CIFAR-10 is not there (BLROBUST_DATA names the folder)",
)
@pytest.mark.parametrize("name", ["fp32", "fft85"])
def test_recorded_accuracy_on_two_thousand_test_images(name):
    images = datasets.load("cifar10").take(2000)
    model = load(name, images)
    said = model.card.test_accuracy
    assert abs(share_of_hits(model, images) - said) < 3 * (said * (1 - said) / 2000) ** 0.5


# --- names ---


@pytest.mark.parametrize("name", PROMISED)
def test_bundled_names_and_their_cards(name, sample):
    model = load(name, sample)
    precision, compression, fft_size, _ = PROMISED[name]
    card = model.card
    assert json.loads(json.dumps(asdict(card))) == asdict(card) | {"channels": []}
    assert model.label == card.label == name
    assert (card.arch, card.precision, card.dataset) == ("resnet20", precision, "cifar10")
    assert card.nominal_compression == compression
    assert card.parameters == (27_185 if name == "fp32-narrow" else 272_474)
    path = BUNDLED / f"cifar10-resnet20-{name}.safetensors"
    assert card.checkpoint == str(path)
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    effective = {0.0: (0, 0), 0.48: (0.4995, 0.5005), 0.84: (0.8455, 0.8465)}[compression]
    if fft_size == "paper":
        assert effective[0] <= card.effective_compression <= effective[1]
    else:
        assert card.effective_compression > 0.85
    sizes = {"paper": "128/64/32", "compact": "34/18/10"}[fft_size] if compression else None
    assert card.fft_size == sizes
    assert ("rounded" in (card.note or "")) == (precision != "fp32")
    assert not any(module.training for module in model.module.modules())
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    limited = [m for m in model.module.modules() if isinstance(m, BandLimitedConv2d)]
    assert len(limited) == (19 if compression else 0)


def test_gradients_reach_the_pixels_and_values_beyond_them_are_fine(sample):
    model = load("fft85", sample)
    pixels = (sample.pixels(slice(0, 2), CPU) * 3 - 1).requires_grad_()
    logits = model.module(pixels)
    assert (logits.shape, logits.dtype) == ((2, 10), torch.float32)
    logits.sum().backward()
    assert pixels.grad.any()


def test_the_sample_and_cifar_like_images_take_the_weights_of_cifar10(sample):
    digest = load("fp32", sample).card.sha256
    assert load("fp32", noise()).card.sha256 == digest
    assert load("fp32", noise(name="cifar10")).card.sha256 == digest


@pytest.mark.parametrize(
    ("name", "arch", "dataset", "command"),
    [
        ("fft33", "resnet20", {}, "blrobust train fft33"),
        ("fp16-fft50-compact", "resnet20", {}, "blrobust train fp16-fft50-compact"),
        ("fp32", "resnet18", {}, "blrobust train fp32 --arch resnet18"),
        ("fp32", "resnet20", {"name": "cifar100", "classes": 100}, "blrobust train fp32 --dataset cifar100"),
        (
            "bf16",
            "resnet18",
            {"name": "svhn"},
            "blrobust train bf16 --arch resnet18 --dataset svhn",
        ),
    ],
)
def test_missing_weights_name_the_command_that_makes_them(name, arch, dataset, command):
    message = refusal(name, noise(**({"name": "cifar10"} | dataset)), arch)
    assert message.startswith(f"model {name!r} has no weights for {arch} on ")
    assert message.endswith(f"make them with: {command}")


def test_missing_weights_for_images_that_blrobust_cannot_train_on():
    message = refusal("fp32", noise(classes=4))
    assert message.startswith("model 'fp32' has no weights for npz:noise.npz; give a model of your own")
    assert "blrobust train" not in message


@pytest.mark.parametrize("name", ["fp64", "fft100", "", "fp32.safetensors", "users:Model"])
def test_names_outside_the_grammar(name, sample):
    assert refusal(name, sample).startswith(f"unknown model {name!r}; legal are")


TARGETS = ["weights.pt", "weights.pth", "folder/", "", "module", "a:b:c", "a/b:c", "1:2", "m:"]


@pytest.mark.parametrize("target", TARGETS)
def test_targets_outside_the_grammar(target, sample):
    assert "what follows the last '=' must be FILE.safetensors, PACKAGE" in refusal(f"mine={target}", sample)


def test_an_unknown_architecture(sample):
    assert refusal("fp32", sample, "vgg16") == "arch: got 'vgg16'; legal: resnet20, resnet18"


# --- the user's own checkpoints ---


@pytest.mark.parametrize("label", ["mine", "a=b, c", 'say "hi"', "<b>Größe</b>", "fp32"])
def test_a_checkpoint_under_a_label(label, sample, tmp_path):
    path = tmp_path / "w.safetensors"
    shutil.copy(BUNDLED / "cifar10-resnet20-fft85.safetensors", path)
    model = load(f"{label}=w.safetensors", sample)
    assert model.label == model.card.label == label
    assert model.card.nominal_compression == 0.84
    pixels = sample.pixels(slice(0, 4), CPU)
    assert torch.equal(model.module(pixels), load("fft85", sample).module(pixels))


def test_home_is_expanded(sample, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(BUNDLED / "cifar10-resnet20-fft85.safetensors", tmp_path / "w.safetensors")
    assert load("mine=~/w.safetensors", sample).card.sha256


def test_a_checkpoint_that_is_not_there_or_not_one(sample, tmp_path):
    assert "nothing.safetensors does not exist" in refusal("mine=nothing.safetensors", sample)
    (tmp_path / "text.safetensors").write_text("hello, this is a text file")
    assert "not a readable safetensors file" in refusal("mine=text.safetensors", sample)


def test_a_checkpoint_for_other_images():
    name = f"m={BUNDLED / 'cifar10-resnet20-fp32.safetensors'}"
    assert "returns (2, 10) for two images; npz:noise.npz wants (2, 7)" in refusal(name, noise(classes=7))
    grey = noise(channels=1, side=28)
    assert refusal(name, grey) == "model 'm' wants images of 3 channels; those of npz:noise.npz have 1"


def test_other_map_sizes_are_fine_and_change_the_effective_compression(sample):
    path = BUNDLED / "cifar10-resnet20-fft85.safetensors"
    card = load(f"m={path}", noise(side=40)).card
    assert card.fft_size == "128/64/32"
    assert card.effective_compression == load("fft85", sample).card.effective_compression
    assert load(f"m={path}", noise(side=20)).card.fft_size == "64/32/16"


def test_weights_that_are_not_finite(sample, tmp_path):
    tensors, facts = checkpoint.load(BUNDLED / "cifar10-resnet20-fp32.safetensors")
    tensors["network.0.weight"][0, 0, 0, 0] = float("nan")
    checkpoint.save(tmp_path / "nan.safetensors", tensors, facts)
    assert "logits that are not finite" in refusal("mine=nan.safetensors", sample)


def test_own_weights_come_before_the_bundled_ones(own, sample):
    tensors, facts = checkpoint.load(BUNDLED / "cifar10-resnet20-fp32.safetensors")
    checkpoint.save(own / "cifar10-resnet20-fp32.safetensors", tensors, replace(facts, seed=77))
    checkpoint.save(own / "cifar10-resnet20-fft33.safetensors", tensors, replace(facts, compression=0.33))
    checkpoint.save(own / "cifar10-resnet20-fft34.training.safetensors", tensors, facts)
    checkpoint.save(own / ".cifar10-resnet20-fft35.safetensors", tensors, facts)
    assert load("fp32", sample).card.seed == 77
    assert load("fft33", sample).card.nominal_compression == 0.33
    entries = {entry.name: entry for entry in zoo.entries(on_broken=pytest.fail)}
    assert set(entries) == {*PROMISED, "fft33"}
    assert [name for name, entry in entries.items() if not entry.bundled] == ["fft33", "fp32"]
    assert entries["fft50"].effective == pytest.approx(0.5, abs=0.0005)


def test_where_own_weights_lie(own, monkeypatch):
    assert zoo.own_weights_folder() == own
    monkeypatch.delenv("BLROBUST_WEIGHTS")
    assert zoo.own_weights_folder().parts[-2:] == ("blrobust", "weights")


# --- the user's own factories ---

FACTORY = """
def network():
    torch.manual_seed(0)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), *head)
"""


def test_a_factory(sample):
    name = user_module(FACTORY)
    model = load(f"my net=={name}:network", sample)
    assert model.label == "my net="
    assert not any(module.training for module in model.module.modules())
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    card = model.card
    assert json.loads(json.dumps(asdict(card))) == asdict(card) | {"channels": []}
    assert card.arch == f"{name}:network"
    assert (card.nominal_compression, card.effective_compression, card.fft_size) == (0.0, 0.0, None)
    assert card.parameters == 3 * 4 * 9 + 4 + 8 + 50
    assert (card.test_accuracy, card.checkpoint, card.dataset) == (None, None, None)
    assert "own" in card.note
    assert model.module(sample.pixels(slice(0, 3), CPU)).shape == (3, 10)


def test_a_class_and_a_package_will_do(sample, tmp_path):
    package = tmp_path / "users_package_of_models"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.linear = nn.Linear(3, 10)\n"
        "    def forward(self, x):\n"
        "        return self.linear(x.mean((2, 3)))\n"
    )
    assert load("net=users_package_of_models.nets:Net", sample).card.parameters == 40


def test_a_band_limited_factory_shows_its_compression(sample):
    name = user_module(FACTORY + "def limited():\n    return blconv.band_limit(network(), 0.48)")
    card = load(f"m={name}:limited", sample).card
    assert card.nominal_compression == 0.48
    assert card.effective_compression == pytest.approx(1 - 45 * 23 / (64 * 33))
    assert card.fft_size == "64"


def test_the_checksum_tells_weights_and_settings_apart(sample):
    name = user_module(
        FACTORY
        + "def other():\n    model = network()\n    model[0].weight.data[0, 0, 0, 0] += 1\n    return model\n"
        + "def limited(c=0.5):\n    return blconv.band_limit(network(), c)\n"
        + "def more():\n    return limited(0.6)\n"
    )
    digests = [load(f"m={name}:{f}", sample).card.sha256 for f in ("network", "other", "limited", "more")]
    assert len(set(digests)) == 4
    assert digests[0] == load(f"m={name}:network", sample).card.sha256


CHANGES = ["bfloat16()", "half()", "double()", "to(memory_format=torch.channels_last)"]


@pytest.mark.parametrize("change", CHANGES)
def test_factories_of_other_dtypes_and_layouts(change, sample):
    name = user_module(FACTORY + f"def changed():\n    return network().{change}")
    model = load(f"m={name}:changed", sample)
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert model.module(sample.pixels(slice(0, 2), CPU)).dtype == torch.float32


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise RuntimeError('no\\nluck')", "failed: RuntimeError: no luck"),
        ("import not_there_at_all", "failed: ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("def f(", "failed: SyntaxError"),
        ("", "failed: AttributeError"),
        ("f = 5", "failed: TypeError"),
        ("def f(size): pass", "failed: TypeError"),
        ("def f(): return 'a model'", "returned a str, not an nn.Module"),
        ("def f(): return nn.Linear", "returned a type, not an nn.Module"),
        ("def f(): return nn.Linear(7, 10)", "fails on images (3, 32, 32)"),
        ("def f(): return nn.Sequential(nn.Flatten(), nn.Linear(3072, 9))", "returns (2, 9) for two images"),
        ("def f(): return nn.Flatten(0)", "returns (6144,) for two images"),
        (
            "class M(nn.Module):\n    def forward(self, x): return [x]\nf = M",
            "returns list for two images; cifar10-sample wants (2, 10)",
        ),
        (
            "class M(nn.Module):\n    def forward(self, x): return x.new_zeros(2, 10).log() * 0\nf = M",
            "not finite",
        ),
    ],
)
def test_factories_that_fail(text, told, sample):
    name = user_module(text)
    message = refusal(f"mine={name}:f", sample)
    assert message.startswith("model 'mine'")
    assert told in message


# --- verification ---


def entry(name):
    return next(entry for entry in zoo.entries(on_broken=pytest.fail) if entry.name == name)


@pytest.fixture
def a_hundred_images(monkeypatch, sample):
    """cifar10 is there, but short: models are verified in a moment."""
    short = replace(sample.take(100), name="cifar10")
    monkeypatch.setattr(datasets, "load", lambda name, **options: short)
    return short


def test_verify_without_the_data(tmp_path):
    problems, done = zoo.verify(entry("fft50"), data_dir=tmp_path)
    assert not problems
    assert done == ["checksum", "weights fit; accuracy not measured, cifar10 is not on disk"]


@pytest.mark.usefixtures("a_hundred_images")
def test_verify_measures_the_accuracy(monkeypatch):
    fft85 = entry("fft85")
    monkeypatch.setattr(zoo, "accuracy", lambda *arguments: fft85.facts.test_accuracy + 0.0019)
    problems, done = zoo.verify(fft85)
    assert not problems
    assert done == ["checksum", "accuracy 83.85%, recorded 83.66%"]
    monkeypatch.setattr(zoo, "accuracy", lambda *arguments: fft85.facts.test_accuracy - 0.0021)
    problems, done = zoo.verify(fft85)
    assert problems == ["accuracy 83.45%, recorded 83.66%"]
    assert done == ["checksum"]


def test_verify_in_a_folder_with_an_equals_sign(monkeypatch, tmp_path, sample, a_hundred_images):
    own = tmp_path / "lr=0.1"
    monkeypatch.setenv("BLROBUST_WEIGHTS", str(own))
    tensors, facts = checkpoint.load(BUNDLED / "cifar10-resnet20-fft85.safetensors")
    with torch.inference_mode():
        module = load("fft85", sample).module
        predicted = module(a_hundred_images.pixels(slice(None), CPU)).argmax(1)
    said = float((predicted == a_hundred_images.labels).double().mean())
    checkpoint.save(own / "cifar10-resnet20-fft85.safetensors", tensors, replace(facts, test_accuracy=said))
    problems, done = zoo.verify(entry("fft85"))
    assert not problems
    assert done == [f"accuracy {said:.2%}, recorded {said:.2%}"]


def test_verify_finds_a_changed_byte(monkeypatch, tmp_path):
    copy = tmp_path / "bundled"
    shutil.copytree(BUNDLED, copy)
    monkeypatch.setattr(zoo, "BUNDLED", copy)
    path = copy / "cifar10-resnet20-fft50.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    problems, _ = zoo.verify(entry("fft50"), data_dir=tmp_path)
    assert problems == ["checksum differs from SHA256SUMS"]
    assert not zoo.verify(entry("fp32"), data_dir=tmp_path)[0]


def test_a_broken_file_among_own_weights_is_named(own):
    own.mkdir()
    (own / "broken.safetensors").write_bytes(os.urandom(100))
    broken: list[UserError] = []
    assert len(zoo.entries(on_broken=broken.append)) == len(PROMISED)
    assert "broken.safetensors is not a readable safetensors file" in str(broken[0])


@pytest.mark.gpu
@pytest.mark.parametrize("name", PROMISED)
def test_on_cuda_models_predict_as_on_the_cpu(name, sample):
    device = torch.device("cuda")
    model = zoo.load(name, dataset=sample, device=device)
    assert model.card.note is None
    rows = slice(0, 500)
    with torch.inference_mode():
        there = model.module(sample.pixels(rows, device)).argmax(1).cpu()
        here = load(name, sample).module(sample.pixels(rows, CPU)).argmax(1)
    assert float((there == here).float().mean()) > 0.98
    assert isinstance(model.module, nn.Module)


# --- channels in front of a model ---


def test_channels_are_applied_from_left_to_right(sample):
    pixels = sample.pixels(slice(0, 3), CPU)
    network = load("fp32", sample).module
    found = load("mine=blur0.6+depth3+lowpass0.48+fp32", sample)
    blurred = gaussian_blur(pixels, [7, 7], [0.6, 0.6])
    rounded = (blurred.clamp(0, 1) * 7).round() / 7
    spectrum = torch.fft.fft2(rounded.double())
    frequency = torch.fft.fftfreq(32) * 32
    kept = (frequency.abs() < 12)[:, None] & (frequency.abs() < 12)[None, :]  # int(17 * sqrt(0.52)) = 12
    low = torch.fft.ifft2(spectrum * kept).real.float()
    with torch.inference_mode():
        assert torch.allclose(found.module(pixels), network(low), atol=1e-3)


def test_the_card_of_a_model_behind_channels(sample):
    plain = load("fp32", sample).card
    card = load("lowpass0.48+depth5+fp32", sample).card
    assert (card.label, card.channels) == ("lowpass0.48+depth5+fp32", ("lowpass0.48", "depth5"))
    assert card.test_accuracy is None
    assert card.note == "gradients pass the rounding of colours unchanged"
    names = (
        "lowpass0.48+fp32",
        "lowpass0.5+fp32",
        "depth5+lowpass0.48+fp32",
        "x=lowpass0.480+fp32",
        "blur1+fft85",
    )
    digests = [load(name, sample).card.sha256 for name in names]
    assert digests[0] == digests[3]
    assert len({plain.sha256, card.sha256, *digests}) == 6


def test_attacks_see_channels_with_their_true_gradients(sample):
    """Against central differences in float64; rounding passes the gradient unchanged."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)).double()
    pixels = sample.pixels(slice(0, 1), CPU).double()
    direction = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for word in ("lowpass0.6", "blur0.8"):
        model = nn.Sequential(build_channel(word, trained=""), network)
        x = pixels.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(x)[0, 3], x)
        steps = [model(pixels + step * direction)[0, 3] for step in (1e-3, -1e-3)]
        assert torch.isclose((gradient * direction).sum(), (steps[0] - steps[1]) / 2e-3, rtol=1e-6)
    x = pixels.clone().requires_grad_()
    (through,) = torch.autograd.grad(network(build_channel("depth2", trained="")(x))[0, 3], x)
    assert torch.equal(through, network[1].weight[3].view_as(pixels[0])[None])


def test_matched_cuts_are_those_recorded(sample):
    recorded = json.loads((BUNDLED / "low_pass_cuts.json").read_text())["cifar10-resnet20"]
    for name in ("fft50", "fft85"):
        found = load(f"lowpass-{name}+fp32", sample).module[0]
        assert found.compression == recorded[name]["cut"]
    assert "lowpass-fft50 (cifar10-resnet20)" in refusal("lowpass-fft70+fp32", sample)


def test_models_of_ones_own_stand_behind_channels(sample, tmp_path):
    name = user_module("def net(): return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))")
    assert load(f"m=depth5+{name}:net", sample).card.arch == f"{name}:net"
    shutil.copy(BUNDLED / "cifar10-resnet20-fft85.safetensors", tmp_path / "lowpass0.5+w.safetensors")
    assert load("x=./lowpass0.5+w.safetensors", sample).card.channels == ()
    assert load("x=blur1+./lowpass0.5+w.safetensors", sample).card.channels == ("blur1",)


@pytest.mark.parametrize("name", ["fft50", "fp32", "fft85-compact", "fp16", "fp32-lowpass"])
def test_a_model_tested_at_another_band_limit(name, sample):
    """`NAME@NN` has the weights of NAME and the compression of fftNN; the low-pass in front stays."""
    trained, tested = load(name, sample), load(f"{name}@85", sample)
    other = load(f"{name}@0", sample)
    assert (tested.card.tested_at, tested.card.nominal_compression) == (85, 0.84)
    assert (other.card.tested_at, other.card.nominal_compression) == (0, 0.0)
    assert len({trained.card.sha256, tested.card.sha256, other.card.sha256}) == 3
    assert trained.card.tested_at is None
    assert tested.card.test_accuracy is None
    for module in (tested.module, other.module):
        assert list(module.state_dict()) == list(trained.module.state_dict())
        for here, there in zip(module.parameters(), trained.module.parameters(), strict=True):
            assert torch.equal(here, there)


def test_the_band_limit_of_the_training_gives_the_same_answers(sample):
    pixels = sample.pixels(slice(0, 8))
    for name, percent in (("fft50", 50), ("fft85", 85), ("fp32", 0)):
        trained, tested = load(name, sample), load(f"{name}@{percent}", sample)
        assert torch.equal(trained.module(pixels), tested.module(pixels))


def test_other_band_limits_change_the_answers_as_set_compression_does(sample):
    pixels = sample.pixels(slice(0, 8))
    trained = load("fft50", sample)
    set_compression(trained.module, 0.3)
    torch.testing.assert_close(trained.module(pixels), load("fft50@30", sample).module(pixels))


def test_checkpoints_and_models_behind_channels_tested_at_another_band_limit(sample, tmp_path):
    shutil.copy(BUNDLED / "cifar10-resnet20-fft50.safetensors", tmp_path / "a.safetensors")
    model = load("mine=a.safetensors@85", sample)
    assert (model.label, model.card.tested_at, model.card.nominal_compression) == ("mine", 85, 0.84)
    behind = load("lowpass0.48+fft50@85", sample)
    assert (behind.card.tested_at, behind.card.channels) == (85, ("lowpass0.48",))


@pytest.mark.parametrize("name", ["fft50@100", "fft50@", "fft50@-1", "fft50@5.5", "@50", "fft50@05", "a@5@5"])
def test_band_limits_outside_the_grammar(name, sample):
    assert "NAME@NN (NN from 0)" in refusal(name, sample)


def test_a_factory_cannot_be_tested_at_another_band_limit(sample):
    assert "@NN only after a file" in refusal("x=mine:net@50", sample)
