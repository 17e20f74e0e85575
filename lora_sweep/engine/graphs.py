"""CUDA graphs of passes that come again: one launch instead of thousands.

A pass whose shapes and adapters have been seen before is recorded once, forward and backward, and replayed with new
inputs from then on. Rows of many different lengths rarely come again in the same composition and run as they are; rows
of one length, such as packed text, come again at every step.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_logger = logging.getLogger(__name__)

_SEEN = 3  # passes that run as they are before one is recorded: they also warm up every kernel
_MOST = 16  # recorded passes that are kept
_REMEMBERED = 1000  # passes whose number is kept

Work = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""What a pass does with its inputs; whatever else it reads stands at the same addresses in every pass of its key."""


@dataclass(frozen=True)
class _Recorded:
    graph: Any
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    work: Work  # keeps what it reads at its address


class Graphs:
    """Passes by their key.

    Args:
        enabled: record at all; only on a CUDA device.
    """

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._seen: Counter[Hashable] = Counter()
        self._recorded: OrderedDict[Hashable, _Recorded] = OrderedDict()
        self._pool: Any = None

    @property
    def recorded(self) -> int:
        """How many passes are recorded at present."""
        return len(self._recorded)

    def clear(self) -> None:
        """Forget every pass; to be called when adapters come or go."""
        self._seen.clear()
        self._recorded.clear()
        self._pool = None  # a pool whose graphs are gone cannot be used again

    def run(self, key: Hashable, inputs: Sequence[Tensor], work: Work) -> Sequence[Tensor]:
        """The outputs of `work` on `inputs`, replayed where it can be.

        Args:
            key: equal keys mean equal shapes and equal addresses of all that `work` reads beside its inputs.
            inputs: on the device.
            work: adds to gradients that stand outside; what it returns is small.
        """
        if not self._enabled:
            return work(inputs)
        if key not in self._recorded:
            if len(self._seen) > _REMEMBERED:
                self._seen.clear()
            self._seen[key] += 1
            if self._seen[key] <= _SEEN or not self._record(key, inputs, work):
                return work(inputs)
        self._recorded.move_to_end(key)
        found = self._recorded[key]
        for static, given in zip(found.inputs, inputs, strict=True):
            static.copy_(given, non_blocking=True)
        found.graph.replay()
        return [output.clone() for output in found.outputs]

    def _record(self, key: Hashable, inputs: Sequence[Tensor], work: Work) -> bool:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        static = [tensor.clone() for tensor in inputs]
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        stream = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                outputs = work(static)
        except torch.OutOfMemoryError:
            self.clear()
            raise
        except RuntimeError as error:
            self._enabled = False
            self.clear()
            _logger.warning("passes are not recorded as CUDA graphs: %s", error)
            return False
        finally:
            torch.cuda.set_stream(stream)  # a recording that fails does not leave its own
        self._recorded[key] = _Recorded(graph, static, outputs, work)
        while len(self._recorded) > _MOST:
            self._recorded.popitem(last=False)
        return True
