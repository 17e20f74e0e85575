"""The card's figures: the run's own, those through PEFT, those of the merged model, and whether they agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lora_sweep.export.agreement import MOST_DIFFERING, Agreement
from lora_sweep.export.check import Check, NotChecked
from lora_sweep.export.figures import Figures, recorded_figures
from lora_sweep.export.subject import Subject
from reports import units
from reports.metric import Metric


def headline(subject: Subject, checked: Check | NotChecked) -> Figures | None:
    """The figures on test that the card stands for: through PEFT, or else the run's own."""
    return checked.figures if isinstance(checked, Check) else recorded_figures(subject, "test")


def metric_titles(subject: Subject) -> list[str]:
    """The metrics, the run's own first."""
    return [Metric(name).title for name in _names(subject)]


def rows(subject: Subject, checked: Check | NotChecked) -> list[dict[str, Any]]:
    """One row a measurement: `what`, `values` in the order of `metric_titles`, `examples`."""
    return [
        {
            "what": what,
            "values": [_value(subject, name, figures) for name in _names(subject)],
            "examples": units.MISSING if figures.examples is None else f"{figures.examples:,}",
        }
        for what, figures in _measured(subject, checked)
    ]


def headline_text(subject: Subject, check: Check) -> str:
    """The figure through PEFT as the command line says it, in one sentence."""
    metric, figures = subject.metric, check.figures
    value = metric.text(figures.metrics[metric.name])
    bounds = figures.bounds.get(metric.name)
    interval = f", 95 % interval {metric.interval_text(bounds)}" if bounds else ""
    own = subject.recorded_metrics("test").get(metric.name)
    run = f"; in the run {metric.text(own)} in {subject.run_dtype}" if own is not None else ""
    beside = f"; {_differing(check.agreement)} from the run's" if check.agreement else ""
    return (
        f"through PEFT {check.peft} in {check.dtype}: test {metric.title} {value} on "
        f"{units.plural(figures.examples or 0, 'example')}{interval}{run}{beside}"
    )


def sentences(subject: Subject, checked: Check | NotChecked) -> list[str]:
    """What the evaluation of the exported files found beside the run's own answers."""
    if isinstance(checked, NotChecked):
        return [f"The exported files were not evaluated: {checked.reason}."]
    found = [
        f"After it was written, this folder was loaded with PEFT {checked.peft} on the plain base in {checked.dtype} "
        f"and evaluated on the test data ({checked.device}). {_agreement(subject, checked.agreement)}"
    ]
    if checked.merged is not None:
        found.append(f"The merged model, in {checked.merged.dtype}: {_agreement(subject, checked.merged.agreement)}")
    return found


def alarms(checked: Check | NotChecked) -> list[str]:
    """What must keep the adapter out of production until it is understood."""
    if isinstance(checked, NotChecked):
        return [f"{_capital(checked.reason)}."] if checked.alarm else []
    found = []
    for what, own in (
        ("the adapter through PEFT", checked.agreement),
        ("the merged model", checked.merged.agreement if checked.merged else None),
    ):
        if own is not None and own.level == "different":
            found.append(
                f"{_capital(what)} does not answer as it did in the run: {_differing(own)}, which rounding "
                "does not explain. Do not use it before the reason is found."
            )
    return found


def _measured(subject: Subject, checked: Check | NotChecked) -> Iterator[tuple[str, Figures]]:
    for part in ("eval", "test"):
        own = recorded_figures(subject, part)
        if own is not None:
            yield f"{part}, in the run ({subject.run_dtype})", own
    if isinstance(checked, Check):
        yield f"test, through PEFT {checked.peft} ({checked.dtype})", checked.figures
        if checked.merged is not None:
            yield f"test, merged ({checked.merged.dtype})", checked.merged.figures


def _names(subject: Subject) -> list[str]:
    first = subject.metric.name
    return [first, *(name for name in subject.recorded_metrics("eval") if name != first)]


def _value(subject: Subject, name: str, figures: Figures) -> str:
    metric, bounds = Metric(name), figures.bounds.get(name)
    text = metric.text(figures.metrics.get(name))
    return f"{text} ({metric.interval_text(bounds)})" if bounds else text


def _agreement(subject: Subject, own: Agreement | None) -> str:
    if own is None:
        return "The run kept no answers of this adapter, so that there is nothing to compare with."
    text = f"{_capital(_differing(own))} from the run's own, which computed in {subject.run_dtype}."
    if own.level == "rounding":
        text += f" That is more than {100 * MOST_DIFFERING:g} %, but the figure lies inside the interval of the run's."
    return text


def _differing(own: Agreement) -> str:
    """`3 of 1,000 answers on test differ`, with what differing means where it is no class."""
    by = "" if own.tolerance is None else f" by more than {own.tolerance:g} nats a token"
    return f"{own.differing:,} of {own.examples:,} answers on {own.part} differ{by}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
