"""Which trials the search suggested, and which train a configuration of theirs again with another seed."""

from __future__ import annotations

import pandas as pd

from reports.results import Results


def searched_trials(results: Results) -> pd.DataFrame:
    """What the search suggested."""
    return results.trials[results.trials["repeat_of"].isna()]


def repeats(results: Results) -> pd.DataFrame:
    """Trials that train another's configuration again: they say something of it, and are no candidates."""
    return results.trials[results.trials["repeat_of"].notna()]


def all_trials(results: Results) -> pd.DataFrame:
    """Both: everything that cost something."""
    return pd.concat([searched_trials(results), repeats(results)])
