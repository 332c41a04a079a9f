"""Modules get back the state that a measurement changes."""

import pytest
import torch
from support.failing_models import EqualsAll
from torch import nn

from blrobust.errors import UserError
from blrobust.models.module_state import unchanged_module


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.layer = nn.Linear(4, 2)


def test_dtypes_modes_and_flags_come_back_after_an_error() -> None:
    network = Network().half()
    network.norm.eval()
    network.layer.bias.requires_grad_(False)
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    change_and_fail = unchanged_module(network)(lambda: network.eval().float().requires_grad_(False).fail())
    with pytest.raises(AttributeError):
        change_and_fail()
    assert network.training
    assert not network.norm.training
    assert [p.requires_grad for p in network.parameters()] == [True, True, True, False]
    after = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, tensor in after.items():
        assert tensor is tensors[name], name
        assert tensor.dtype == values[name].dtype
        assert torch.equal(tensor, values[name])


def test_a_lazy_module_keeps_the_weights_of_its_first_pass() -> None:
    network = nn.Sequential(nn.LazyLinear(3))
    with unchanged_module(network):
        network(torch.zeros(2, 5))
    assert network[0].weight.shape == (3, 5)


@pytest.mark.gpu
def test_a_module_is_moved_back(device: str) -> None:
    network = Network()
    weight = network.layer.weight.data
    with unchanged_module(network):
        network.to(device)
    assert network.layer.weight.data.data_ptr() == weight.data_ptr()
    assert network.norm.running_mean.device.type == "cpu"


def test_a_module_whose_parts_cannot_be_listed_is_one_line() -> None:
    with (
        pytest.raises(UserError, match="model 'mine': its parts cannot be listed: TypeError: unhashable"),
        unchanged_module(EqualsAll(), "mine"),
    ):
        pass


def test_a_module_without_a_mode_is_accepted() -> None:
    network = Network()
    del network.training  # as in frozen modules of TorchScript
    with unchanged_module(network):
        pass
