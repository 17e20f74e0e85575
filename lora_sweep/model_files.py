"""A base's files: where they are, whether they are whole, what identifies them, and what they say of the model.

Hub access is as transformers does it (HF_HOME, HF_HUB_OFFLINE). A GGUF file is unpacked once into bf16 safetensors
under the user's cache folder.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from lora_sweep.errors import ModelError

if TYPE_CHECKING:
    from lora_sweep.config import ModelConfig

_logger = logging.getLogger(__name__)

_WEIGHT_FILES = ("*.safetensors", "*.bin")


def check_model(config: ModelConfig) -> None:
    """Find out early whether the model can be there: files of a local folder, weights included.

    Raises:
        ModelError: a path that does not exist, no config.json, or no weights.
    """
    path = _local_path(config)
    if path is None or path.suffix == ".gguf":
        return
    if not (path / "config.json").is_file() and _gguf_in(path) is None:
        fix = "Point model.name at a folder that save_pretrained wrote, a .gguf file, or a hub id."
        raise ModelError(f"model folder {path}", "must hold a config.json or one .gguf file", None, fix)
    if _gguf_in(path) is None and not any(any(path.glob(pattern)) for pattern in _WEIGHT_FILES):
        fix = "Copy the model's .safetensors files there."
        raise ModelError(f"model folder {path}", "must hold weights (*.safetensors or *.bin)", None, fix)


def model_facts(config: ModelConfig) -> dict[str, Any]:
    """Path and hash of the base's files, for the record.

    The hash covers the weight files and config.json of a local model; a hub id is identified by its revision.
    """
    path = _local_path(config)
    if path is None:
        return {"name": config.name, "revision": config.revision}
    files = (
        [path] if path.is_file() else sorted(f for p in (*_WEIGHT_FILES, "*.gguf", "config.json") for f in path.glob(p))
    )
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return {"name": config.name, "path": str(path), "sha256": digest.hexdigest()}


def gguf_file(config: ModelConfig) -> Path | None:
    """The GGUF file that a local base is: named itself, or alone in its folder; None for any other base."""
    path = _local_path(config)
    if path is None:
        return None
    return path if path.suffix == ".gguf" else _gguf_in(path)


def model_source(config: ModelConfig) -> str:
    """What transformers loads from: the hub id, the folder, or the folder that a GGUF file was unpacked into."""
    check_model(config)
    path = _local_path(config)
    if path is None:
        return config.name
    gguf = gguf_file(config)
    return str(path if gguf is None else _unpacked(config, gguf))


def cache_dir() -> Path:
    """Where unpacked bases are kept: $XDG_CACHE_HOME/lora_sweep, by default ~/.cache/lora_sweep."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lora_sweep"


def read_description(config: ModelConfig, **options: Any) -> Any:
    """The base's config.json as transformers reads it, `options` in place of what it says.

    Raises:
        ModelError: no such model, or an architecture that is not known.
    """
    import transformers

    source = model_source(config)
    with without_bars(), as_model_error(config):
        return transformers.AutoConfig.from_pretrained(
            source, trust_remote_code=config.trust_remote_code, revision=config.revision, **options
        )


def checkpoint_dtype(config: ModelConfig) -> torch.dtype:
    """The dtype that the checkpoint's own config names; fp32 when it names none."""
    return cast(torch.dtype, read_description(config).dtype or torch.float32)


def load_tokenizer(config: ModelConfig) -> Any:
    """The base's tokenizer.

    Raises:
        ModelError: there is none, or it has no vocabulary.
    """
    import transformers

    with without_bars(), as_model_error(config, "tokenizer of model"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            model_source(config), trust_remote_code=config.trust_remote_code, revision=config.revision
        )
    # without its files transformers makes a tokenizer that knows no word
    if len(tokenizer) < len(tokenizer.all_special_ids) + 2:
        fix = "Copy the tokenizer's files (tokenizer.json, vocab.txt, ...) into the model's folder."
        raise ModelError(f"tokenizer of model {config.name}", "must have a vocabulary", None, fix)
    return tokenizer


@contextmanager
def without_bars() -> Iterator[None]:
    """Run without transformers' reports and bars: what matters of them is read from the loading info."""
    from transformers.utils import logging as hf

    verbosity, bars = hf.get_verbosity(), hf.is_progress_bar_enabled()
    hf.set_verbosity_error()
    hf.disable_progress_bar()
    try:
        yield
    finally:
        hf.set_verbosity(verbosity)
        if bars:
            hf.enable_progress_bar()


@contextmanager
def as_model_error(config: ModelConfig, what: str = "model") -> Iterator[None]:
    """Tell whatever goes wrong while a base is read as a `ModelError`."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # whatever transformers, safetensors or the model's own code raise
        message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "custom code" in message or "trust_remote_code" in message:
            rule = "must not need code of its own while model.trust_remote_code is false"
            fix = "Read that code, and set model.trust_remote_code: true if you trust it."
            raise ModelError(f"{what} {config.name}", rule, None, fix) from error
        rule = f"must be one that can be loaded ({message.rstrip('. ')})"
        raise ModelError(f"{what} {config.name}", rule, None, _loading_fix(config)) from error


def _loading_fix(config: ModelConfig) -> str:
    if _local_path(config) is not None:
        return "Are its files whole, and does this version of transformers know its architecture?"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "There is no such folder, and HF_HUB_OFFLINE is set: a hub model must be in the local cache."
    return "There is no such folder: check the path, or the hub id and the connection."


def _local_path(config: ModelConfig) -> Path | None:
    path = Path(config.name).expanduser()
    return path if path.exists() else None


def _gguf_in(folder: Path) -> Path | None:
    files = sorted(folder.glob("*.gguf"))
    return files[0] if len(files) == 1 and not (folder / "config.json").is_file() else None


def _unpacked(config: ModelConfig, gguf: Path) -> Path:
    """The cached bf16 folder of a GGUF file; made at the first use."""
    import transformers

    stat = gguf.stat()
    key = hashlib.sha256(f"{gguf.resolve()} {stat.st_size} {stat.st_mtime_ns} 1".encode()).hexdigest()[:16]
    folder = cache_dir() / "gguf" / key
    if folder.exists():
        return folder
    part = folder.with_name(f"{key}.{os.getpid()}")
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    _logger.info("unpacking %s into %s", gguf, folder)
    with without_bars(), as_model_error(config):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.bfloat16, quantization_config=transformers.GgufConfig(dequantize=True)
        )
        model.save_pretrained(part)
        transformers.AutoTokenizer.from_pretrained(**source).save_pretrained(part)
    try:
        part.rename(folder)
    except OSError:  # another process was faster
        shutil.rmtree(part, ignore_errors=True)
        if not folder.exists():
            raise
    return folder
