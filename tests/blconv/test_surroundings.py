"""What users have hung onto a network before it is band-limited, or hang onto it after."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.tv_tensors import Image

from blconv import BandLimitedConv2d, band_limit, calibrate
from blconv.functional import band_limited_conv2d

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))


def limited(weight, bias, x=X):
    return band_limited_conv2d(x, weight, bias, padding=1, compression=0.5)


def test_an_optimizer_made_before_trains_the_layers():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [parameter.clone() for parameter in model.parameters()]
    band_limit(model, 0.5)(X).square().sum().backward()
    optimizer.step()
    assert not any(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))


def test_tied_weights_stay_tied():
    model = network()
    model[2].weight = model[0].weight
    band_limit(model, 0.5)
    assert model[2].weight is model[0].weight
    assert len(list(model.parameters())) == 3


def test_hooks_and_references_stay():
    model = network()
    first, seen = model[0], []
    first.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    band_limit(model, 0.5)(X)
    assert first is model[0]
    assert torch.equal(seen[0], limited(first.weight, first.bias))


def pruned(conv):
    prune.random_unstructured(conv, "weight", 0.5)
    prune.random_unstructured(conv, "bias", 1)


def spectral(conv):
    parametrizations.spectral_norm(conv).eval()


def weight_norm(conv):
    parametrizations.weight_norm(conv)


@pytest.mark.parametrize("change", [pruned, spectral, weight_norm])
def test_weights_that_are_computed_after(change):
    model = band_limit(network(), 0.5)
    change(model[0])
    y = model[0](X)
    assert torch.equal(y, limited(model[0].weight, model[0].bias))
    y.sum().backward()
    assert all(parameter.grad is not None for parameter in model[0].parameters())
    assert not torch.equal(model[0].weight, network()[0].weight)


@pytest.mark.filterwarnings("ignore:.*is deprecated in favor of:FutureWarning")
@pytest.mark.parametrize(
    "change",
    [pruned, lambda conv: nn.utils.weight_norm(conv), lambda conv: nn.utils.spectral_norm(conv).eval()],
)
def test_weights_that_a_hook_computes_before(change):
    """Masks and norms of the older kind are hooks of the layer, and work on."""
    model = network()
    change(model[0])
    names = list(model.state_dict())
    band_limit(model, 0.5)
    assert isinstance(model[0], BandLimitedConv2d)
    y = model[0](X)
    assert torch.equal(y, limited(model[0].weight, model[0].bias))
    assert list(model.state_dict()) == names
    assert not torch.equal(model[0].weight, network()[0].weight)


def test_a_calibrated_network_survives_copies_files_and_averages():
    model = band_limit(network(), 0.5)
    calibrate(model, [X], energy=0.9)
    wanted = model(X)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    for twin in (copy.deepcopy(model), torch.load(file, weights_only=False), average):
        assert torch.equal(twin(X), wanted)


def test_features_by_name():
    """torch.fx traces into layers that are not torch's, unless they are leaves or come after."""
    torch.manual_seed(0)
    model, x = resnet18().eval(), torch.randn(1, 3, 32, 32)
    traced = band_limit(create_feature_extractor(copy.deepcopy(model), ["layer2"]), 0.5)
    seen = []
    band_limit(model, 0.5).layer2.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    model(x)
    leaves = {"leaf_modules": [BandLimitedConv2d]}
    for extractor in (traced, create_feature_extractor(model, ["layer2"], tracer_kwargs=leaves)):
        assert torch.equal(extractor(x)["layer2"], seen[0])


def test_torchvisions_images_are_tensors():
    layer = band_limit(network(), 0.5)[0]
    y = layer(Image(X))
    assert type(y) is torch.Tensor
    assert torch.equal(y, layer(X))


def test_a_picture_that_is_a_parameter():
    layer, picture = band_limit(network(), 0.5)[0], nn.Parameter(X.clone())
    layer(picture).square().sum().backward()
    x = X.clone().requires_grad_()
    layer(x).square().sum().backward()
    assert torch.equal(picture.grad, x.grad)
