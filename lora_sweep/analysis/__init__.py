"""What is measured on adapters after training, on an engine. Needs no Ray; `analyse_run` does it all."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lora_sweep.analysis.run_analysis import ANALYSES, analyse_run
    from lora_sweep.analysis.session import AnalysisSession, open_session

__all__ = ["ANALYSES", "AnalysisSession", "analyse_run", "open_session"]

# `inspect` needs the spectrum alone: transformers and the engine load on first use
_LAZY = {
    "ANALYSES": "run_analysis",
    "AnalysisSession": "session",
    "analyse_run": "run_analysis",
    "open_session": "session",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"lora_sweep.analysis.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
