"""Networks on two GPUs of one process, and of one process each, against the definition in float64."""

import copy
import threading

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from support import oracle
from torch import nn

from blconv import band_limit
from blrobust.device import full_precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
]
SHAPE = (6, 4, 16, 14)
OPTIONS = {"compression": 0.5, "fft_size": "compact"}


def network(norm=True):
    """Convolution, BatchNorm, ReLU and a strided convolution; without BatchNorm, images are independent."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(4, 8, 3, padding=1, bias=not norm), nn.Conv2d(8, 5, 3, stride=2, padding=1)
    return nn.Sequential(first, nn.BatchNorm2d(8) if norm else nn.Identity(), nn.ReLU(), second)


def images():
    torch.manual_seed(1)
    return torch.randn(SHAPE)


def gradients(model, x, target=1.0):
    ((model(x) - target) ** 2).mean().backward()
    return [parameter.grad for parameter in model.parameters()]


class Defined(nn.Module):
    """A band-limited convolution by its definition."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        conv = self.conv
        return oracle.conv2d(x, conv.weight, conv.bias, stride=conv.stride, padding=conv.padding, **OPTIONS)


def wanted(norm=True):
    model = network(norm).double()
    return gradients(
        nn.Sequential(*[Defined(m) if isinstance(m, nn.Conv2d) else m for m in model]), images().double()
    )


def near(found, expected, tolerance=1e-5):
    for ours, theirs in zip(found, expected, strict=True):
        scale = float(theirs.norm())
        assert float((ours.detach().cpu().double() - theirs).norm()) <= tolerance * scale


@pytest.mark.parametrize("fuse", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
def test_a_network_on_each_gpu_whatever_the_current_one_is(fuse, channels_last):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    expected = wanted()
    with full_precision():
        for current, other in ((0, 1), (1, 0), (0, 0)):
            with torch.cuda.device(current):
                model = band_limit(network(), fuse=fuse, **OPTIONS).to(f"cuda:{other}", memory_format=layout)
                near(gradients(model, images().to(f"cuda:{other}", memory_format=layout)), expected)
                assert torch.cuda.current_device() == current


@pytest.mark.parametrize("fuse", [False, True], ids=["plain", "fused"])
def test_a_network_that_moves(fuse):
    expected = wanted()
    with full_precision():
        model = band_limit(network(), fuse=fuse, **OPTIONS)
        for device in ("cuda:0", "cuda:1", "cpu", "cuda:1"):
            model = model.to(device)
            model.zero_grad()
            near(gradients(model, images().to(device)), expected)


def test_threads_on_two_gpus():
    expected, found = wanted(), {}
    model, x = band_limit(network(), **OPTIONS), images()  # here: threads share the random numbers

    def train(device):
        for _ in range(20):
            own = copy.deepcopy(model).to(device)
            found.setdefault(device, []).append(gradients(own, x.to(device)))

    with full_precision():  # the setting belongs to the process
        threads = [threading.Thread(target=train, args=(f"cuda:{n}",)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [len(several) for several in found.values()] == [20, 20]
    for several in found.values():
        for one in several:
            near(one, expected)


@pytest.mark.filterwarnings("ignore:.*DataParallel")
def test_data_parallel():
    with full_precision():
        model = nn.DataParallel(band_limit(network(norm=False), **OPTIONS).cuda(), device_ids=[0, 1])
        near(gradients(model, images().cuda()), wanted(norm=False))


def one_of_two(rank, folder):
    dist.init_process_group("nccl", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    with torch.cuda.device(rank), full_precision():
        model = band_limit(network(norm=False), **OPTIONS).to(rank)
        model = nn.parallel.DistributedDataParallel(model, device_ids=[rank])
        found = gradients(model, images().chunk(2)[rank].to(rank))
        torch.save([gradient.cpu() for gradient in found], folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available() or not dist.is_nccl_available(), reason="needs NCCL")
def test_two_processes_have_the_gradients_of_one(tmp_path):
    mp.spawn(one_of_two, (tmp_path,), nprocs=2)
    for rank in range(2):
        near(torch.load(tmp_path / f"{rank}.pt"), wanted(norm=False))
