"""Programs: products and buffers against float64, and the statuses of the compiled code."""

import pytest
import torch

from blconv.kernels.runtime.host_code import CUBLAS_ERROR, raise_for
from blconv.kernels.runtime.program import Buffer, Fork, Join, Place, Product, Program
from blrobust.device import full_precision

MATRICES, IMAGES = 3, 5
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


def stored(matrices, *, transposed):
    return (matrices.mT if transposed else matrices).contiguous()


def check_products(device, dtypes):
    """Two products in a row, through a buffer, for each place of the images and each transposition."""
    sizes = [(None, 7, 11), (7, None, 11), (7, 11, None)]
    for dtype in dtypes:
        for rows, inner, columns in sizes:
            shape = [IMAGES if size is None else size for size in (rows, inner, columns)]
            for left_transposed in (False, True):
                for right_transposed in (False, True):
                    left = torch.randn(MATRICES, shape[0], shape[1]).to(dtype)
                    right = torch.randn(MATRICES, shape[1], shape[2]).to(dtype)
                    last = torch.randn(MATRICES, shape[2], 2).to(dtype)
                    a, b, buffer = Place(1), Place(2), Place(5)
                    steps = [
                        Fork(),
                        Product(
                            a, b, buffer, MATRICES, rows, inner, columns, dtype, left_transposed,
                            right_transposed,
                        ),
                        Join(),
                        Product(buffer, Place(3), Place(4), MATRICES, rows, columns, 2, dtype),
                    ]  # fmt: skip
                    out = torch.full((MATRICES, shape[0], 2), float("nan"), dtype=dtype, device=device)
                    buffers = [Buffer((MATRICES, rows, columns), dtype)]
                    program = Program(out.device, steps, 4, buffers)
                    given = (
                        stored(left, transposed=left_transposed),
                        stored(right, transposed=right_transposed),
                        last,
                    )
                    program.run(IMAGES, *(t.to(device) for t in given), out)
                    wanted = left.double() @ right.double() @ last.double()
                    error = (out.cpu().double() - wanted).norm() / wanted.norm()
                    assert error < TOLERANCES[dtype], (dtype, shape, left_transposed, right_transposed)


def test_products_on_the_cpu():
    check_products("cpu", [torch.float32])


@pytest.mark.gpu
def test_products_on_a_gpu():
    with full_precision():
        check_products("cuda", TOLERANCES)


@pytest.mark.gpu
def test_a_failed_launch_is_an_error():
    with pytest.raises(RuntimeError, match="CUDA driver returned CUDA_ERROR_INVALID_VALUE"):
        raise_for(1)


def test_a_failed_product_is_an_error():
    raise_for(0)
    with pytest.raises(RuntimeError, match="cuBLAS returned the status 7"):
        raise_for(CUBLAS_ERROR + 7)
