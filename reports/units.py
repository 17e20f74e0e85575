"""Numbers as people read them. Anything missing (None, NaN, infinite) becomes a dash."""

from __future__ import annotations

import math

MISSING = "–"


def count(value: float | None) -> str:
    """A number of things: `512`, `49.2k`, `4.19M`, `6.74G`."""
    if value is None or not math.isfinite(value):
        return MISSING
    return _scaled(value, ("", "k", "M", "G", "T"))


def size(value: float | None) -> str:
    """Bytes in decimal units: `512 B`, `197 kB`, `16.8 MB`."""
    if value is None or not math.isfinite(value):
        return MISSING
    return _scaled(value, (" B", " kB", " MB", " GB", " TB"))


def duration(seconds: float | None) -> str:
    """A time: `0.42 s`, `48 s`, `3 min 20 s`, `1 h 05 min`."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 59.5:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def share(value: float | None) -> str:
    """A part of a whole in percent with three significant digits: `0.0622 %`."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{_significant(100 * value)} %"


def percent(value: float | None) -> str:
    """A part of a whole in whole percent: `47 %`."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{100 * value:.0f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A plain number with `digits` significant digits, in exponent form when very small: `0.05`, `3.2e-4`."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value != 0 and abs(value) < 0.01:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.{digits}g}"


def progress(reached: float | None, full: float | None) -> str:
    """How far a training came: `30 of 120 steps`, `30 steps`, `an unknown number of steps`."""
    if reached is None or not math.isfinite(reached):
        return "an unknown number of steps"
    of = f" of {full:.0f}" if full is not None and math.isfinite(full) and full > 0 else ""
    return f"{reached:.0f}{of} steps"


def rank(value: int | None) -> str:
    """A rank in words: `rank 8`, `unknown rank`."""
    return "unknown rank" if value is None else f"rank {value}"


def plural(amount: int, one: str, many: str = "") -> str:
    """An amount with its noun: `1 trial`, `3 trials`."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"


def _scaled(value: float, names: tuple[str, ...]) -> str:
    power = 0
    # 999.5 would be written as 1000 of the smaller unit
    while abs(value) >= 999.5 and power < len(names) - 1:
        value, power = value / 1000, power + 1
    text = f"{value:.0f}" if power == 0 else _significant(value)
    return text + names[power]


def _significant(value: float) -> str:
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e+" in text else text
