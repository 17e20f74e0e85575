"""A LoRA sweep as it is written without lora_sweep: a Ray Tune function trial around PEFT and Transformers' Trainer.

    python benchmarks/recipe.py SETTINGS.json RESULTS.json

It follows the guides of the three: `tune.report` with a checkpoint at every evaluation (Ray Tune: "How to Save and Load
Trial Checkpoints"; its callback is Ray Train's `RayTrainReportCallback`, whose own report Tune refuses),
`get_peft_model` on a model for sequence classification, `DataCollatorWithPadding`. The data is tokenised once and
reaches the trials through `tune.with_parameters`. `sweep_recipe.py` writes the settings and runs it; only `Clock` is
there for its sake.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import ray
import torch
from datasets import Dataset
from peft import LoraConfig, TaskType, get_peft_model
from ray import tune
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint


def main() -> None:
    """Run the sweep and write every trial's last metrics."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    ray.init(include_dashboard=False, log_to_driver=False)
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    train_data, eval_data = (tokenise(settings, tokenizer, part) for part in ("train", "eval"))
    trainable = tune.with_parameters(
        train, settings=settings, tokenizer=tokenizer, train_data=train_data, eval_data=eval_data
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": settings["cpus"]}),
        param_space={"candidate": tune.grid_search(settings["candidates"])},
        tune_config=tune.TuneConfig(metric="eval_accuracy", mode="max", reuse_actors=settings["reuse_actors"]),
        run_config=tune.RunConfig(storage_path=settings["storage"], name="recipe", verbose=0),
    )
    began = time.time()
    trials = [
        {
            "name": result.config["candidate"]["name"],
            **result.metrics,
            "clock": json.loads(clock_file(settings, result.config).read_text()),
        }
        for result in tuner.fit()
    ]
    ray.shutdown()
    Path(sys.argv[2]).write_text(json.dumps({"began": began, "trials": trials}, default=str))


def tokenise(settings, tokenizer, part):
    """One part of the data: token ids and class numbers."""

    def encode(rows):
        labels = [settings["labels"].index(label) for label in rows["sentiment"]]
        return {**tokenizer(rows["text"], truncation=True, max_length=settings["max_length"]), "labels": labels}

    rows = Dataset.from_csv(settings[part], cache_dir=settings["storage"], keep_in_memory=True)
    return rows.map(encode, batched=True, remove_columns=rows.column_names)


def train(config, settings, tokenizer, train_data, eval_data):
    """One trial."""
    clock = Clock()
    candidate = config["candidate"]
    set_seed(candidate["seed"])
    model = AutoModelForSequenceClassification.from_pretrained(
        settings["model"],
        num_labels=len(settings["labels"]),
        hidden_dropout_prob=0.0,  # lora_sweep trains with the frozen base's own dropout off
        attention_probs_dropout_prob=0.0,
    )
    model = get_peft_model(
        model,
        LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=candidate["rank"],
            lora_alpha=candidate["alpha"],
            lora_dropout=candidate["dropout"],
            target_modules=candidate["target_modules"],
            modules_to_save=["classifier"],
        ),
    )
    arguments = TrainingArguments(
        output_dir=f"checkpoints-{candidate['seed']}",  # a process that Tune keeps holds those of earlier trials
        max_steps=settings["steps"],
        per_device_train_batch_size=settings["batch_size"],
        per_device_eval_batch_size=settings["eval_batch_size"],
        learning_rate=candidate["learning_rate"],
        lr_scheduler_type="linear",
        warmup_steps=settings["warmup_steps"],
        optim="adamw_torch",
        weight_decay=0.0,
        max_grad_norm=1.0,
        eval_strategy="steps",
        eval_steps=settings["eval_every"],
        save_strategy="steps",
        save_steps=settings["eval_every"],
        logging_steps=settings["eval_every"],
        bf16=settings["bf16"],
        use_cpu=not torch.cuda.is_available(),  # without it, bf16 is refused where there is no GPU
        seed=candidate["seed"],
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train_data,
        eval_dataset=eval_data,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
        callbacks=[clock, ReportToTune(model.get_nb_trainable_parameters()[0])],
    )
    clock.loaded = time.time()
    trainer.train()
    clock.write(trainer.state.log_history, clock_file(settings, config))


def accuracy(prediction):
    """Share of right answers."""
    return {"accuracy": float((np.argmax(prediction.predictions, axis=1) == prediction.label_ids).mean())}


class ReportToTune(TrainerCallback):
    """Reports the latest metrics with the checkpoint, as Ray Train's `RayTrainReportCallback` does."""

    def __init__(self, trainable_parameters):
        self.trainable_parameters = trainable_parameters

    def on_save(self, args, state, control, **kwargs):
        """A checkpoint was written."""
        metrics = {"trainable_parameters": self.trainable_parameters}
        for log in state.log_history:
            metrics.update(log)
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(get_last_checkpoint(args.output_dir)))


class Clock(TrainerCallback):
    """Where the time of a trial goes, for the benchmark; it must stand before `ReportToTune`."""

    def __init__(self):
        self.entered = self.loaded = self.marked = time.time()
        self.saving = self.reporting = 0.0
        self.is_reporting = False

    def on_evaluate(self, args, state, control, **kwargs):
        """What follows is the writing of a checkpoint."""
        self.marked = time.time()

    def on_save(self, args, state, control, **kwargs):
        """What follows is the report to Tune."""
        self.saving += time.time() - self.marked
        self.marked, self.is_reporting = time.time(), True

    def on_step_begin(self, args, state, control, **kwargs):
        """The report, if there was one, is over."""
        if self.is_reporting:
            self.reporting += time.time() - self.marked
            self.is_reporting = False

    on_train_end = on_step_begin

    def write(self, logs, file):
        """Leave the seconds in a file (`entered` and `ended` since the epoch), and the training losses."""
        ended = time.time()
        evaluating = sum(log.get("eval_runtime", 0.0) for log in logs)
        times = {
            "entered": self.entered,
            "ended": ended,
            "load": self.loaded - self.entered,
            "train": ended - self.loaded - evaluating - self.saving - self.reporting,
            "evaluate": evaluating,
            "save": self.saving,
            "report": self.reporting,
            "train_losses": [log["loss"] for log in logs if "loss" in log],
        }
        file.write_text(json.dumps(times))


def clock_file(settings, config):
    """Where the clock of a trial goes."""
    return Path(settings["storage"], f"clock-{config['candidate']['seed']}.json")


if __name__ == "__main__":
    main()
