"""What a table says is in the run, what it does not say is unknown, and what it says wrongly is refused."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from lora_sweep.errors import RunFolderError
from lora_sweep.importing import import_table
from reports import pick, read_results, render_page
from reports.configurations import configuration_summaries
from reports.csv_files import write_csv
from reports.doubts import doubts

PLAIN = "run,lora_r,lr,eval_accuracy\na,8,1e-3,0.80\nb,16,1e-4,0.75\n"

CONFIG = ("alpha", "dropout", "batch_size", "seed", "steps", "step")
COSTS = ("trainable_parameters", "device_seconds", "tokens", "adapter_bytes", "base_parameters")


def test_the_smallest_table(imported) -> None:
    results = imported(PLAIN)
    frame = results.trials.set_index("trial_id")
    assert frame["rank"].tolist() == [8, 16] and frame["learning_rate"].tolist() == [1e-3, 1e-4]
    assert frame["quality"].tolist() == [0.8, 0.75] and set(frame["status"]) == {"complete"}
    assert frame[[*CONFIG, *COSTS]].isna().all(axis=None)
    assert results.metric.name == "accuracy" and pick(results).trial_id == "a"
    assert results.info["status"] == "imported" and len(results.points) == 0


def test_other_tools_names(imported) -> None:
    header = "Name,State,config/r,config/lora_alpha,params_lora_dropout,lora_target_modules,val/acc,test/accuracy,Seed"
    results = imported(header + "\nx,finished,4,8,0.1,\"['v_proj', 'q_proj']\",71.5%,0.7,3\n")
    row = results.trials.iloc[0]
    assert (row["rank"], row["alpha"], row["dropout"], row["seed"]) == (4, 8, 0.1, 3)
    assert row["target_label"] == "q_proj, v_proj"
    assert row["quality"] == pytest.approx(0.715) and row["test_quality"] == 0.7


def test_a_setting_comes_before_what_was_logged_under_the_same_name(imported) -> None:
    results = imported("trial_id,learning_rate,config/lr,eval_loss\na,0.0,1e-3,1.5\n")
    assert results.trials["learning_rate"].tolist() == [1e-3]
    assert results.info["imported"]["unused"] == ["learning_rate"]


def test_everything_by_a_map(imported) -> None:
    map_text = """
