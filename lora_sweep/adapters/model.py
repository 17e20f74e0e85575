"""A frozen base with adapters in slots: injection, removal, merging."""

from __future__ import annotations

import copy
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lora_sweep.adapters.bank import Bank
from lora_sweep.adapters.base_dropout import BaseDropout
from lora_sweep.adapters.biases import bias_shapes, initialise_biases
from lora_sweep.adapters.dropout import stream_key
from lora_sweep.adapters.frozen_linear import freeze_linear, thaw_linear
from lora_sweep.adapters.grouped import has_kernel
from lora_sweep.adapters.layer import LoraLinear, LoraWeights, linear_shape
from lora_sweep.adapters.layout import Layout
from lora_sweep.adapters.names import bias_name, lora_names
from lora_sweep.adapters.norms import weight_norms
from lora_sweep.adapters.routing import Routing
from lora_sweep.adapters.targets import check_ranks, resolve_targets
from lora_sweep.adapters.trained import TrainedModule
from lora_sweep.adapters.weights import AdapterWeights, initialise_lora
from lora_sweep.errors import AdapterFormatError, AdapterStateError
from lora_sweep.records import AdapterSpec, WeightNorms

PADDED_RANKS = (16, 64, 256)
"""What ranks are padded to for the grouped kernel; larger ones, and all elsewhere, to a multiple of the first."""


