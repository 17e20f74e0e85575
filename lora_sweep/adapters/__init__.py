"""LoRA on frozen models: layers, injection, packing, merging, PEFT's format. Needs torch alone."""

from lora_sweep.adapters.accounting import ParameterCount, base_parameters, count_parameters
from lora_sweep.adapters.bank import Bank, to_device
from lora_sweep.adapters.dropout import DropoutStream, stream_key
from lora_sweep.adapters.layer import LoraLinear, LoraWeights
from lora_sweep.adapters.model import AdaptedModel
from lora_sweep.adapters.names import bias_name, is_bias
from lora_sweep.adapters.peft_format import WEIGHTS_FILE, AdapterFile, read_adapter, save_adapter
from lora_sweep.adapters.route import Route
from lora_sweep.adapters.routing import Routing, Segment
from lora_sweep.adapters.targets import linear_names, resolve_targets, role_of
from lora_sweep.adapters.trained import TrainedModule
from lora_sweep.adapters.weights import AdapterWeights

__all__ = [
    "AdaptedModel",
    "AdapterFile",
    "AdapterWeights",
    "Bank",
    "DropoutStream",
    "LoraLinear",
    "LoraWeights",
    "ParameterCount",
    "Route",
    "Routing",
    "Segment",
    "TrainedModule",
    "WEIGHTS_FILE",
    "base_parameters",
    "bias_name",
    "count_parameters",
    "is_bias",
    "linear_names",
    "read_adapter",
    "resolve_targets",
    "role_of",
    "save_adapter",
    "stream_key",
    "to_device",
]