columns: {trial_id: who, rank: n, accuracy: a, test_accuracy: t, learning_rate: null, device_seconds: time}
metric: {name: accuracy, mode: max}
status: {complete: [ok], failed: [dead], stopped: [culled]}
examples: {eval: 600, test: 1000}
scale: {accuracy: percent, test_accuracy: percent}
model: some base
"""
    table = "who,n,a,t,lr,time,state\np,8,73.5,70,1e-3,0 days 00:01:30,ok\nq,4,60,,1e-3,12.5,culled\nr,2,,,1e-3,,dead\n"
    results = imported(table, map_text)
    frame = results.trials.set_index("trial_id")
    assert frame["status"].tolist() == ["complete", "stopped", "failed"]
    assert frame.loc["p", "quality"] == 0.735 and frame.loc["p", "test_quality"] == 0.7
    assert frame["learning_rate"].isna().all() and frame["device_seconds"].tolist()[:2] == [90, 12.5]
    assert results.examples("eval") == 600 and results.section("model")["name"] == "some base"
    low, high = results.interval("test", "p", 0.7)
    assert low < 0.7 < high and high - low < 0.06


def test_rows_are_evaluations(imported) -> None:
    rows = ["trial,step,lora_r,eval_loss,train_loss,tokens"]
    rows += [f"{name},{step},8,{loss},{loss + 1},{step * 10}"
             for name, losses in (("a", (2.0, 1.0, 1.5)), ("b", (2.1, 1.4, 1.3)))
             for step, loss in zip((30, 10, 20), (losses[2], losses[0], losses[1]), strict=True)]  # fmt: skip
    results = imported("\n".join(rows))
    frame = results.trials.set_index("trial_id")
    assert frame["quality"].tolist() == [1.5, 1.3] and frame["step"].tolist() == [30, 30]
    assert results.metric.mode == "min" and results.metric.keep == "last" and pick(results).trial_id == "b"
    assert results.points[results.points["trial_id"] == "a"]["step"].tolist() == [10, 20, 30]
    assert results.points["train_loss"].notna().all() and frame["tokens"].tolist() == [300, 300]
    best = imported("\n".join(rows), "metric: {name: loss, keep: best}")
    assert best.trials["quality"].tolist() == [1.0, 1.3] and best.trials["step"].tolist() == [20, 30]
    assert best.trials["reached_step"].tolist() == [30, 30] and pick(best).trial_id == "a"


def test_how_a_trial_ended_without_a_status(imported) -> None:
    table = "id,step,max_steps,accuracy\na,100,100,0.8\nb,50,100,0.9\nc,100,100,\n"
    results = imported(table)
    assert results.trials["status"].tolist() == ["complete", "stopped", "failed"]
    assert results.trials["error"].tolist()[2] == "the table has no accuracy for it"
    budget = imported("id,step,accuracy\na,100,0.8\nb,50,0.9\n", "budget: 100")
    assert budget.trials["status"].tolist() == ["complete", "stopped"] and budget.trials["steps"].tolist() == [100, 100]


@pytest.mark.parametrize("empty", ["", "NaN", "None", "null", "N/A", " "])
def test_empty_cells_are_unknown(imported, empty) -> None:
    results = imported(f"id,rank,alpha,seed,accuracy\na,{empty},{empty},{empty},0.8\nb,4,8,1,{empty}\nc,2,4,0,0.7\n")
    frame = results.trials.set_index("trial_id")
    assert frame.loc["a", ["rank", "alpha", "seed"]].isna().all()
    assert frame["rank"].tolist()[1:] == [4, 2] and math.isnan(frame.loc["b", "quality"])
    assert any("alpha (1), rank (1) and seed (1)" in one for one in doubts(results, pick(results)))


def test_infinite_figures_count_as_not_measured(imported) -> None:
    results = imported("id,eval_loss,rank\na,inf,4\nb,nan,4\nc,2.5,4\nd,-inf,4\n")
    assert results.trials["quality"].notna().tolist() == [False, False, True, False]
    assert any("2 values of loss are infinite" in one for one in doubts(results, pick(results)))


def test_spreadsheets(imported) -> None:
    table = "﻿trial_id;lora_r;accuracy\r\na;8;0,735\r\nb;16;0,7\r\n".encode()
    results = imported(table, 'decimal: ","')
    assert results.trials["quality"].tolist() == [0.735, 0.7] and results.trials["rank"].tolist() == [8, 16]
    assert imported("trial_id\tlora_r\taccuracy\na\t8\t0.5\n", kind="tsv").trials["quality"].tolist() == [0.5]


def test_parquet_keeps_its_types(imported, write, tmp_path) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "trial_id": [0, 1], "lora_r": [8.0, None], "target_modules": [["q", "v"], ["q"]], "accuracy": [0.8, 0.7],
            "runtime": pd.to_timedelta(["1s", "2s"]),
        }
    )  # fmt: skip
    frame.to_parquet(tmp_path / "t.parquet")
    results = read_results(import_table(tmp_path / "t.parquet"))
    assert results.trials["trial_id"].tolist() == ["0", "1"] and results.trials["wall_seconds"].tolist() == [1, 2]
    assert results.trials["target_label"].tolist() == ["q, v", "q"] and results.trials["rank"].isna().tolist() == [0, 1]


def test_trials_that_have_not_ended_are_left_out(imported) -> None:
    results = imported("id,state,accuracy\na,COMPLETE,0.8\nb,RUNNING,\nc,WAITING,\n")
    assert results.trials["trial_id"].tolist() == ["a"]
    assert any("2 rows were left out" in one for one in doubts(results, pick(results)))


def test_without_ids_trials_are_named_by_their_rows(imported) -> None:
    results = imported("lora_r,accuracy\n" + "8,0.5\n" * 12)
    assert results.trials["trial_id"].tolist()[:2] == ["row-01", "row-02"]


def test_what_is_missing_stands_first_among_the_doubts(imported) -> None:
    results = imported(PLAIN)
    found = doubts(results, pick(results))
    assert found[0].startswith("This run was imported from sweep.csv (2 rows, 2 trials).")
    text = " ".join(found[:7])
    for part in ("without outcomes", "no intervals", "alpha, dropout, target modules and batch size",
                 "no trainable parameters", "no device time", "does not say how trials ended"):  # fmt: skip
        assert part in text, part
    sized = imported(PLAIN, "examples: {eval: 500}")
    assert any("as if each had been measured on examples of its own" in one for one in doubts(sized, pick(sized)))


def test_importing_again_replaces_what_was_imported_and_nothing_else(write, tmp_path) -> None:
    table = write("sweep.csv", PLAIN)
    first = import_table(table)
    write("sweep.csv", PLAIN + "c,4,1e-3,0.9\n")
    assert import_table(table).path == first.path == tmp_path / "sweep-run"
    assert len(first.records()) == 3
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep")
    with pytest.raises(RunFolderError, match="must be free, or a run that was imported before"):
        import_table(table, into=mine)
    info = {key: value for key, value in first.info().items() if key != "imported"}
    (first.path / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunFolderError, match="must be free"):
        import_table(table)
    assert not list(tmp_path.glob("*.part"))


# Other tools' own files ----------------------------------------------------------------------------------------


def test_ray_tune_results(data, tmp_path) -> None:
    results = read_results(import_table(data / "ray_results.csv", into=tmp_path / "run"))
    frame = results.trials.set_index("trial_id")
    assert len(frame) == 6 and frame.loc["15369_00005", "rank"] == 16 and pick(results).trial_id == "15369_00005"
    assert set(frame["target_label"]) == {"q_proj, v_proj"} and set(frame["alpha"]) == {32}
    assert frame["reached_step"].tolist() == [2, 4, 4, 2, 4, 4] and frame["device_seconds"].isna().all()
    assert any("from 2 to 4 steps" in one for one in doubts(results, pick(results)))


def test_ray_tune_history(data, tmp_path, write) -> None:
    columns = write("map.yaml", "budget: 4")
    results = read_results(import_table(data / "ray_result.jsonl", columns=columns, into=tmp_path / "run"))
    assert len(results.points) == 20 and results.trials["status"].tolist().count("stopped") == 2
    last = results.points.groupby("trial_id")["eval_accuracy"].last()
    assert last.tolist() == results.trials["quality"].tolist()


def test_optuna_trials(tmp_path, write) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        rank = trial.suggest_categorical("lora_r", [4, 8, 16])
        trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        trial.report(0.5, 1)
        if trial.number == 3:
            raise optuna.TrialPruned
        if trial.number == 5:
            raise ValueError("bad")
        trial.set_user_attr("trainable_params", 1000 * rank)
        return 0.6 + rank / 100

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=8, catch=(ValueError,))
    study.trials_dataframe().to_csv(tmp_path / "optuna.csv")
    columns = write("map.yaml", "metric: {name: accuracy, mode: max}")
    results = read_results(import_table(tmp_path / "optuna.csv", columns=columns))
    assert results.trials["status"].tolist() == ["complete"] * 3 + ["stopped", "complete", "failed"] + ["complete"] * 2
    for row, trial in zip(results.trials.to_dict("records"), study.trials, strict=True):
        assert row["rank"] == trial.params["lora_r"] and row["learning_rate"] == trial.params["learning_rate"]
        assert row["quality"] == trial.value or trial.value is None
    assert results.trials["wall_seconds"].notna().all()


def test_ten_thousand_trials(write) -> None:
    rows = [f"t{i},{2 ** (i % 6)},{1e-4 * (1 + i % 90)},{0.5 + (i * 7919 % 4000) / 1e4}" for i in range(10_000)]
    folder = import_table(write("large.csv", "trial_id,lora_r,lr,accuracy\n" + "\n".join(rows)))
    assert len(read_results(folder).trials) == 10_000


def test_seeds_of_a_table_without_ranks(imported) -> None:
    rows = "".join(f"{rate}-{seed},{rate},{seed},{0.8 + seed / 100}\n" for rate in ("1e-3", "1e-4") for seed in (0, 1))
    results = imported("trial_id,lr,seed,accuracy\n" + rows)
    assert {one.configuration for one in configuration_summaries(results, "eval")} == {"rate 1e-3", "rate 1e-4"}
    assert "rate 1e-3" in render_page(results)


def test_without_known_settings_every_trial_is_a_configuration_of_its_own(imported) -> None:
    results = imported("trial_id,seed,accuracy\na,0,0.8\nb,1,0.7\nc,2,0.6\n")
    assert results.trials["configuration"].nunique() == 3
    assert configuration_summaries(results, "eval") == ()
    assert "seeds" not in pick(results).why[0] and "3 seeds" not in pick(results).text


@pytest.mark.parametrize("name", ["=a", "-b", "@c", "'plain"])
def test_our_own_tables_come_back_as_they_were(imported, tmp_path, name) -> None:
    file = write_csv(pd.DataFrame({"trial_id": [name, "z"], "accuracy": [0.8, 0.7]}), tmp_path / "own.csv")
    assert imported(file.read_text()).trials["trial_id"].tolist() == [name, "z"]
