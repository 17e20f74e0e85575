"""One pass: rows of several adapters through the model, and back where gradients are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lora_sweep.adapters import AdaptedModel, Route, Segment, to_device
from lora_sweep.engine.graphs import Graphs
from lora_sweep.engine.objective import Batch, Objective, Outcome
from lora_sweep.engine.passes import PackRows
from lora_sweep.engine.slot import Slot
from lora_sweep.engine.unpadded import Read, Unpadded, fill_up, read_tokens
from lora_sweep.tasks import EncodedSplit


@dataclass(frozen=True)
class Runner:
    """Runs passes on a model.

    Attributes:
        adapted: the model with its adapters.
        objective: what is minimised.
        pad_id: fills rows up.
        device: the model's.
        graphs: recorded passes.
        base_dropout: whether the base's own hidden dropout is on in training.
        unpads: whether passes go without padding, see `unpadding`.
        read: the token of a row that is read of the last block; None for all.
    """

    adapted: AdaptedModel
    objective: Objective
    pad_id: int
    device: torch.device
    graphs: Graphs
    base_dropout: bool
    unpads: bool
    read: Read | None

    def train(
        self, slots: Sequence[Slot], split: EncodedSplit, part: PackRows, length: int, row_weights: np.ndarray
    ) -> tuple[Tensor, int]:
        """Add the gradients of the weighted losses, with dropout.

        Args:
            slots: of the pack.
            split: whose examples.
            part: the rows.
            length: their padded length.
            row_weights: [rows].

        Returns:
            fp32 [rows], each row's negative log-likelihood, unweighted; how many tokens the model saw, with padding.
        """
        segments = [self._segment(slots[o], part, start, stop) for o, start, stop in part.spans()]
        with self.adapted.routing.segmented(segments) as route, self._laid_out(route, split, part, length) as cells:
            batch = self._batch(split, part.example, length)
            weights = to_device(row_weights.astype(np.float32), self.device)
            if route.unpadded is None:
                route.uniform(length).prepare(route.parts)
            inputs = {name: tensor for name, tensor in vars(batch).items() if tensor is not None}

            def work(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
                *of_batch, row_weights, keys = tensors
                route.use_row_keys(keys)
                outcome = self.objective(replace(batch, **dict(zip(inputs, of_batch, strict=True))), row_weights)
                outcome.total.backward()  # type: ignore[no-untyped-call]
                return [outcome.nll]

            given = [*inputs.values(), weights, route.row_keys]
            key = (route.key, *(tuple(tensor.shape) for tensor in given), *(part.bank.version for part in route.parts))
            (nll,) = self.graphs.run(key, given, work)
        return nll, cells

    def evaluate(self, slots: Sequence[Slot], split: EncodedSplit, part: PackRows, length: int) -> Outcome:
        """What each adapter answers on its rows; no dropout, no gradients."""
        routed = self.adapted.routing.segmented(_without_dropout(slots, part))
        with torch.no_grad(), routed as route, self._laid_out(route, split, part, length):
            return self._forward(split, part, length, np.ones(len(part.owner)))

    def differentiate(
        self, slots: Sequence[Slot], split: EncodedSplit, part: PackRows, length: int, row_weights: np.ndarray
    ) -> None:
        """As `train`, without dropout, rows padded: for whoever reads gradients on their way back."""
        with self.adapted.routing.segmented(_without_dropout(slots, part)):
            self._forward(split, part, length, row_weights).total.backward()  # type: ignore[no-untyped-call]

    def _forward(self, split: EncodedSplit, part: PackRows, length: int, row_weights: np.ndarray) -> Outcome:
        weights = to_device(row_weights.astype(np.float32), self.device)
        return self.objective(self._batch(split, part.example, length), weights)

    @contextmanager
    def _laid_out(self, route: Route, split: EncodedSplit, part: PackRows, length: int) -> Iterator[int]:
        """Leave the padding out, where there is any and the model can; says how many tokens it sees."""
        unpadded = self._unpadded(route, split, part, length) if self.unpads else None
        if unpadded is None:
            yield route.rows * length
            return
        route.unpadded, route.read = unpadded.tokens, unpadded.read
        with unpadded.active():
            yield len(unpadded.tokens)

    def _unpadded(self, route: Route, split: EncodedSplit, part: PackRows, length: int) -> Unpadded | None:
        lengths, reads = split.lengths[part.example], None
        if self.read is not None:
            token_ids = split.rows(part.example, length, self.pad_id).token_ids
            reads = read_tokens(self.read, token_ids, self.pad_id)
        return Unpadded.of(lengths, length, fill_up(route, lengths), self.device, reads)

    def _segment(self, slot: Slot, part: PackRows, start: int, stop: int) -> Segment:
        if not (slot.config.dropout or self.base_dropout):
            return Segment(slot.number, start, stop)
        return Segment(slot.number, start, stop, slot.dropout(part.number[start:stop]))

    def _batch(self, split: EncodedSplit, examples: np.ndarray, length: int) -> Batch:
        rows = split.rows(examples, length, self.pad_id)
        return Batch(
            to_device(rows.token_ids, self.device),
            to_device(rows.attention_mask, self.device),
            None if rows.labels is None else to_device(rows.labels, self.device),
            # found here, so that no device is asked for a number in the middle of a pass
            None if rows.scored is None else to_device(np.stack(np.nonzero(rows.scored)), self.device),
        )


def _without_dropout(slots: Sequence[Slot], part: PackRows) -> list[Segment]:
    return [Segment(slots[o].number, start, stop) for o, start, stop in part.spans()]
