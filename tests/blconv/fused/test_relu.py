import pytest
import torch
import torch.nn.functional as F

from blconv.fused.block import BlockReLU
from blconv.fused.relu import ReLUFromBits, pack_bits, relu_backward, relu_forward, unpack_bits
from blconv.kernels.fused import relu as kernels

SPECIAL = [-1.0, -0.0, 0.0, 1e-30, 2.0, torch.inf, -torch.inf, torch.nan, -torch.nan]
SHAPES = [(1,), (2, 3, 2, 3), (0, 3), (8,), (17,), ()]


def special(*shape, dtype=torch.float32):
    return torch.tensor(SPECIAL)[torch.randint(len(SPECIAL), shape)].to(dtype)


def same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


def test_signs():
    for shape in [(3, 5, 2, 7), (2, 8, 4, 4), (1,), (), (0, 3), (9,)]:
        held = torch.rand(shape) < 0.4
        bits = pack_bits(held)
        assert (bits.dtype, bits.numel()) == (torch.uint8, -(-held.numel() // 8))
        assert torch.equal(unpack_bits(bits, held), held)
    held = (torch.rand(2, 5, 3, 7) < 0.4).contiguous(memory_format=torch.channels_last)
    assert torch.equal(unpack_bits(pack_bits(held), held), held)


@pytest.mark.parametrize("inplace", [False, True])
def test_the_relu_is_torchs(inplace):
    x, grad = special(2, 3, 5, 7).requires_grad_(), special(2, 3, 5, 7)
    relu = BlockReLU(inplace)
    given = x * 1
    y, wanted = relu(given), F.relu(x)
    assert (y is given) == inplace
    same(y, wanted)
    found, expected = (torch.autograd.grad(out, x, grad)[0] for out in (y, wanted))
    same(found, expected)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: ReLUFromBits.apply(x * 1, inplace), x)


@pytest.mark.parametrize("dtype", kernels.POINTERS)
@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
def test_the_kernels_read_before_they_write_and_spill_nothing(capability, dtype, compile_kernel):
    for kernel, loads in ((kernels.forward_kernel(dtype), 8), (kernels.backward_kernel(dtype), 9)):
        body = compile_kernel(kernel, capability).body
        assert body[: body.index("st.global")].count("ld.global") == loads


def check_kernels(device):
    """Values, bits and gradients against torch's, with every kind of number, in both layouts."""
    for dtype in kernels.POINTERS:
        for shape in SHAPES:
            x, grad = special(*shape, dtype=dtype).to(device), special(*shape, dtype=dtype).to(device)
            if len(shape) == 4:
                x, grad = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad))
            y = torch.empty_like(x)
            bits = kernels.relu_forward(x, y)
            same(y, x.relu())
            assert torch.equal(bits, pack_bits(y <= 0))
            same(kernels.relu_backward(grad, bits), torch.where(y <= 0, 0, grad))
            assert torch.equal(kernels.relu_forward(x, x), bits)
            same(x, y)


def check_in_the_simulator():
    kernels.THREADS = 2
    check_kernels("cpu")


def test_the_kernels_in_the_simulator(simulate):
    simulate(check_in_the_simulator)


@pytest.mark.gpu
def test_the_kernels_on_cuda():
    check_kernels("cuda")
    x, grad = torch.randn(2, 3, 1000, 7, device="cuda"), torch.randn(2, 3, 1000, 7, device="cuda")
    y, bits = relu_forward(x)
    same(y, x.relu())
    same(relu_backward(grad, bits, channels_last=False), torch.where(x > 0, grad, 0))
