import json
import os
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from blrobust.errors import UserError
from blrobust.models import checkpoint
from blrobust.models.checkpoint import FORMAT, Facts

FACTS = Facts(
    arch="resnet20",
    classes=10,
    precision="fp32",
    compression=0.48,
    fft_size="compact",
    dataset="cifar10",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    seed=3,
    recipe={"epochs": 2, "lr": 0.1},
    test_accuracy=0.75,
    version="0.1.0",
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = FACTS.build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture
def path(tmp_path, model):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, checkpoint.stored_state(model), FACTS)
    return path


def rewrite(path, *, metadata=None, facts=None, tensors=None):
    """Write the checkpoint again with something changed."""
    old, _ = checkpoint.load(path)
    metadata = metadata or {"format": FORMAT, "facts": json.dumps({**asdict(FACTS), **(facts or {})})}
    save_file(old if tensors is None else tensors(old), path, metadata)


def refusal(path, function=checkpoint.load):
    with pytest.raises(UserError) as caught:
        function(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_what_is_stored(path, model):
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert metadata["format"] == "blrobust-1"
    assert json.loads(metadata["facts"]) == json.loads(json.dumps(asdict(FACTS)))
    parameters = dict(model.named_parameters())
    buffers = {name: b for name, b in model.named_buffers() if name.endswith(("running_mean", "running_var"))}
    assert tensors.keys() == parameters.keys() | buffers.keys()
    for name, parameter in parameters.items():
        assert torch.equal(tensors[name], parameter.detach().to(torch.float16))
    for name, buffer in buffers.items():
        assert tensors[name].dtype == torch.float32
        assert torch.equal(tensors[name], buffer)
    assert 0.5e6 < path.stat().st_size < 0.6e6


def test_there_and_back(path, model):
    tensors, facts = checkpoint.load(path)
    assert facts == FACTS
    assert isinstance(facts.mean, tuple)
    loaded, again = checkpoint.load_model(path)
    assert again == FACTS
    assert not loaded.training
    rounded = FACTS.build().eval()
    rounded.load_state_dict(
        {
            n: t.half().float() if n not in dict(model.named_buffers()) else t
            for n, t in model.state_dict().items()
        }
    )
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(x), rounded(x))
    assert tensors.keys() < loaded.state_dict().keys()


@pytest.mark.parametrize("fft_size", ["paper", "compact", 40])
@pytest.mark.parametrize("accuracy", [None, 0.0, 1.0])
def test_all_facts_survive(tmp_path, fft_size, accuracy):
    facts = replace(
        FACTS, fft_size=fft_size, test_accuracy=None, holdout_accuracy=accuracy, recipe={"a": None}
    )
    checkpoint.save(tmp_path / "new folder" / "x.safetensors", {"a": torch.zeros(1)}, facts)
    assert checkpoint.load(tmp_path / "new folder" / "x.safetensors")[1] == facts


def test_layout_does_not_matter(tmp_path, model):
    tensors = checkpoint.stored_state(model)
    last = {n: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for n, t in tensors.items()}
    checkpoint.save(tmp_path / "last", last, FACTS)
    found, _ = checkpoint.load(tmp_path / "last")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_a_pickle_is_not_opened(tmp_path):
    marker = tmp_path / "was unpickled"
    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps(Marker(marker)))
    assert "not a readable safetensors file" in refusal(path)
    torch.save({"state": Marker(marker)}, path)
    assert "not a readable safetensors file" in refusal(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Marker(marker)))  # it would have
    assert marker.exists()


