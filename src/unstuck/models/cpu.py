"""What the process sets once so that small models train fast on a CPU. Changes speed, not results."""

from __future__ import annotations

import functools

import torch

# float32 sums of 512 products differ from float64 by about 1e-6 of the result's size; bfloat16 products by 2e-3.
FLOAT32_ERROR = 1e-5


@functools.cache
def tune_cpu() -> bool:
    """Sends float32 products to oneDNN where it computes them in full float32; says whether it did. Once per process.

    MKL runs its AVX2 kernels on AMD processors; oneDNN's AVX-512 kernels take half the time on a Zen 5
    (docs/LOG.md).
    PyTorch offers the route only under the name of reduced precision, so the precision really delivered is measured
    here, on products of a small and of a large layer (a kernel may be chosen by size), and the route is left alone if
    any was lost.
    """
    settings = getattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision", None)
    if settings is None:  # torch < 2.9
        return False
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    if all(
        _error(rows, inner, columns) <= FLOAT32_ERROR for rows, inner, columns in ((64, 512, 128), (512, 1024, 768))
    ):
        return True
    torch.backends.mkldnn.matmul.fp32_precision = settings  # type: ignore[attr-defined]
    return False


def _error(rows: int, inner: int, columns: int) -> float:
    """Relative error of float32 products of these sizes, plain and batched, against float64."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(rows, inner, generator=generator), torch.randn(inner, columns, generator=generator)
    exact = a.double() @ b.double()
    products = (a @ b, torch.bmm(a[None], b[None])[0])
    return max(float((product.double() - exact).norm() / exact.norm()) for product in products)
