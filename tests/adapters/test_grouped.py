"""Products by group: against one big product with everything else masked, and the kernel against the loop."""

from __future__ import annotations

import pytest
import torch

from lora_sweep.adapters import grouped
from lora_sweep.adapters.bank import Rows
from lora_sweep.adapters.tokens import Groups

UNEQUAL, EQUAL = (5, 1, 9, 16), (8, 8, 8, 8)
ROWS = (0, 1, 3, 4)


def make_groups(sizes: tuple[int, ...], device: torch.device) -> Groups:
    bounds = torch.tensor([0, *sizes]).cumsum(0)
    row = torch.tensor(ROWS).repeat_interleave(torch.tensor(sizes))
    return Groups(
        0, tuple(bounds.tolist()), bounds[1:].int().to(device), row.to(device), torch.zeros_like(row).to(device)
    )


def tensors(tokens: int, dtype: torch.dtype, device: torch.device) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(tokens, 32), (len(ROWS), 32, 16), (tokens, 16)]
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def everything(x: torch.Tensor, matrices: torch.Tensor, g: torch.Tensor, groups: Groups) -> list[torch.Tensor]:
    out = g.clone()
    grouped.add_product(out, x, matrices, groups)
    sums = [torch.ones(5, 32, 16, device=x.device) for _ in range(2)]
    grouped.add_outer(sums[0], Rows(ROWS, torch.tensor(ROWS, device=x.device)), x, g, groups)
    grouped.add_outer(sums[1], Rows((1, 2, 3, 4), slice(1, 5)), x, g, groups)
    return [grouped.product(x, matrices, groups), grouped.product(x, matrices.mT.contiguous().mT, groups), out, *sums]


@pytest.mark.parametrize("sizes", [UNEQUAL, EQUAL])
def test_products_equal_masked_ones(sizes: tuple[int, ...]) -> None:
    groups = make_groups(sizes, torch.device("cpu"))
    assert groups.equal == (sizes == EQUAL)
    x, matrices, g = tensors(sum(sizes), torch.float32, torch.device("cpu"))
    product, transposed, out, scattered, sliced = everything(x, matrices, g, groups)
    member = torch.arange(len(ROWS)).repeat_interleave(torch.tensor(sizes))
    one = torch.nn.functional.one_hot(member).float()
    expected = torch.einsum("tk,gkn,tg->tn", x, matrices, one)
    outer = torch.einsum("tk,tn,tg->gkn", x, g, one)
    torch.testing.assert_close(product, expected)
    torch.testing.assert_close(transposed, expected)
    torch.testing.assert_close(out, g + expected)
    torch.testing.assert_close(scattered[list(ROWS)], 1 + outer)
    torch.testing.assert_close(sliced[1:], 1 + outer)
    assert (scattered[2] == 1).all() and (sliced[0] == 1).all()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("sizes", [UNEQUAL, EQUAL])
def test_the_kernel_equals_the_loop(
    dtype: torch.dtype, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cuda")
    groups = make_groups(sizes, device)
    found = everything(*tensors(sum(sizes), dtype, device), groups)
    monkeypatch.setattr(grouped, "_one_kernel", lambda *_: False)
    expected = everything(*tensors(sum(sizes), dtype, device), groups)
    for ours, theirs in zip(found, expected, strict=True):
        # both round once from fp32 sums: a bf16 value has 8 bits
        torch.testing.assert_close(ours, theirs, rtol=2**-7 if dtype is torch.bfloat16 else 1e-5, atol=1e-2)
