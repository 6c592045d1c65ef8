"""Whether a record of a log object still holds what a stage takes from it: the auditor's own reading."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any


class Pairs(tuple[tuple[str, Any], ...]):
    """A JSON object with all its keys: of one that occurs twice any parser shows only the last."""


def parsed(raw: bytes) -> Pairs | None:
    """A line with every key of it; None if it is no JSON object."""
    try:
        found = json.loads(raw, object_pairs_hook=Pairs, parse_int=str)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, Pairs) else None


def fields_in(record: Any, fields: Sequence[str]) -> dict[str, bool]:
    """The fields that a record has, by their paths with dots (lists add nothing to one), and whether anything but null
    is in them."""
    found: dict[str, bool] = {}
    for field, held in _found(record, "", fields):
        found[field] = found.get(field, False) or held
    return found


def _found(value: Any, path: str, fields: Sequence[str]) -> Iterator[tuple[str, bool]]:
    if isinstance(value, list) and not _is_map(value):
        for each in value:
            yield from _found(each, path, fields)
        return
    for key, held in _items(value):
        here = f"{path}.{key}" if path else str(key)
        if here in fields:
            yield here, held is not None
        elif any(field.startswith(f"{here}.") for field in fields):
            yield from _found(held, here, fields)


def _is_map(value: list[Any]) -> bool:
    """Parquet's maps come as lists of pairs."""
    return bool(value) and all(type(each) is tuple and len(each) == 2 for each in value)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, Pairs) or (isinstance(value, list) and _is_map(value)):
        yield from value
