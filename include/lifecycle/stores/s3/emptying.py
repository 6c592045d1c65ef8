"""Fields of JSON lines that are emptied while the line stays. They are found where they stand, so that no other byte
changes: numbers, escapes, the order of keys and keys that occur twice stay as they were written.

A field is named by its path: `prompt`, or `request.messages` for what lies in an object. A list on the way stands for
each of its elements. A key that has the dots in its name is meant as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any, NamedTuple

_SPACE = re.compile(r"[ \t\n\r]*")
# Numbers as text: none is too long to be read, and none changes.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)

Paths = tuple[tuple[str, ...], ...]
WHOLE: tuple[str, ...] = ()


def paths_of(fields: Iterable[str]) -> Paths:
    """Fields as they are written in a dataset file, part by part."""
    return tuple(tuple(field.split(".")) for field in fields)


@cache
def heads(paths: Paths) -> dict[str, Paths]:
    """By each key that a path may begin with, what is left of it; `WHOLE` where all of the value is meant."""
    found: dict[str, Paths] = {}
    for path in paths:
        for length in range(1, len(path) + 1):
            name = ".".join(path[:length])
            found[name] = (*found.get(name, ()), path[length:])
    return found


def holds(line: bytes, fields: Sequence[str]) -> bool | None:
    """Whether a line holds anything but null in one of the fields. None where they cannot be found in it: it is no JSON
    object in UTF-8, or nested too deep."""
    found = _found(line, fields)
    return None if found is None else bool(found[1])


def emptied(line: bytes, fields: Sequence[str]) -> bytes:
    """The line with null in each of the fields that it has.

    Raises:
        ValueError: they cannot be found in it; see `holds`.
    """
    found = _found(line, fields)
    if found is None:
        raise ValueError("the fields of a line cannot be found")
    text, spots = found
    parts, at = [], 0
    for begin, end in spots:
        parts += [text[at:begin], "null"]
        at = end
    return "".join((*parts, text[at:])).encode("utf-8", "surrogatepass")


def _found(line: bytes, fields: Sequence[str]) -> tuple[str, list[tuple[int, int]]] | None:
    """The line as text, and from where to where the values stand."""
    if b"\0" in line:
        return None  # another encoding than UTF-8
    try:
        text = line.decode("utf-8", "surrogatepass")
        begin = _skip(text, text.startswith("\ufeff"))
        if text[begin] != "{" or _skip(text, _end(text, begin)) != len(text):
            return None
        return text, list(_walk(text, begin, paths_of(fields)))
    except (ValueError, IndexError, RecursionError):
        return None


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _end(text: str, at: int) -> int:
    return _DECODER.raw_decode(text, at)[1]


def _walk(text: str, at: int, paths: Paths) -> Iterator[tuple[int, int]]:
    """The places below a value, in their order; only what is valid JSON is asked about."""
    if text[at] == "[":
        at = _skip(text, at + 1)
        while text[at] != "]":
            yield from _walk(text, at, paths)
            at = _after(text, _end(text, at))
    elif text[at] == "{":
        wanted = heads(paths)
        at = _skip(text, at + 1)
        while text[at] != "}":
            key, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
            rest, end = wanted.get(key), _end(text, at)
            if rest is not None and WHOLE in rest:
                if text[at:end] != "null":
                    yield at, end
            elif rest is not None:
                yield from _walk(text, at, rest)
            at = _after(text, end)


def _after(text: str, at: int) -> int:
    """Where the next element or the closing bracket stands."""
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at


def unlike(before: Iterator[bytes], after: Iterator[bytes], fields: Sequence[str], changed: int) -> list[str]:
    """In which respects lines are not those before with some of them emptied; empty if in none.

    By parsing, not by the places that `emptied` found. That nothing due is left is for who judges the lines to say:
    with as many lines changed as were due, no other one is.
    """
    found = 0
    for old, new in zip_longest(before, after):
        if old == new:
            continue
        if old is None or new is None:
            return ["the number of lines"]
        found += 1
        if not _is_emptied(old, new, fields):
            return ["what stays of the lines that are emptied"]
    return [] if found == changed else [f"the lines that are emptied, {found} instead of {changed}"]


def _is_emptied(old: bytes, new: bytes, fields: Sequence[str]) -> bool:
    try:
        wanted, there = (json.loads(line, **_EXACT) for line in (old, new))
    except (ValueError, RecursionError):
        return False
    return without(wanted, paths_of(fields)) == there and old[len(old.rstrip()) :] == new[len(new.rstrip()) :]


class _Number(NamedTuple):
    """A number as it is written, told apart from text."""

    text: str


class Pairs(tuple[tuple[str, Any], ...]):
    """An object with all its keys, in their order, also those that occur twice."""


_EXACT: dict[str, Any] = {
    "object_pairs_hook": Pairs,
    "parse_int": _Number,
    "parse_float": _Number,
    "parse_constant": _Number,
}


def without(value: Any, paths: Paths) -> Any:
    """A parsed value with nothing in its fields."""
    if isinstance(value, list):
        return [without(each, paths) for each in value]
    if not isinstance(value, Pairs | dict):
        return value
    wanted = heads(paths)
    items = value.items() if isinstance(value, dict) else value
    made = []
    for key, held in items:
        rest = wanted.get(key)
        if rest is not None:
            held = None if WHOLE in rest else without(held, rest)
        made.append((key, held))
    return dict(made) if isinstance(value, dict) else Pairs(made)