@pytest.mark.parametrize("content", [b"", b"hello\n" * 100, b"\0" * 64, b"\xff" * 64, b"PK\3\4" + b"x" * 50])
def test_other_files(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert "not a readable safetensors file" in refusal(path)


@pytest.mark.parametrize("left", [4, 100, 5000, 300_000, -1])
def test_truncated(path, left):
    path.write_bytes(path.read_bytes()[:left])
    assert "not a readable safetensors file" in refusal(path)


def test_bytes_too_many(path):
    path.write_bytes(path.read_bytes() + b"more")
    assert "not a readable safetensors file" in refusal(path)


def test_what_is_no_file(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nothing.safetensors")
    assert "is a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refusal(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(path):
    path.chmod(0)
    assert "not a readable safetensors file" in refusal(path)


def test_safetensors_of_others(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    assert "not written by blrobust (format 'none', wanted 'blrobust-1')" in refusal(path)
    save_file({"weight": torch.zeros(3)}, path, {"format": "pt"})
    assert "format 'pt'" in refusal(path)
    save_file({}, path, {"format": "blrobust-99"})
    assert "format 'blrobust-99'" in refusal(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"format": FORMAT},
        {"format": FORMAT, "facts": ""},
        {"format": FORMAT, "facts": "{"},
        {"format": FORMAT, "facts": "null"},
        {"format": FORMAT, "facts": "[]"},
        {"format": FORMAT, "facts": "{}"},
        {"format": FORMAT, "facts": '"text"'},
        {"format": FORMAT, "facts": "7"},
        {"format": FORMAT, "facts": '{"a":' * 2000},
        {"format": FORMAT, "facts": '{"a":' + "[" * 4000 + "]" * 4000 + "}"},
        {"format": FORMAT, "facts": "[" * 10**6},
    ],
)
def test_metadata_without_facts(path, metadata):
    rewrite(path, metadata=metadata)
    assert "unusable metadata" in refusal(path)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"arch": "vgg"}, "arch 'vgg' is not one of resnet20, resnet18"),
        ({"arch": ["resnet20"]}, ""),
        ({"precision": "int8"}, "precision 'int8' is not one of fp32, fp16, bf16"),
        ({"compression": 1.0}, "compression must be in [0, 1), got 1.0"),
        ({"compression": "0.5"}, ""),
        ({"compression": None}, ""),
        ({"compression": float("nan")}, "JSON is malformed"),
        ({"fft_size": "huge"}, "fft_size"),
        ({"fft_size": -1}, "fft_size"),
        ({"classes": 0}, "Expected `int` >= 1 - at `$.classes`"),
        ({"classes": "ten"}, "Expected `int`, got `str` - at `$.classes`"),
        ({"classes": True}, "Expected `int`, got `bool` - at `$.classes`"),
        ({"classes": 10.0}, "Expected `int`, got `float` - at `$.classes`"),
        ({"classes": 10**12}, "Expected `int` <= 32768 - at `$.classes`"),
        ({"classes": 10**400}, "Expected `int` <= 32768 - at `$.classes`"),
        ({"seed": -1}, "at `$.seed`"),
        ({"seed": 2**32}, "at `$.seed`"),
        ({"seed": None}, "at `$.seed`"),
        ({"width": 10**5}, "at `$.width`"),
        ({"width": True}, "at `$.width`"),
        ({"fft_size": 10**6}, "at `$.fft_size`"),
        ({"fft_size": True}, "at `$.fft_size`"),
        ({"compression": 10**400}, "at `$.compression`"),
        ({"low_pass": True}, "at `$.low_pass`"),
        ({"recipe": {"lr": [[[]]]}}, "at `$.recipe[...]`"),
        ({"recipe": []}, "at `$.recipe`"),
        ({"recipe": {"k" * 300: 1}}, "length <= 200 - at `key` in `$.recipe`"),
        ({"recipe": {"lr\x1b[2J": 1}}, "printable"),
        ({"recipe": {"lr": "\u202e"}}, "printable"),
        ({"dataset": "cifar10\x1b[2J"}, "printable"),
        ({"version": "\n"}, "printable"),
        ({"dataset": "x" * 300}, "at `$.dataset`"),
        ({"dataset": "x" * 10**6}, "legal: at most 10,000"),
        ({"recipe": {"lr": float("nan")}}, "JSON"),
        ({"dataset": 5}, "Expected `str`, got `int` - at `$.dataset`"),
        ({"mean": "abc"}, ""),
        ({"mean": 0.5}, ""),
        ({"mean": [0.5]}, "one a channel"),
        ({"mean": [float("nan")] * 3}, "JSON is malformed"),
        ({"mean": [0.5] * 2000, "std": [0.5] * 2000}, ""),
        ({"std": [0.2, 0.0, 0.2]}, "std above 0"),
        ({"mean": [], "std": []}, "at `$.mean`"),
        ({"test_accuracy": 92.4}, "Expected `float` <= 1.0 - at `$.test_accuracy`"),
        ({"holdout_accuracy": "high"}, ""),
    ],
    ids=str,
)
def test_facts_that_are_not_usable(path, facts, told):
    rewrite(path, facts=facts)
    message = refusal(path)
    assert "unusable metadata" in message
    assert told in message


