"""What a packed step cannot do without: the frozen base's own forward and backward, and the LoRA products."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lora_sweep.adapters.layer import linear_shape
from lora_sweep.engine.objective import Batch, make_objective
from lora_sweep.models import FrozenBase
from packing.timing import Contender

Batches = Sequence[tuple[Batch, Tensor]]
"""The passes of a step: each a batch with its row weights."""


class BareBase:
    """The base alone: forward, loss, backward to the outputs of the lowest adapted layers.

    Args:
        base: with plain modules; hooks go on the lowest adapted layers until `close`.
        adapted: full names of the layers that adapters would sit on.
        batches: of any step, to find the lowest adapted layers with.

    Attributes:
        lowest: the adapted layers whose inputs depend on no other adapted layer.
    """

    def __init__(self, base: FrozenBase, adapted: Iterable[str], batches: Batches) -> None:
        self._objective = make_objective(base)
        modules = {name: base.model.get_submodule(name) for name in adapted}
        self.lowest = self._find_lowest(modules, batches)
        self._handles = [modules[name].register_forward_hook(_begin_gradient) for name in self.lowest]

    def step(self, batches: Batches) -> Contender:
        """One step on these batches."""
        tokens = sum(int(batch.attention_mask.sum()) for batch, _ in batches)

        def run() -> int:
            for batch, row_weights in batches:
                self._objective(batch, row_weights).total.backward()  # type: ignore[no-untyped-call]
            return tokens

        return run

    def flops(self, batches: Batches) -> int:
        """FLOPs of one step, as `torch.utils.flop_counter` counts products and attention."""
        return count_flops(self.step(batches))

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _find_lowest(self, modules: dict[str, nn.Module], batches: Batches) -> tuple[str, ...]:
        lowest = []

        def look(name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                if not output.requires_grad:
                    lowest.append(name)
                    output.requires_grad_()

            return hook

        handles = [module.register_forward_hook(look(name)) for name, module in modules.items()]
        try:
            self._objective(*batches[0])
        finally:
            for handle in handles:
                handle.remove()
        return tuple(lowest)


def count_flops(step: Contender) -> int:
    """FLOPs of one step."""
    with _FlopCounter() as counter:
        step()
    return counter.total


def padded_tokens(batches: Batches) -> int:
    """Tokens of a step, padding included."""
    return sum(batch.token_ids.numel() for batch, _ in batches)


def lora_flops(base: FrozenBase, adapted: Iterable[str], lowest: Iterable[str], rank: int, tokens: int) -> int:
    """FLOPs of the LoRA products of one step.

    For each adapted layer and padded token, forward 2 r (in + out) for A x and B (A x), backward 4 r (in + out) for the
    gradients of B, of A x, of A and of x; the last, 2 r in, is not needed at the lowest adapted layers.

    Args:
        base: with plain modules.
        adapted: full names of the adapted layers.
        lowest: those of them whose inputs need no gradient.
        rank: of every adapter.
        tokens: padded tokens of the step, all adapters together.
    """
    without = set(lowest)
    total = 0
    for name in adapted:
        size_in, size_out = linear_shape(base.model.get_submodule(name))
        total += 6 * rank * (size_in + size_out) - (2 * rank * size_in if name in without else 0)
    return total * tokens


class _FlopCounter(TorchDispatchMode):
    """Adds up the FLOPs of products and attention; torch's own counter cannot see an `autograd.grad` inside a step."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # what is made of several operations
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*_with_all_heads(func, args), **kwargs, out_val=out)
        return out


def _with_all_heads(func: Any, args: Any) -> Any:
    """Arguments of an operation; of attention with as many heads of keys as of queries: older formulas want that."""
    name = func._overloadpacket.__name__
    if "scaled_dot_product" not in name:
        return args
    first = 1 if name.endswith("backward") else 0
    before, query, keys, rest = args[:first], args[first], args[first + 1 : first + 3], args[first + 3 :]
    return (*before, query, *(t[:, :1].expand(-1, query.shape[1], -1, -1) for t in keys), *rest)


def _begin_gradient(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
    output.requires_grad_()
