import pytest
import torch

from blrobust import device
from blrobust.errors import UserError


@pytest.fixture
def machine(monkeypatch):
    """Say what the machine has."""

    def have(*, cuda=0, mps=False):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: cuda - 1)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return have


@pytest.mark.parametrize(
    ("has", "name", "found"),
    [
        ({}, "auto", "cpu"),
        ({"mps": True}, "auto", "mps"),
        ({"cuda": 1, "mps": True}, "auto", "cuda:0"),
        ({"cuda": 2}, "cuda", "cuda:1"),  # the current one
        ({"cuda": 2}, "cuda:0", "cuda:0"),
        ({"cuda": 2}, "cpu", "cpu"),
        ({"mps": True}, "mps", "mps"),
    ],
)
def test_resolve(machine, has, name, found):
    machine(**has)
    assert str(device.resolve(name)) == found


@pytest.mark.parametrize(
    ("has", "name", "choices"),
    [
        ({}, "cuda", "legal: auto, cpu"),
        ({}, "mps", "legal: auto, cpu"),
        ({}, "cuda:0", "legal: auto, cpu"),
        ({"cuda": 2}, "cuda:2", "legal: auto, cuda:0, cuda:1, cpu"),
        ({}, "", "legal: auto, cpu"),
        ({}, "CPU", "legal: auto, cpu"),
        ({}, "cpu:1", "legal: auto, cpu"),
        ({}, "tpu", "legal: auto, cpu"),
    ],
)
def test_what_is_not_there(machine, has, name, choices):
    machine(**has)
    with pytest.raises(UserError) as caught:
        device.resolve(name)
    assert repr(name) in str(caught.value)
    assert str(caught.value).endswith(choices)
    assert "\n" not in str(caught.value)


def test_describe_the_cpu():
    text = device.describe(torch.device("cpu"))
    assert text.startswith("cpu, ")
    assert f"{torch.get_num_threads()} threads" in text


def test_describe_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: f"Some GPU {place.index}")
    assert device.describe(torch.device("cuda", 1)) == "cuda:1, Some GPU 1"


@pytest.mark.gpu
def test_auto_takes_the_gpu():
    assert device.resolve("auto") == torch.device("cuda", 0)
    assert torch.cuda.get_device_name(0) in device.describe(device.resolve("cuda"))


def test_full_precision_is_put_back():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    try:
        with device.full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
