"""Every exception that lora_sweep raises on purpose.

LoraSweepError
├── InputError          the user's input breaks a rule: place, rule, value, fix (exit code 2)
│   ├── ConfigError     a key of SWEEP.yaml, or of a search space
│   ├── DataError       a file, row or column of the data
│   ├── ModelError      the base model
│   ├── TargetError     the modules to adapt
│   ├── AdapterFormatError   an adapter folder
│   └── RunFolderError  a run folder
├── AdapterStateError   a call that the adapters' state forbids (merging twice, ...)
└── TrialFailure        one trial failed; the sweep goes on
    ├── NonFiniteLossError
    └── OutOfMemoryError
"""

from __future__ import annotations


class LoraSweepError(Exception):
    """Base of all errors of this package."""


class InputError(LoraSweepError):
    """The user's input breaks a rule.

    Args:
        place: where it stands, outermost first, e.g. `sweep.yaml: space.rank`.
        rule: what must hold, e.g. `must be at least 1`.
        value: what was found there; omitted from the message when None.
        fix: what to do about it, a sentence.
    """

    def __init__(self, place: str, rule: str, value: object = None, fix: str = "") -> None:
        self.place, self.rule, self.value, self.fix = place, rule, value, fix
        got = "" if value is None else f", got {_shorten(repr(value))}"
        super().__init__(f"{place}: {rule}{got}" + (f". {fix}" if fix else ""))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.place, self.rule, self.value, self.fix)


class ConfigError(InputError):
    """A key of SWEEP.yaml or of a search space."""


class DataError(InputError):
    """A file, row or column of the data."""


class ModelError(InputError):
    """The base model: its files, its dtype, its architecture."""


class TargetError(InputError):
    """The modules to adapt."""


class AdapterFormatError(InputError):
    """An adapter folder in PEFT's format."""


class RunFolderError(InputError):
    """A run folder: missing, already there, or no run."""


class AdapterStateError(LoraSweepError):
    """A call that the adapters' present state forbids."""


class TrialFailure(LoraSweepError):
    """One trial failed; its record keeps the reason and the sweep goes on."""


class NonFiniteLossError(TrialFailure):
    """The training loss of a trial became NaN or infinite."""


class OutOfMemoryError(TrialFailure):
    """A trial does not fit the device's memory, even alone."""


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
