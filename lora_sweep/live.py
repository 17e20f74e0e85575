"""A sweep's progress in the terminal: a line a trial, and a bar with the time left. Silent when not a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from lora_sweep.records import TrialConfig, TrialRecord

_STYLES = {"running": "cyan", "complete": "green", "stopped": "yellow", "failed": "red"}


@dataclass
class _Line:
    config: TrialConfig
    state: str
    step: int
    value: float | None
    changed: float


class LiveProgress:
    """A progress listener that draws on a terminal.

    Args:
        console: where to draw; nothing is drawn when it is no terminal.
        metric: the one to show.
    """

    def __init__(self, console: Console, metric: str) -> None:
        self._console, self._metric = console, metric
        self._lines: dict[str, _Line] = {}
        self._stage = "starting"
        self._notes: list[str] = []
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("trials"),
            TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._task = self._bar.add_task(self._stage, total=None)
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=2, transient=True)

    @contextmanager
    def drawing(self) -> Iterator[LiveProgress]:
        """Draw inside this block."""
        if not self._console.is_terminal:
            yield self
            return
        with self._live:
            yield self

    def stage(self, text: str) -> None:
        """Name what is going on beside the bar."""
        self._bar.update(self._task, description=escape(text))

    def note(self, text: str) -> None:
        """Show a sentence under the trials."""
        self._notes.append(text)

    def planned(self, trials: int) -> None:
        """Set the bar's length."""
        self._bar.update(self._task, total=trials)

    def started(self, trial_id: str, config: TrialConfig) -> None:
        """Add a line."""
        self._lines[trial_id] = _Line(config, "running", 0, None, time.monotonic())

    def reported(self, record: TrialRecord) -> None:
        """Bring the trial's line up to date."""
        if record.history:
            last = record.history[-1]
            self._set(record, "running", last.step, last.metrics.get(self._metric))

    def ended(self, record: TrialRecord) -> None:
        """Give the trial its final state."""
        step = record.history[-1].step if record.history else 0
        self._set(record, record.status, step, record.metrics.get(self._metric))
        self._bar.update(self._task, completed=sum(line.state != "running" for line in self._lines.values()))

    def _set(self, record: TrialRecord, state: str, step: int, value: float | None) -> None:
        self._lines[record.trial_id] = _Line(record.config, state, step, value, time.monotonic())

    def _render(self) -> Group:
        room = max(3, self._console.size.height - 8)
        # running ones first, then the latest; the terminal's height decides how many are shown
        order = sorted(self._lines.items(), key=lambda item: (item[1].state != "running", -item[1].changed))
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("trial", "state", "step", self._metric, "rank", "targets", "learning rate"):
            table.add_column(column, justify="right" if column in ("step", self._metric, "rank") else "left")
        for trial_id, line in sorted(order[:room]):
            table.add_row(*self._cells(trial_id, line))
        hidden = [Text(f"({len(order) - room} more trials)")] if len(order) > room else []
        return Group(table, *hidden, *(Text(note, style="dim") for note in self._notes[-2:]), self._bar)

    def _cells(self, trial_id: str, line: _Line) -> tuple[Text, ...]:
        # Text and no strings: names that look like rich's markup must stand as they are
        config = line.config
        return (
            Text(trial_id),
            Text(line.state, style=_STYLES[line.state]),
            Text(f"{line.step}/{config.steps}"),
            Text("" if line.value is None else f"{line.value:.4f}"),
            Text(str(config.rank)),
            Text(config.target_label or str(config.target_modules)),
            Text(f"{config.learning_rate:.2g}"),
        )
