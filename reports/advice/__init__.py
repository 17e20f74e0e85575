"""Advice for the next sweep: each piece rests on a measured fact and brings the change to make.

A rule is a function of the `Situation` that yields its advice, or nothing where its fact is absent. They stand in the
order of their weight; a piece that would change what a weightier one changes already is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from lora_sweep.store import RunFolder
from reports.advice.baselines import no_better_than_baseline
from reports.advice.divergence import divergence
from reports.advice.edges import edges
from reports.advice.evaluation_size import evaluation_size
from reports.advice.hardly_trained import hardly_trained
from reports.advice.overfitting import overfitting
from reports.advice.piece import Advice
from reports.advice.ranks import indistinct_ranks
from reports.advice.scaling import scaling
from reports.advice.seeds import one_seed
from reports.advice.situation import Situation
from reports.advice.stopping import early_stopping
from reports.advice.targets import dear_targets
from reports.advice.underfitting import underfitting
from reports.results import Results, read_results

__all__ = ["Advice", "RULES", "Situation", "advise"]

Rule = Callable[[Situation], Iterator[Advice]]

RULES: tuple[Rule, ...] = (
    hardly_trained,
    divergence,
    no_better_than_baseline,
    early_stopping,
    overfitting,
    underfitting,
    scaling,
    edges,
    evaluation_size,
    indistinct_ranks,
    dear_targets,
    one_seed,
)


def advise(run: RunFolder | Results) -> tuple[Advice, ...]:
    """What to change in the next sweep, most weighty first; nothing while the run is still going on."""
    results = read_results(run)
    if results.info.get("status") == "running" or not len(results.trials):
        return ()
    situation = Situation(results)
    found: list[Advice] = []
    changed: set[tuple[str, str]] = set()
    for rule in RULES:
        for advice in rule(situation):
            # there is no file to change where none is known
            piece = advice if situation.sweep else replace(advice, change={})
            keys = set(piece.changed_keys())
            if not keys & changed:
                found.append(piece)
                changed |= keys
    return tuple(found)
