"""A space drives a real Optuna study, branches included."""

import optuna
from optuna.samplers import TPESampler

from search_spaces import Space

RAW = {
    "rank": [4, 8],
    "alpha": {"times_rank": [1, 2]},
    "batch_size": {"integer": [8, 32], "step": 8},
    "seed": {"log_integer": [1, 100]},
    "learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "target_modules": {
        "qv": ["q_proj", "v_proj"],
        "all": {"value": "all-linear", "with": {"rank": [16, 32, 64], "dropout": {"uniform": [0, 0.1]}}},
    },
}


class TrialChooser:
    def __init__(self, trial):
        self.trial = trial

    def categorical(self, name, choices):
        return choices.index(self.trial.suggest_categorical(name, choices))

    def uniform(self, name, low, high, log):
        return self.trial.suggest_float(name, low, high, log=log)

    def integer(self, name, low, high, step, log):
        return self.trial.suggest_int(name, low, high, step=step, log=log)


def test_a_conditional_space_on_tpe():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = Space.parse(RAW)
    study = optuna.create_study(sampler=TPESampler(seed=0))
    for _ in range(30):
        trial = study.ask()
        sample = space.suggest(TrialChooser(trial))
        wide = sample["target_label"] == "all"
        assert sample["rank"] in ([16, 32, 64] if wide else [4, 8])
        assert (sample["dropout"] > 0) == wide
        assert sample["alpha"] / sample["rank"] in (1, 2)
        study.tell(trial, abs(sample["learning_rate"] - 2e-3) + 1 / sample["rank"])
    names = {name for trial in study.trials for name in trial.params}
    assert names == {info.name for info in space.parameters()}
    assert study.best_trial.params["target_modules"] == "all"
