"""From a trial of a run to what goes into production: its adapter in PEFT's format, checked and with its papers.

A folder holds the adapter, the tokenizer, a model card, a training script, and on demand the merged model. What was
written is loaded again with PEFT and evaluated on the run's test part before it gets its name.
"""

from lora_sweep.export.folder import Exported, export_trial

__all__ = ["Exported", "export_trial"]
