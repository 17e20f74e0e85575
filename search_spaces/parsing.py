"""From YAML's values to domains; every rule about how a space is written is held here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast, get_args

from search_spaces.domains import Choice, Domain, Entries, Option, Pattern, Range, RangeKind, Value, label_of
from search_spaces.errors import Shown, SpaceError, hint, shown
from search_spaces.keys import KEYS, Key
from search_spaces.texts import read_number

_RANGES = get_args(RangeKind)
_FACTOR = Key("number", "must be a number above 0", above=True)
_STEP = Key("integer", "must be a whole number of at least 1", low=1)
_RESERVED = (*_RANGES, "step", "times_rank", "value", "with")
_FORMS = "Write one value, a list of choices, {uniform: [low, high]}, {log_uniform: ...} or {integer: ...}."
_SETS = "Write {attention-qv: [q_proj, v_proj], all-linear: all-linear}: each set under a name of its own."

Read = Callable[[object, str], Value]


def parse_entries(raw: object, place: str) -> Entries:
    """Parse a mapping of keys to domains, in the order of `KEYS`.

    Args:
        raw: the mapping as YAML gives it.
        place: where it stands.

    Raises:
        SpaceError: a key is unknown or its domain breaks a rule.
    """
    if not isinstance(raw, Mapping):
        raise SpaceError(place, "must be a mapping of keys to values, lists or ranges", shown(raw))
    for key in raw:
        if key not in KEYS:
            raise SpaceError(f"{place}.{key}", "is not a key of a space", None, hint(key, KEYS, "Known keys"))
    return tuple((key, _parse_domain(key, raw[key], f"{place}.{key}")) for key in KEYS if key in raw)


def _parse_domain(key: str, raw: object, place: str) -> Domain:
    if key == "target_modules":
        return _parse_targets(raw, place)
    if KEYS[key].kind == "pattern":
        return _parse_patterns(key, raw, place)
    if isinstance(raw, Mapping) and "times_rank" in raw:
        return _parse_times_rank(key, raw, place)
    return _parse_plain(KEYS[key], raw, place)


def _parse_times_rank(key: str, raw: Mapping[str, object], place: str) -> Domain:
    if key != "alpha":
        raise SpaceError(place, "only alpha may be given as times_rank", raw)
    if len(raw) > 1:
        raise SpaceError(place, "must hold times_rank alone", raw)
    return _parse_plain(_FACTOR, raw["times_rank"], f"{place}.times_rank", times_rank=True)


def _parse_plain(key: Key, raw: object, place: str, times_rank: bool = False) -> Domain:
    if isinstance(raw, Mapping):
        return _parse_range(key, raw, place, times_rank)
    if isinstance(raw, list | tuple):
        return _parse_choice(key, raw, place, times_rank)
    value = key.read(raw, place)
    return Choice((Option(label_of(value, times_rank), value),), times_rank)


# Choices -------------------------------------------------------------------------------------------------------


def _parse_choice(key: Key, raw: list[object] | tuple[object, ...], place: str, times_rank: bool) -> Choice:
    if not raw:
        raise SpaceError(place, "must list at least one choice", raw)
    options: list[Option] = []
    for index, item in enumerate(raw):
        option = _parse_option(item, f"{place}[{index}]", key.read)
        label = label_of(option.value, times_rank)
        options.append(Option(label, option.value, option.branch))
    _refuse_repeated(options, place)
    return Choice(tuple(options), times_rank)


def _parse_option(raw: object, place: str, read: Read) -> Option:
    """One value, or `{value: X, with: {key: domain}}`; the label is left to the caller."""
    if not isinstance(raw, Mapping):
        return Option("", read(raw, place))
    if "value" not in raw or not set(raw) <= {"value", "with"}:
        rule = "must be a value, or {value: ..., with: {key: ...}}"
        raise SpaceError(place, rule, raw, "Keys that hold for this choice only stand under `with`.")
    branch = parse_entries(raw["with"], f"{place}.with") if "with" in raw else ()
    return Option("", read(raw["value"], f"{place}.value" if "with" in raw else place), branch)


def _refuse_repeated(options: list[Option], place: str) -> None:
    first: dict[Value, str] = {}
    for option in options:
        if option.value in first:
            labels = dict.fromkeys((first[option.value], option.label))
            raise SpaceError(place, "must not list a choice twice", Shown(" and ".join(labels)))
        first[option.value] = option.label


# Ranges --------------------------------------------------------------------------------------------------------


def _parse_range(key: Key, raw: Mapping[str, object], place: str, times_rank: bool) -> Domain:
    kind = _range_kind(key, raw, place)
    bounds = raw[kind]
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        raise SpaceError(place, f"{kind} must be [low, high]", shown(bounds))
    low, high = (_bound(key, kind, bound, place) for bound in bounds)
    got = Shown(f"low={bounds[0]}, high={bounds[1]}")
    if low > high:
        raise SpaceError(place, "low must be <= high", got, f"Write {{{kind}: [{bounds[1]}, {bounds[0]}]}}.")
    if kind.startswith("log_") and low <= 0:
        raise SpaceError(place, f"low must be above 0 for {kind}", got, f"Use {kind.removeprefix('log_')}.")
    step = _step(kind, raw, place)
    if kind == "integer":
        high = low + (int(high) - int(low)) // step * step
    if low == high:
        value = key.read(low, place)
        return Choice((Option(label_of(value, times_rank), value),), times_rank)
    return Range(kind, low, high, step, times_rank)


def _range_kind(key: Key, raw: Mapping[str, object], place: str) -> RangeKind:
    if key.kind == "name":
        raise SpaceError(place, key.rule, raw, "Several are a list of choices.")
    kinds = [name for name in raw if name in _RANGES]
    unknown = [name for name in raw if name not in (*_RANGES, "step")]
    if unknown:
        raise SpaceError(place, f"{unknown[0]} is not a kind of range", None, hint(unknown[0], _RANGES, "Ranges"))
    if len(kinds) != 1:
        raise SpaceError(place, "must be a value, a list of choices or one range", raw, _FORMS)
    kind = cast(RangeKind, kinds[0])
    if key.kind == "integer" and "uniform" in kind:
        fix = f"Use {'log_integer' if kind.startswith('log_') else 'integer'}."
        raise SpaceError(place, f"{kind} gives fractions where whole numbers belong", raw, fix)
    return kind


def _bound(key: Key, kind: RangeKind, raw: object, place: str) -> int | float:
    whole = kind.endswith("integer")
    number = read_number(raw)
    if number is None or (whole and number != int(number)):
        raise SpaceError(place, f"{kind} must have {'whole' if whole else 'finite'} numbers as bounds", shown(raw))
    if not (kind.startswith("log_") and number <= 0):  # which has a message of its own
        key.read(number, place)
    return int(number) if whole else float(number)


def _step(kind: RangeKind, raw: Mapping[str, object], place: str) -> int:
    if "step" not in raw:
        return 1
    if kind != "integer":
        raise SpaceError(place, "step belongs to integer ranges only", raw)
    return cast(int, _STEP.read(raw["step"], f"{place}.step"))


# Target modules ------------------------------------------------------------------------------------------------


def _parse_targets(raw: object, place: str) -> Choice:
    if isinstance(raw, list | tuple):
        rule = "a bare list is ambiguous: one set of modules, or several sets to choose from"
        raise SpaceError(place, rule, raw, _sets_fix(raw))
    if not isinstance(raw, Mapping):
        value = _read_targets(raw, place)
        return Choice((Option(label_of(value), value),), labelled=True)
    if not raw:
        raise SpaceError(place, "must name at least one set of modules", raw, _SETS)
    options: list[Option] = []
    for label, item in raw.items():
        if not isinstance(label, str) or not label or label in _RESERVED:
            raise SpaceError(place, "each set of modules needs a name of its own", label, _SETS)
        option = _parse_option(item, f"{place}.{label}", _read_targets)
        options.append(Option(label, option.value, option.branch))
    _refuse_repeated(options, place)
    return Choice(tuple(options), labelled=True)


def _sets_fix(raw: list[Any] | tuple[Any, ...]) -> str:
    names = [name for name in raw if isinstance(name, str)]
    if not names or len(names) < len(raw):
        return _SETS
    choose = ", ".join(f"{name}: {name}" for name in names)
    return f"One set: {{NAME: [{', '.join(names)}]}}. Several sets: {{{choose}}}."


def _read_targets(raw: object, place: str) -> Value:
    if isinstance(raw, str) and raw.strip():
        return raw
    named = isinstance(raw, list | tuple) and raw and all(isinstance(name, str) and name.strip() for name in raw)
    if not named:
        raise SpaceError(place, "must be a group, a module name or a list of module names", shown(raw))
    names = tuple(cast(list[str], raw))
    if len(set(names)) < len(names):
        raise SpaceError(place, "must not name a module twice", raw)
    return names


# Patterns ------------------------------------------------------------------------------------------------------


def _parse_patterns(key: str, raw: object, place: str) -> Choice:
    """One pattern, `{layer: number}`, or several under names of their own."""
    if not isinstance(raw, Mapping):
        raise SpaceError(place, KEYS[key].rule, shown(raw))
    if not any(isinstance(item, Mapping) for item in raw.values()):
        pattern = _read_pattern(key, raw, place)
        return Choice((Option(label_of(pattern), pattern),), labelled=True)
    options: list[Option] = []
    for label, item in raw.items():
        if not isinstance(label, str) or not label or label in _RESERVED:
            raise SpaceError(place, "each pattern needs a name of its own", label)
        where, branch = f"{place}.{label}", cast(Entries, ())
        if isinstance(item, Mapping) and isinstance(item.get("value"), Mapping) and set(item) <= {"value", "with"}:
            branch = parse_entries(item["with"], f"{where}.with") if "with" in item else ()
            item = item["value"]
        options.append(Option(label, _read_pattern(key, item, where), branch))
    _refuse_repeated(options, place)
    return Choice(tuple(options), labelled=True)


def _read_pattern(key: str, raw: object, place: str) -> Pattern:
    if not isinstance(raw, Mapping):
        raise SpaceError(place, KEYS[key].rule, shown(raw))
    number = KEYS["rank" if key == "rank_pattern" else "alpha"]
    return Pattern(
        tuple((str(layer), cast(Any, number.read(value, f"{place}.{layer}"))) for layer, value in raw.items())
    )
