"""JSON that may stand inside a script element, whatever texts it holds."""

from __future__ import annotations

from markupsafe import Markup


def script_json(text: str) -> Markup:
    """JSON without the characters that could end a script element or begin markup.

    Args:
        text: any JSON; outside of its strings these characters do not occur.
    """
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
