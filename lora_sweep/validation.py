"""What the parts of a configuration share: types of fields, paths, and every error in our words.

Whatever pydantic or the space refuses becomes a `ConfigError`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from lora_sweep.errors import ConfigError
from lora_sweep.records import Record
from search_spaces import SpaceError, load
from search_spaces.errors import hint, shown
from search_spaces.texts import read_number

UNKNOWN = "is not a known key"


def _number(value: object) -> int | float:
    number = read_number(value)
    if number is None:
        raise PydanticCustomError("number", "must be a number")
    return number


def _auto_or_count(value: object) -> str | int:
    number = read_number(value)
    if value == "auto":
        return "auto"
    if number is None or number < 1 or number != int(number):
        raise PydanticCustomError("count", "must be auto or a whole number of at least 1")
    return int(number)


Text = Annotated[str, Field(min_length=1)]
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, BeforeValidator(_number), Field(ge=1)]
NotNegativeCount = Annotated[int, BeforeValidator(_number), Field(ge=0)]
Seed = NotNegativeCount
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0)]
NotNegative = Annotated[float, BeforeValidator(_number), Field(ge=0)]
Share = Annotated[float, BeforeValidator(_number), Field(ge=0, lt=1)]
TwoOrMore = Annotated[int, BeforeValidator(_number), Field(ge=2)]
AutoCount = Annotated[Literal["auto"] | int, BeforeValidator(_auto_or_count)]


def base_folder(info: ValidationInfo) -> Path | None:
    """The folder to which paths are relative; None when a part is made without a file."""
    context = info.context
    return context["base"] if isinstance(context, Mapping) else None


def absolute(text: str, base: Path) -> Path:
    """A path of the file, absolute."""
    # not resolve(): a link's own name may carry the suffix that tells the format
    return Path(os.path.normpath((base / Path(text).expanduser()).absolute()))


def from_pydantic(error: ValidationError, model: type[Record], prefix: str = "") -> ConfigError:
    """The first error in our words; unknown keys come first, for they explain what is missing."""
    unknown = ("extra_forbidden", "invalid_key")
    details = sorted(error.errors(), key=lambda detail: detail["type"] not in unknown)[0]
    place = prefix + ".".join(str(part) for part in details["loc"])
    if details["type"] in unknown:
        fix = hint(details["loc"][-1], _keys_at(model, details["loc"][:-1]), "Known keys")
        return ConfigError(place, UNKNOWN, None, fix)
    value = None if details["type"] == "missing" else shown(details["input"])
    return ConfigError(place, _rule(details), value)


def _rule(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    limit = next((f"{context[name]:g}" for name in ("ge", "gt", "lt") if name in context), "")
    rules = {
        "missing": "is required",
        "string_type": "must be text",
        "string_too_short": "must not be empty",
        "bool_type": "must be true or false",
        "model_type": "must be a mapping of keys",
        "int_from_float": "must be a whole number",
        "literal_error": f"must be {context.get('expected')}",
        "greater_than_equal": f"must be at least {limit}",
        "greater_than": f"must be above {limit}",
        "less_than": f"must be below {limit}",
        "string_pattern_mismatch": "must be letters, digits, spaces, dots, - and _ only",
    }
    return rules.get(details["type"], details["msg"].replace("Input should be", "must be"))


def _keys_at(model: type[Record], loc: Sequence[str | int]) -> list[str]:
    for part in loc:
        model = cast(type[Record], model.model_fields[str(part)].annotation)
    return list(model.model_fields)


def as_config_error(error: SpaceError) -> ConfigError:
    """A refused space as a refused configuration."""
    return ConfigError(error.place, error.rule, error.value, error.fix)


def expand_space(raw: Any, base: Path) -> dict[str, Any]:
    """A space written out: given by a preset's name, a file's, or itself.

    Raises:
        ConfigError: the first rule that it breaks.
    """
    try:
        return load(raw, base).to_dict()
    except SpaceError as error:
        raise as_config_error(error) from None
