"""Optuna's TPE over a space, through Tune's OptunaSearch.

What TPE learns from a trial:

- complete: its objective, as a finished trial.
- stopped by the scheduler: a *pruned* trial with its values so far. TPE ranks pruned trials behind all complete ones,
  those that came further first: a value at partial budget is never taken for one at full budget. (OptunaSearch by
  itself would tell it as complete.)
- failed by itself (diverged, out of memory): a pruned trial; without any evaluation it ranks last, so the search
  moves away from there. A number is never made up for it.
- lost to a crash of the machinery: nothing.

Trials that still run count as bad ones (`constant_liar`), so that parallel suggestions spread out. A configuration that
was suggested before is not run again: TPE is asked anew, and when it only repeats itself, an untried configuration is
drawn at random.

With `search.repeats` the study is asked for the same parameters again (`enqueue_trial`), so that it hears of every
seed as a trial of its own. (Tune's Repeater would tell it a mean once all seeds have ended, which never happens under a
scheduler that stops some of them.)
"""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from ray import cloudpickle
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from lora_sweep.records import TrialConfig
from lora_sweep.sweep.candidates import Candidate

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig

logger = logging.getLogger(__name__)

ASKS = 20
"""Suggestions of TPE in a row that may repeat known configurations."""
DRAWS = 1000
MOST_RANDOM_TRIALS = 10


class OptunaChooser:
    """Answers a space's questions with an Optuna trial.

    Args:
        trial: anything with `suggest_categorical`, `suggest_float` and `suggest_int`.
    """

    def __init__(self, trial: Any) -> None:
        self._trial = trial

    def categorical(self, name: str, choices: Sequence[str]) -> int:
        labels = list(choices)
        return labels.index(self._trial.suggest_categorical(name, labels))

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        return float(self._trial.suggest_float(name, low, high, log=log))

    def integer(self, name: str, low: int, high: int, step: int, log: bool) -> int:
        return int(self._trial.suggest_int(name, low, high, step=step, log=log))


class DefineByRun:
    """The space as the function that OptunaSearch calls; keeps the last sample, and can be pickled."""

    def __init__(self, config: SweepConfig, train_examples: int) -> None:
        self._config, self._train_examples = config, train_examples
        self.sample: dict[str, Any] = {}

    def __call__(self, trial: Any) -> None:
        """Sample the space with this Optuna trial."""
        self.sample = self._config.resolved_space().suggest(OptunaChooser(trial))

    def draw(self, rng: random.Random) -> TrialConfig:
        """A random sample as what to train, without Optuna."""
        self.sample = self._config.resolved_space().sample(rng)
        return self.config()

    def config(self) -> TrialConfig:
        """The last sample as what to train."""
        return self._config.trial_config(self.sample, self._train_examples)


class TpeSearch(Searcher):  # type: ignore[misc]  # Ray ships no types
    """Suggests candidates by TPE.

    Args:
        config: the sweep; its search seed seeds the sampler.
        train_examples: size of the training data.
    """

    def __init__(self, config: SweepConfig, train_examples: int) -> None:
        super().__init__()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sweep = config
        self._space = DefineByRun(config, train_examples)
        metric, mode = config.metric.name, config.metric.mode
        self._repeats = config.search.repeats
        # the study counts every seed
        random_trials = self._repeats * min(MOST_RANDOM_TRIALS, max(2, config.search.trials // 4))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=config.search.seed, n_startup_trials=random_trials, constant_liar=True
            )
        self._inner = OptunaSearch(self._space, metric=metric, mode=mode, sampler=sampler)
        self._metric_name = metric
        self._rng = random.Random(config.search.seed)
        self._fingerprints: set[str] = set()
        self._suggested = 0
        self._waiting: list[tuple[TrialConfig, dict[str, Any] | None]] = []  # repeats, with their parameters for TPE
        self._asked = 0
        self._keys: dict[str, str] = {}  # Tune's trial id to the key under which OptunaSearch knows the trial

    def set_search_properties(self, metric: str | None, mode: str | None, config: Mapping[str, Any], **_: Any) -> bool:
        """Metric and mode are known already."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """A configuration that was not suggested before or another seed of the last one, or Tune's word for the end."""
        config = self._next_repeat(trial_id) if self._waiting else self._ask_tpe(trial_id) or self._draw()
        if config is None:
            logger.warning("no untried configuration was found after %d trials: the search ends", self._suggested)
            return str(Searcher.FINISHED)
        self._suggested += 1
        return Candidate(self._suggested - 1, config).to_tune()

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """An evaluation of a trial that goes on."""
        if (key := self._keys.get(trial_id)) and self._metric_name in result:
            self._inner.on_trial_result(key, dict(result))

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """The end of a trial; see the module for what is learned."""
        key = self._keys.pop(trial_id, None)
        if key is None:
            return
        status = (result or {}).get("status")
        if status == "stopped" and result and self._metric_name in result:
            self._inner.on_trial_result(key, dict(result))
        self._inner.on_trial_complete(key, dict(result) if result and status == "complete" else None, error)

    def save(self, checkpoint_path: str) -> None:
        """Write the whole searcher, Optuna's study and random state included."""
        Path(checkpoint_path).write_bytes(cloudpickle.dumps(self.__dict__))

    def restore(self, checkpoint_path: str) -> None:
        """Go on as saved."""
        self.__dict__.update(cloudpickle.loads(Path(checkpoint_path).read_bytes()))

    def _ask_tpe(self, trial_id: str) -> TrialConfig | None:
        for _ in range(ASKS):
            key = self._ask()
            config = self._space.config()
            if config.fingerprint() not in self._fingerprints:
                self._keys[trial_id] = key
                return self._begin(config, dict(self._inner._ot_trials[key].params))
            self._inner.on_trial_complete(key, None, error=True)  # Optuna: failed, not learned from
        return None

    def _draw(self) -> TrialConfig | None:
        for _ in range(DRAWS):
            config = self._space.draw(self._rng)
            if config.fingerprint() not in self._fingerprints:
                return self._begin(config, None)
        return None

    def _begin(self, config: TrialConfig, parameters: dict[str, Any] | None) -> TrialConfig:
        """A new configuration with its first seed; the others wait."""
        self._fingerprints.add(config.fingerprint())
        self._waiting = [(self._sweep.with_seed(config, n), parameters) for n in range(2, self._repeats + 1)]
        return config

    def _next_repeat(self, trial_id: str) -> TrialConfig:
        config, parameters = self._waiting.pop(0)
        if parameters is not None:
            self._inner._ot_study.enqueue_trial(parameters)
            self._keys[trial_id] = self._ask()
        return config

    def _ask(self) -> str:
        """Let the study suggest something; the key under which OptunaSearch knows it."""
        self._asked += 1
        self._inner.suggest(str(self._asked))
        return str(self._asked)
