"""The page's part on training dynamics of the leading trials."""

from __future__ import annotations

from collections.abc import Iterator

import plotly.graph_objects as go

from reports.dynamics import get_dynamics_info, plot_norms, plot_rate
from reports.results import Results

FIGURES = frozenset({"dynamics-update", "dynamics-b", "dynamics-a", "dynamics-rate"})


def dynamics_figures_of(results: Results) -> Iterator[tuple[str, str, str, go.Figure]]:
    """Key, title, caption and figure of what was noted."""
    info = get_dynamics_info(results)
    captions = {
        "update": "How far the leading trials have moved the base: the norm of the scaled update, alpha / rank * B A.",
        "b": "B starts at zero and grows. A line that stays near zero has hardly trained.",
        "a": "A starts at random; it changes little beside its start.",
    }
    titles = {"update": "Norm of the update", "b": "Norm of B", "a": "Norm of A"}
    for part, caption in captions.items():
        if (norms := plot_norms(info, part)) is not None:
            yield f"dynamics-{part}", f"{titles[part]} over steps", caption, norms
    if (rate := plot_rate(info)) is not None:
        caption = "The rate of the last step before each evaluation: warm-up, then the schedule."
        yield "dynamics-rate", "Learning rate over steps", caption, rate
