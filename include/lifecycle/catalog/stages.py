"""What of a row goes before the row, and what goes with it: stages, children of any depth, second copies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from lifecycle.catalog.clocks import ClockField
from lifecycle.catalog.identifiers import Identifier, KeyField, TableName
from lifecycle.policy.models import Category, Frozen

# What an emptied column may hold instead of null. Nothing that could be content.
EMPTY_VALUES = ("", "{}", "[]", "0", "false")
CLEAR_ERROR = "clear_form"


class Cleared(Frozen):
    """A column that is emptied, and what it holds then: null, or one of `EMPTY_VALUES` where it may not be null."""

    column: Identifier
    value: str | None = None


def _clear(value: Any) -> Any:
    """A list of columns, or a mapping from columns to what they hold when they are empty."""
    if isinstance(value, dict):
        return [_cleared(column, held) for column, held in value.items()]
    if isinstance(value, list):
        return [{"column": column} if isinstance(column, str) else column for column in value]
    return value


def _cleared(column: Any, value: Any) -> dict[str, Any]:
    if value is not None and not (isinstance(value, str) and value in EMPTY_VALUES):
        listed = ", ".join(repr(each) for each in EMPTY_VALUES)
        raise PydanticCustomError(CLEAR_ERROR, f"an emptied column holds null or one of the texts {listed}")
    return {"column": column, "value": value}


Clear = Annotated[
    tuple[Cleared, ...],
    Field(min_length=1, examples=["[messages, response]"]),
    BeforeValidator(_clear),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
                {"type": "object", "additionalProperties": {"enum": [None, *EMPTY_VALUES]}, "minProperties": 1},
            ],
            "examples": [["messages", "response"], {"messages": "{}"}],
        }
    ),
]


class Copy(Frozen):
    """Content of a record that another table repeats: its column is emptied where ``key`` is the record's key.

    ``path``: the place inside a jsonb column that holds the content; without it the whole column is emptied.
    """

    table: TableName
    key: Identifier
    column: Identifier
    path: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()


class Stage(Frozen):
    """Columns of a row that are emptied when the period of a category of their own ends."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,62}$", examples=["content"])]
    category: Category
    clear: Clear
    copies: tuple[Copy, ...] = ()


# Parts with dots between them: no part is empty, and none has what no honest name of a field has.
FieldPath = Annotated[
    str, Field(pattern=r"^[^\x00-\x1f\x7f.]+(\.[^\x00-\x1f\x7f.]+)*$", max_length=512, examples=["request.messages"])
]


class LogStage(Frozen):
    """Fields of the records of an object that are set to null when the period of a category of their own ends.

    A field in an object or a struct is written with dots; a list on the way stands for each of its elements.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,62}$", examples=["content"])]
    category: Category
    clear: Annotated[tuple[FieldPath, ...], Field(min_length=1, examples=["[prompt, request.messages]"])]


class LogPart(Frozen):
    """Which part of which dataset of objects a stage is."""

    of: str
    name: str
    clear: tuple[str, ...]


class StagePart(Frozen):
    """Which part of which dataset a stage is."""

    of: str
    name: str
    clear: tuple[Cleared, ...]


class Orphans(Frozen):
    """Rows of a child whose parent the application removed: they go by the dataset's rule, from their own clock.

    ``rows``: what tells one row of the child from another. ``subject``: whose a row is, where the child says so.
    ``ids``: what ``subject`` is, or the child's key where there is none; as the dataset's if not given.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,62}$", examples=["tool_index"])]
    rows: KeyField
    clock: ClockField
    subject: Identifier | None = None
    ids: Literal["uuid", "text", "bigint"] | None = None


class OrphanPart(Frozen):
    """Which rows of a child are orphans: those whose ``key`` is no ``parent_key`` of ``parent``."""

    of: str
    parent: TableName
    parent_key: Identifier
    key: Identifier


class Descendant(Frozen):
    """A table whose rows go with a row of another: where ``key`` is that row's ``parent_key``.

    Directly below a dataset ``parent_key`` is the dataset's key unless said; further below it must be said.
    ``orphans``: what becomes of rows whose parent is gone already; without it they are counted, and the check is red.
    """

    table: TableName
    key: Identifier
    parent_key: Identifier | None = None
    children: tuple[Descendant, ...] = ()
    orphans: Orphans | None = None


def all_of(children: tuple[Descendant, ...]) -> Iterator[Descendant]:
    """Children of any depth, each before its own."""
    for child in children:
        yield child
        yield from all_of(child.children)
