"""From a pydantic error to what a person can act on: file, line, field, message and remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin
from zoneinfo import available_timezones

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lifecycle.catalog.clocks import BARE, TAGS, ToldClock
from lifecycle.catalog.identifiers import ONE, SEVERAL
from lifecycle.contradiction import ERROR_TYPE
from lifecycle.errors import ConfigurationError, Problem
from lifecycle.yaml_source import MAX_PROBLEMS, Path_, Source, more_problems, read, show

Model = TypeVar("Model", bound=BaseModel)

_AMOUNT = re.compile(
    r"\s*(?P<number>\d{1,6})\s*"
    r"(?P<unit>d|days?|w|weeks?|m|months?|y|years?|h|hours?|min|minutes?|s|sec|seconds?)?\s*",
    re.I,
)
_LONGEST_EXAMPLE = 100
_UNITS = {"d": "P{}D", "w": "P{}W", "m": "P{}M", "y": "P{}Y", "h": "PT{}H", "min": "PT{}M", "s": "PT{}S"}


@dataclass(frozen=True)
class Loaded(Generic[Model]):
    """A configuration file as read: the frozen object, or None and the problems."""

    value: Model | None
    source: Source
    problems: tuple[Problem, ...]

    def require(self) -> Model:
        """The object.

        Raises:
            ConfigurationError: the file has problems.
        """
        if self.value is None:
            raise ConfigurationError(self.problems)
        return self.value


def load_model(path: Path, model: type[Model], shipped: Path) -> Loaded[Model]:
    """Read and check one file. ``shipped`` is a sound file of the same kind: examples in remedies come from it."""
    source = read(path)
    if source.data is None:
        return Loaded(None, source, source.problems)
    try:
        value = model.model_validate(source.data)
    except ValidationError as error:
        problems = (*source.problems, *problems_of(error, source, model, read(shipped).data))
        return Loaded(None, source, tuple(sorted(set(problems), key=lambda problem: problem.line)))
    return Loaded(None if source.problems else value, source, source.problems)


def problems_of(error: ValidationError, source: Source, model: type[BaseModel], example: Any) -> list[Problem]:
    """One problem for each thing that pydantic found."""
    found: list[Problem] = []
    details = [(detail, _plain_path(detail)) for detail in error.errors(include_url=False)]
    # A list whose items were all refused is also reported as empty: that follows from the others.
    others = {other[:length] for _, other in details for length in range(len(other))}
    reported = {problem.field for problem in source.problems}
    for detail, path in details:
        if len(found) > MAX_PROBLEMS:
            break
        if detail["type"] == ERROR_TYPE:
            found.extend(
                Problem(source.file, source.line(item.where), show(item.where) or "file", item.message, item.remedy)
                for item in detail["ctx"]["found"]
            )
        elif show(path) not in reported and not (detail["type"] == "too_short" and path in others):
            message, remedy = _explain(detail, path, source, model, example)
            found.append(Problem(source.file, source.line(path), show(path) or "file", message, remedy))
    if len(found) > MAX_PROBLEMS:
        return [*found[:MAX_PROBLEMS], more_problems(source.file, found[MAX_PROBLEMS].line)]
    return found


def _plain_path(detail: ErrorDetails) -> Path_:
    """Without the tag that pydantic puts behind the index of a member of a union (``datasets``, 0, ``table``, …)."""
    location = detail["loc"]
    if detail["type"] == "union_tag_invalid":
        return _without_tags((*location, "is")) if location[-1:] in (("clock",), ("clocks",)) else (*location, "type")
    return _without_tags(location)


def _without_tags(location: tuple[int | str, ...]) -> Path_:
    if len(location) >= 3 and location[0] == "datasets":
        location = (*location[:2], *location[3:])
        tags = {"clock": TAGS, "key": (ONE, SEVERAL)}.get(str(location[2]), ()) if len(location) >= 4 else ()
        if tags and location[3] in tags:
            location = (*location[:3], *location[4:])
    if len(location) >= 4 and location[0] == "exceptions" and location[2] == "clocks" and location[3] in TAGS:
        location = (*location[:3], *location[4:])
    if "orphans" in location[:-2]:
        # As above, at whatever depth a child stands.
        at = location.index("orphans") + 1
        tags = {"clock": TAGS, "rows": (ONE, SEVERAL)}.get(str(location[at]), ())
        if location[at + 1] in tags:
            location = (*location[: at + 1], *location[at + 2 :])
    return tuple(location)


def _explain(
    detail: ErrorDetails, path: Path_, source: Source, model: type[BaseModel], example: Any
) -> tuple[str, str]:
    given = detail["input"]
    name = _named(path)
    like = _like(example, source.data, path, model)
    if given is None and detail["type"] != "extra_forbidden":
        return "has no value", f"Write for example `{name}: {like}`"
    match detail["type"]:
        case "missing":
            return "is missing", f"Add it, for example `{name}: {like}`"
        case "extra_forbidden":
            known = list(_model_at(model, source.data, path[:-1]).model_fields)
            return "is not a known key", _did_you_mean(name, known, "Remove it; known keys are")
        case "enum" | "literal_error":
            allowed = re.findall(r"'([^']*)'|(\d+)", str(detail["ctx"]["expected"]))
            return f"{_shown(given)} is not allowed here", _did_you_mean(
                given, ["".join(one) for one in allowed], "Write one of"
            )
        case "union_tag_invalid":
            tags = [tag for tag in re.findall(r"'([^']*)'", str(detail["ctx"]["expected_tags"])) if tag != BARE]
            tag = given.get("type") if isinstance(given, dict) else detail["ctx"]["tag"]
            if name == "is" and not isinstance(given, dict):
                return f"must be a mapping of keys to values, not {_shown(given)}", f"Write for example {_FORM}"
            if name == "is":
                return f"{_shown(given.get('is'))} is no kind of clock", _did_you_mean(
                    given.get("is"), tags, "Write one of"
                )
            return f"type {_shown(tag)} is not known", _did_you_mean(tag, tags, "Write one of")
        case "union_tag_not_found" if name == "clock":
            return "does not say what it is", f"Write a column of type timestamptz, or for example {_TOLD}"
        case "union_tag_not_found" if name == "clocks":
            return "does not say what they are", f"Write for example {_FORM}"
        case "union_tag_not_found":
            return "has no type", "Add one, for example `type: table`"
        case "zone":
            close = difflib.get_close_matches(str(given), sorted(available_timezones()), n=1, cutoff=0.6)
            remedy = (
                f"Did you mean {close[0]!r}?" if close else "Write for example `zone: UTC` or `zone: Europe/Berlin`"
            )
            return f"{_shown(given)} {detail['msg']}", remedy
        case "long_name":
            return f"{_shown(given)} {detail['msg']}, which PostgreSQL would cut short", "Write the true name"
        case "string_type" if name == "clock" and isinstance(given, dict):
            return (
                "must be the name of a column of type timestamptz: other clocks are for datasets of type table"
                " and accounts",
                f"Write for example `clock: {like}`, or bind it as `type: table`: its rows then go in batches",
            )
        case "string_pattern_mismatch":
            return _pattern(str(detail["ctx"]["pattern"]), given, like)
        case "value_error":
            return _value(str(detail["ctx"]["error"]), given)
        case "calendar_date":
            return f"{_shown(given)} is not a date", f"Write it as YYYY-MM-DD, for example `{name}: {like}`"
        case "duration":
            return f"{_shown(given)} {detail['msg']}", f"Write for example `{name}: {detail['ctx']['like']}`"
        case "string_type":
            return f"must be text, not {_shown(given)}", f"Put it in quotes, or write for example `{name}: {like}`"
        case "tuple_type":
            return f"must be a list, not {_shown(given)}", f"Write for example `{name}: {like}`"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be a mapping of keys to values, not {_shown(given)}", f"Write for example `{name}: {like}`"
        case "too_short":
            return "is empty", f"Write at least one item, for example `{name}: {like}`"
        case _:
            said = detail["msg"].removeprefix("Input ")
            return said[:1].lower() + said[1:], f"Write for example `{name}: {like}`"


def _shown(value: Any) -> str:
    """A value as far as it helps: text and numbers shortened, collections by their kind."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _did_you_mean(given: Any, known: Iterable[str], otherwise: str) -> str:
    known = list(known)
    close = difflib.get_close_matches(str(given), known, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"{otherwise}: {', '.join(known)}"


def _value(message: str, given: Any) -> tuple[str, str]:
    """Errors of our own validators: periods, and periods only."""
    amount = _AMOUNT.fullmatch(str(given))
    if amount is None:
        upper = str(given).strip().upper()
        remedy = f"Write {upper}" if upper != given and _ISO.fullmatch(upper) else "Write for example P28D, P2Y or PT4H"
        return message.split(";")[0], remedy
    number, unit = amount["number"], (amount["unit"] or "").lower()
    if not unit:
        return f"{_shown(given)} has no unit", f"Write P{number}D for {number} day(s), PT{number}H for {number} hour(s)"
    form = _UNITS["min" if unit.startswith("min") else unit[0]]
    return f"{_shown(given)} is not an ISO 8601 duration", f"Write {form.format(number)}"


_ISO = re.compile(r"P(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(\d+H)?(\d+M)?(\d+S)?)?")


def _pattern(pattern: str, given: Any, like: str) -> tuple[str, str]:
    shown = _shown(given)
    if r"(\." in pattern:
        return (
            f"{shown} is not the name of a field, with dots between the parts of a path, none of which is empty",
            f"Write for example {like}",
        )
    if r"\." in pattern:
        return (
            f"{shown} is not a table name of the form schema.table, without dots, double quotes, ; or % in the names",
            f"Write for example {like}",
        )
    if "{1,1024}" in pattern:
        return f"{shown} is not the beginning of a key: letters, digits and !_.*'()=/-", f"Write for example {like}"
    if "/" in pattern:
        return f"{shown} is not a key prefix: path parts that each end with '/'", "Write for example requests/"
    if "_-]{0,127}" in pattern:
        return (
            f"{shown} is not the name of a tag: letters, digits, _ and -, a letter first",
            f"Write for example {like}",
        )
    if ".-" in pattern:
        return (
            f"{shown} is not a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens",
            f"Write for example {like}",
        )
    if "%]" in pattern:
        return f"{shown} is not a column name, without double quotes, ;, % or line ends", f"Write for example {like}"
    return (
        f"{shown} is not a name: lower-case letters, digits and underscores, a letter first",
        f"Write for example {like}",
    )


# One line that shows the form of a clock which is no timestamptz.
_FORM = "`clocks: {is: timestamp, zone: UTC}`"
_TOLD = "`clock: {column: startTime, is: timestamp, zone: UTC}`"


def _model_at(model: type[BaseModel], data: Any, path: Path_) -> type[BaseModel]:
    """The model that describes the value at a path; members of a union are told apart by their ``type``."""
    annotation: Any = model
    for part in path:
        data = data[part]
        if isinstance(part, str):
            annotation = _one_model(annotation, None).model_fields[part].annotation
        else:
            annotation = next((item for item in get_args(annotation) if item is not Ellipsis), annotation)
        annotation = _one_model(annotation, data)
    chosen: type[BaseModel] = annotation
    return chosen


def _one_model(annotation: Any, data: Any) -> Any:
    """Of a union the member whose literal ``type`` is the data's; anything else unchanged."""
    if isinstance(annotation, type) or get_origin(annotation) is tuple:
        return annotation
    if isinstance(data, Mapping) and "is" in data:
        clocks = get_args(ToldClock)
        return next((each for each in clocks if data["is"] in get_args(each.model_fields["is_"].annotation)), clocks[0])
    for member in get_args(annotation):
        field = member.model_fields.get("type") if isinstance(member, type) and issubclass(member, BaseModel) else None
        if field is not None and get_origin(field.annotation) is Literal and isinstance(data, Mapping):
            if data.get("type") in get_args(field.annotation):
                return member
        elif field is None and isinstance(member, type) and issubclass(member, BaseModel):
            return member
        elif field is None and get_origin(member) is not None:
            return _one_model(member, data)
    return annotation


def _named(path: Path_) -> str:
    """The key of a value; of an item in a list, that of the list."""
    return next((part for part in reversed(path) if isinstance(part, str)), "file")


def _like(example: Any, data: Any, path: Path_, model: type[BaseModel]) -> str:
    """An example of a value: from the shipped file, or where that has none from the model."""
    shown = _example(example, data, path)
    if shown == "..." and path and isinstance(path[-1], int):
        return _like(example, data, path[:-1], model)
    if shown not in ("null", "...") or not path or not isinstance(path[-1], str):
        return shown
    field = _model_at(model, data, path[:-1]).model_fields.get(path[-1])
    return str(field.examples[0]) if field is not None and field.examples else shown


def _example(example: Any, data: Any, path: Path_) -> str:
    """What stands in the shipped file at the same place; of a list, in the first item of the same type that has it."""
    for depth, part in enumerate(path):
        if isinstance(part, int) and isinstance(example, list):
            data = data[part] if isinstance(data, list) and part < len(data) else None
            example = _alike(example, data, path[depth + 1 :])
        elif isinstance(example, dict):
            data = data.get(part) if isinstance(data, dict) else None
            example = example.get(part)
        else:
            return "..."
    text: str = yaml.safe_dump(example, default_flow_style=True, width=10_000, sort_keys=False)
    text = text.removesuffix("...\n").strip()
    return text if len(text) <= _LONGEST_EXAMPLE else f"{text[:_LONGEST_EXAMPLE]} ..."


def _alike(items: list[Any], data: Any, rest: Path_) -> Any:
    kind = data.get("type") if isinstance(data, dict) else None
    candidates = [item for item in items if not isinstance(item, dict) or kind is None or item.get("type") == kind]
    having = [item for item in candidates if not rest or (isinstance(item, dict) and rest[0] in item)]
    return next(iter(having or candidates or items), None)
