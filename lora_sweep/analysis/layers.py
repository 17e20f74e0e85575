"""Where a layer stands in its model, read from its full name: its depth and its kind."""

from __future__ import annotations

import re

_DEPTH = re.compile(r"(?:^|\.)(\d+)\.")


def depth_of(name: str) -> int | None:
    """The number of the block that the layer belongs to: 3 for `bert.encoder.layer.3.output.dense`.

    The first number in the name counts (a mixture's experts come after it); None without one.
    """
    found = _DEPTH.search(name)
    return int(found[1]) if found else None


def kind_of(name: str) -> str:
    """What the layer is called within its block: `output.dense` for `bert.encoder.layer.3.output.dense`."""
    found = _DEPTH.search(name)
    return name[found.end() :] if found else name
