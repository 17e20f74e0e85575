"""Declarative search spaces over LoRA's hyperparameters: presets, validation and sampling.

`load` turns a preset's name, a file or a mapping into a `Space`; `Space.suggest` asks a `Chooser` (a random
generator, an Optuna trial, a grid) for one configuration.
"""

from search_spaces.choosers import Chooser
from search_spaces.errors import SpaceError
from search_spaces.loading import Preset, load, presets
from search_spaces.parameters import ParameterInfo
from search_spaces.space import Space

__all__ = ["Chooser", "ParameterInfo", "Preset", "Space", "SpaceError", "load", "presets"]