class AdaptedModel:
    """Many adapters on one frozen base.

    The base's own parameters never get gradients, and its dropout is off unless asked for. `routing` says which rows of
    a batch belong to which slot; without it the base answers alone.

    Args:
        model: the base; its adapted layers are wrapped in place, and put back by `remove`.
        trained: full names of the modules that every adapter trains in full (task head, missing pooler).
        new: the modules in them that the checkpoint lacks; each slot initialises them from its own seed.
        called: full names of the linear layers that a forward pass calls; None when unknown.
        base_dropout: whether the base's own dropout on hidden states is on in training.
    """

    def __init__(
        self,
        model: nn.Module,
        trained: Collection[str] = (),
        new: Collection[str] = (),
        called: Collection[str] | None = None,
        base_dropout: bool = False,
    ) -> None:
        self.model = model.requires_grad_(False).eval()
        self.trained, self.new, self.called = tuple(trained), frozenset(new), called
        some = next(model.parameters())
        self.routing = Routing(some.dtype, some.device)
        self.slots: dict[int, tuple[AdapterSpec, tuple[str, ...], AdapterWeights]] = {}
        self._banks: dict[Hashable, Bank] = {}
        self.merged: int | None = None
        self._lora: dict[str, LoraLinear] = {}
        self._heads = {name: self._wrap(name, TrainedModule) for name in self.trained}
        freeze_linear(self._frozen())
        if base_dropout:
            for name in [n for n, m in model.named_modules() if isinstance(m, nn.Dropout) and m.p > 0]:
                if not name.startswith(tuple(f"{head}." for head in self.trained)):  # a head has its own rows only
                    self._wrap(name, BaseDropout)

    def add(self, slot: int, spec: AdapterSpec, seed: int) -> AdapterWeights:
        """Put a new adapter into a free slot: B zero, biases the base's, new modules initialised, all from `seed`.

        Raises:
            AdapterStateError: the slot is taken, or an adapter is merged.
            TargetError: a target matches nothing or cannot be adapted, or a rank is too large.
        """
        self._check_unmerged("add an adapter")
        if slot in self.slots:
            raise AdapterStateError(f"slot {slot} is taken")
        names = self.targets(spec)
        weights = self._allocate(Layout(self.shapes(spec), names, self._padded_rank))
        try:
            initialise_lora(weights, names, seed)
            initialise_biases(weights, self._layers(names))
            self._initialise_heads(weights, seed)
            weights.refresh()
            self._attach(slot, spec, names, weights)
        except BaseException:
            self._release(weights)
            raise
        return weights

    def load(self, slot: int, spec: AdapterSpec, tensors: Mapping[str, Tensor]) -> AdapterWeights:
        """Put a trained adapter into a free slot.

        Raises:
            AdapterFormatError: a tensor is missing, unknown, or of another shape than `spec` asks for.
        """
        weights = self.add(slot, spec, seed=0)
        expected = {name: entry.shape for name, entry in weights.layout.entries.items()}
        found = {name: tuple(t.shape) for name, t in tensors.items()}
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                self.remove(slot)
                rule = f"{name} must have shape {expected.get(name, 'none: it is not part of this adapter')}"
                fix = "The adapter belongs to another base, task or configuration."
                raise AdapterFormatError("adapter", rule, found.get(name, "nothing"), fix)
        weights.load(tensors)
        return weights

    def remove(self, slot: int) -> None:
        """Take an adapter off; a layer that holds none any more is the plain layer again."""
        self._check_unmerged("remove an adapter")
        _, names, weights = self.slots.pop(slot)
        self.routing.vacate(slot)
        for name in names:
            layer = self._lora[name]
            layer.slots.remove(slot)
            if not layer.slots:
                _set_module(self.model, name, self._lora.pop(name).base)
        self._release(weights)

    def targets(self, spec: AdapterSpec) -> tuple[str, ...]:
        """The full names of the layers that `spec` adapts on this base, ranks checked."""
        with _Unwrapped(self):
            names = resolve_targets(self.model, spec.target_modules, self.trained, self.called)
            check_ranks(self.model, names, spec)
        return names

    def shapes(self, spec: AdapterSpec) -> dict[str, tuple[int, ...]]:
        """Name to shape of all that an adapter of this spec trains."""
        shapes: dict[str, tuple[int, ...]] = {}
        layers = self._layers(self.targets(spec))
        for name, layer in layers.items():
            size_in, size_out = linear_shape(layer)
            name_a, name_b = lora_names(name)
            shapes[name_a] = (spec.rank_of(name), size_in)
            shapes[name_b] = (size_out, spec.rank_of(name))
        shapes |= bias_shapes(layers) if spec.bias == "lora_only" else {}
        for name, head in self._heads.items():
            shapes |= {f"{name}.{key}": tuple(p.shape) for key, p in head.base.named_parameters()}
        return shapes

    def merge(self, slot: int) -> None:
        """Write one adapter into the base's weights; the base then answers as the adapter does.

        Raises:
            AdapterStateError: an adapter is merged already.
        """
        self._check_unmerged("merge")
        named = self.slots[slot][2].named
        try:
            for name, weights in self.lora_weights(slot).items():
                self._lora[name].merge(slot, weights)
            for name, head in self._heads.items():
                head.merge({key: named[f"{name}.{key}"] for key, _ in head.base.named_parameters()})
        except BaseException:
            self.unmerge()
            raise
        self.merged = slot

    def unmerge(self) -> None:
        """Restore the base's weights, bit for bit."""
        for module in self._modules():
            module.unmerge()
        self.merged = None

    def unwrap(self) -> nn.Module:
        """The plain model again, without any adapter; what is merged stays merged."""
        for name, module in (*self._lora.items(), *self._heads.items()):
            _set_module(self.model, name, module.base)
        self._lora, self._heads, self.slots = {}, {}, {}
        thaw_linear(self.model.modules())
        return self.model

    def plain(self) -> AbstractContextManager[None]:
        """The model with its own modules inside the block, as after `unwrap`; what is merged stays merged."""
        return _Unwrapped(self)

    @contextmanager
    def thawed(self) -> Iterator[None]:
        """Frozen layers multiplied by torch itself inside the block, as wherever else the model is run."""
        thaw_linear(self.model.modules())
        try:
            yield
        finally:
            freeze_linear(self._frozen())

    def norms(self, slot: int) -> WeightNorms:
        """Frobenius norms of one adapter's A, B and update, over all of its layers."""
        return weight_norms(self.lora_weights(slot).values())

    def lora_weights(self, slot: int) -> dict[str, LoraWeights]:
        """Full name of an adapted layer to one adapter's matrices there, views."""
        spec, names, weights = self.slots[slot]
        named, found = weights.named, {}
        for name in names:
            a, b = lora_names(name)
            found[name] = LoraWeights(named[a], named[b], spec.scaling_of(name), named.get(bias_name(name)))
        return found

    def _check_unmerged(self, action: str) -> None:
        if self.merged is not None:
            raise AdapterStateError(f"cannot {action} while slot {self.merged} is merged; unmerge it first")

    def _padded_rank(self, rank: int) -> int:
        """Few different ranks make large banks; padding to a multiple of 16, a vector's or tile's width, is free."""
        if has_kernel(self.routing.device, self.routing.dtype):
            rank = next((level for level in PADDED_RANKS if rank <= level), rank)
        return -(-rank // PADDED_RANKS[0]) * PADDED_RANKS[0]

    def _allocate(self, layout: Layout) -> AdapterWeights:
        bank = self._banks.get(layout.key)
        if bank is None:
            bank = self._banks[layout.key] = Bank(layout, self.routing.dtype, self.routing.device)
        return AdapterWeights(layout, bank, bank.take())

    def _release(self, weights: AdapterWeights) -> None:
        weights.bank.release(weights.row)
        if weights.bank.empty:
            del self._banks[weights.bank.layout.key]

    def _frozen(self) -> Iterable[nn.Module]:
        heads = {part for head in self._heads.values() for part in head.modules()}
        return (module for module in self.model.modules() if module not in heads)

    def _modules(self) -> Iterable[LoraLinear | TrainedModule]:
        return (*self._lora.values(), *self._heads.values())

    def _initialise_heads(self, weights: AdapterWeights, seed: int) -> None:
        named = weights.named
        for name, head in self._heads.items():
            fresh = dict(initialised(self.model, head.base, stream_key(seed, "new", name)).named_parameters())
            for key, value in head.base.named_parameters():
                full = f"{name}.{key}"
                with torch.no_grad():
                    named[full].copy_(fresh[key] if full.rpartition(".")[0] in self.new else value)

    def _attach(self, slot: int, spec: AdapterSpec, names: tuple[str, ...], weights: AdapterWeights) -> None:
        ratios = torch.tensor([[spec.scaling_of(name) for name in names]])
        scalings = torch.cat([ratios, ratios / (1 - spec.dropout)]) if names else torch.ones((2, 1))
        weights.bank.scaling[:, weights.row] = scalings.to(weights.bank.device)
        self.routing.seat(slot, weights.bank, weights.row, spec.dropout)
        for name in names:
            if name not in self._lora:
                self._lora[name] = self._wrap(name, LoraLinear)
            self._lora[name].slots.add(slot)
        self.slots[slot] = (spec, names, weights)

    def _layers(self, names: Iterable[str]) -> dict[str, nn.Module]:
        return {name: _plain(self.model.get_submodule(name)) for name in names}

    def _wrap(self, name: str, kind: Any) -> Any:
        wrapper = kind(self.model.get_submodule(name), name, self.routing)
        _set_module(self.model, name, wrapper)
        return wrapper


class _Unwrapped(AbstractContextManager[None]):
    """The model with its plain modules inside the block, so that names are the base's own."""

    def __init__(self, adapted: AdaptedModel) -> None:
        self.adapted = adapted

    def __enter__(self) -> None:
        for name, module in (*self.adapted._lora.items(), *self.adapted._heads.items()):
            _set_module(self.adapted.model, name, module.base)

    def __exit__(self, *_: object) -> None:
        for name, module in (*self.adapted._lora.items(), *self.adapted._heads.items()):
            _set_module(self.adapted.model, name, module)


def initialised(model: nn.Module, module: nn.Module, seed: int) -> nn.Module:
    """A copy of a module on the CPU in fp32, initialised by its model's own rule from `seed`.

    A part whose class the model's rule does not know keeps torch's own initialisation.
    """
    fresh = copy.deepcopy(module).to("cpu", torch.float32)
    for parameter in fresh.parameters():
        parameter.__dict__.pop("_is_hf_initialized", None)
    rule = getattr(model, "_init_weights", None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed >> 1)
        for part in fresh.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
            if rule is not None:
                rule(part)
    return fresh


def _plain(module: nn.Module) -> nn.Module:
    return module.base if isinstance(module, LoraLinear | TrainedModule) else module


def _set_module(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent) if parent else model, child, module)