def test_unknown_facts_are_left_aside_and_missing_ones_told(path):
    rewrite(path, facts={"favourite_colour": "blue"})
    assert checkpoint.load(path)[1] == FACTS
    facts = asdict(FACTS)
    del facts["precision"]
    rewrite(path, metadata={"format": FORMAT, "facts": json.dumps(facts)})
    assert "precision" in refusal(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensors: {}, "is nothing, wanted ("),
        (lambda tensors: tensors | {"extra": torch.zeros(2)}, "extra is (2,), wanted nothing"),
        (
            lambda tensors: tensors | {"network.0.weight": torch.zeros(16, 1, 3, 3)},
            "network.0.weight is (16, 1, 3, 3), wanted (16, 3, 3, 3)",
        ),
    ],
)
def test_weights_that_do_not_fit(path, change, told):
    rewrite(path, tensors=change)
    message = refusal(path, checkpoint.load_model)
    assert "does not fit resnet20" in message
    assert told in message


@pytest.mark.parametrize(
    ("dtype", "told"),
    [
        (torch.bool, "of type BOOL; legal"),
        (torch.int8, "of type I8; legal"),
        (torch.float64, "of type F64; legal"),
        (torch.complex64, "of type C64; legal"),
        (torch.float8_e4m3fn, "of type F8_E4M3; legal"),
        (torch.int64, "network.0.weight is torch.int64 (16, 3, 3, 3), wanted (16, 3, 3, 3)"),
    ],
)
def test_weights_of_other_types(path, dtype, told):
    name = "network.0.weight"
    rewrite(path, tensors=lambda tensors: tensors | {name: tensors[name].to(dtype)})
    message = refusal(path, checkpoint.load_model)
    assert name in message
    assert told in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_each_type_that_is_written(path, dtype):
    rewrite(path, tensors=lambda tensors: {name: t.to(dtype) for name, t in tensors.items()})
    model, _ = checkpoint.load_model(path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_names_of_tensors_are_bounded_and_shown(path):
    good = path.read_bytes()
    rewrite(path, tensors=lambda tensors: tensors | {"n" * 10**6: torch.zeros(1)})
    assert len(refusal(path)) < 1000
    path.write_bytes(good)
    rewrite(path, tensors=lambda tensors: {"n\x1b[2J": torch.zeros([1] * 1000)})
    assert len(refusal(path, checkpoint.load_model)) < 1000


def test_the_format_of_others_is_shortened(path):
    rewrite(path, metadata={"format": "f" * 10**6})
    assert len(refusal(path)) < 1000


def test_the_same_weights_give_the_same_file(path, model):
    before = path.read_bytes()
    for _ in range(20):
        checkpoint.save(path, checkpoint.stored_state(model), FACTS)
        assert path.read_bytes() == before


def test_a_flipped_bit_is_refused(path):
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    places = [end, end + 1000, len(content) // 2, len(content) - 1, content.index(b"0.1.0")]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        assert "is damaged: its tensors or facts do not have the stored checksum" in refusal(path)
    path.write_bytes(content)
    assert checkpoint.load(path)[1] == FACTS


def test_a_changed_name_is_refused(path):
    content = path.read_bytes()
    assert b'"network.1.bias"' in content
    path.write_bytes(content.replace(b'"network.1.bias"', b'"network.1.tias"'))
    assert "checksum" in refusal(path)


def test_a_number_in_the_facts_does_not_fill_the_memory(path, monkeypatch):
    """The sizes are compared before the model is built."""
    rewrite(path, facts={"classes": 2**15, "width": 1024})
    monkeypatch.setattr(
        nn.init, "kaiming_normal_", lambda tensor, **options: tensor.device.type == "meta" or 1 / 0
    )
    assert "does not fit" in refusal(path, checkpoint.load_model)


@pytest.mark.parametrize("facts", [{"classes": 100}, {"arch": "resnet18"}, {"mean": [0.5], "std": [0.5]}])
def test_facts_that_do_not_fit_the_weights(path, facts):
    rewrite(path, facts=facts)
    assert "does not fit" in refusal(path, checkpoint.load_model)


def test_a_reader_sees_the_old_file_or_the_new_one(path, monkeypatch):
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*model.safetensors'"):
        checkpoint.save(path, {"a": torch.zeros(2)}, FACTS)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


def test_an_interrupted_write_leaves_nothing_behind(path, monkeypatch):
    before = path.read_bytes()

    def interrupt(*arguments, **folders):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, {"a": torch.zeros(2)}, FACTS)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        checkpoint.save(tmp_path / "file" / "x.safetensors", {"a": torch.zeros(2)}, FACTS)
