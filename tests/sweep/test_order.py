from __future__ import annotations

import threading

from lora_sweep.records import TrialConfig
from lora_sweep.sweep.layout import Placement
from lora_sweep.sweep.order import Order, wait_for_order


def test_an_engine_waits_for_its_order(make_sweep, tmp_path):
    sweep = make_sweep(resources={"tokens_per_pass": 64, "activation_checkpointing": True})
    order = Order(sweep.config, sweep.task, 3, str(sweep.run.path), TrialConfig(rank=2))
    file, found = tmp_path / "order.pkl", []
    waiting = threading.Thread(target=lambda: found.append(wait_for_order(file, None)), daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    order.write(file)
    waiting.join(10)
    (read,) = found
    assert (read.config, read.warm_up, read.task.labels) == (order.config, order.warm_up, order.task.labels)
    options = read.options(Placement("cpu", "node", threads=5, cpus=4))
    assert (options.device, options.threads, options.slots) == ("cpu", 5, 3)
    assert (options.tokens_per_pass, options.activation_checkpointing) == (64, True)
    assert (options.metric, options.mode) == (sweep.config.metric.name, sweep.config.metric.mode)
    assert [entry.name for entry in tmp_path.glob("order*")] == ["order.pkl"]
