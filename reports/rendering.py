"""What all pages share: the templates with their style and script, figures as JSON, and files that appear whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lora_sweep import __version__
from reports.page_json import script_json

_ASSETS = ("page.css", "page.js", "figures.js", "tables.js")


@dataclass(frozen=True)
class PageFigure:
    """One figure on a page: `json` is safe inside a script element, `height` is in pixels."""

    key: str
    label: str
    caption: str
    height: int
    json: Markup


def page_figure(key: str, title: str, caption: str, figure: go.Figure) -> PageFigure:
    """A figure as the templates need it; the caption is also its text for those who cannot see it."""
    height = int(figure.layout.height or 400)
    return PageFigure(key, title[:1].upper() + title[1:], caption, height, script_json(figure.to_json()))


def render(template: str, context: Mapping[str, Any]) -> str:
    """A page's HTML, complete in itself."""
    templates = PackageLoader("reports")
    environment = Environment(
        loader=templates,
        # named .j2, the template would not be taken for HTML
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    # not rendered: the braces of CSS and JavaScript are their own
    assets = {name: Markup(templates.get_source(environment, name)[0]) for name in _ASSETS}
    whole = {**context, "assets": assets, "plotly": Markup(get_plotlyjs()), "version": __version__}
    return environment.get_template(template).render(whole)


def write_page(html: str, target: Path) -> Path:
    """Write a page beside its place and rename it; returns its path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    # names and notes may hold half a surrogate pair, which no encoding has
    part.write_text(html, encoding="utf-8", errors="replace")
    part.replace(target)
    return target
