"""What exists, as frozen facts: relations and columns, buckets and prefixes. Names and counts, no values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Form(StrEnum):
    """What a relation is. A partition is folded into the table it is part of."""

    TABLE = "table"
    VIEW = "view"
    COPY = "materialized view"
    FOREIGN = "foreign table"


class Sign(StrEnum):
    """What the values of a column look like."""

    EMAIL = "e-mail addresses"
    PHONE = "phone numbers"
    IP = "IP addresses"
    OBJECT = "keys or addresses of stored objects"


@dataclass(frozen=True)
class Content:
    """What statistics (or a sample, where there are none) say of a column; never a value.

    ``identifiers``: columns of configured tables, as ``schema.table.column``, some of whose values are found in it.
    ``keys``: names of JSON keys in it. They may be values themselves, so they are compared and not shown.
    """

    signs: frozenset[Sign] = frozenset()
    identifiers: frozenset[str] = frozenset()
    keys: frozenset[str] = field(default=frozenset(), repr=False)


NO_CONTENT = Content()


@dataclass(frozen=True)
class Column:
    """``category`` is PostgreSQL's letter for a kind of types: S text, N numbers, I addresses, U uuid and JSON …

    ``distinct``: how many different values there are per row, by statistics; None where those say nothing.
    """

    name: str
    type: str
    category: str
    unique: bool = False
    content: Content = NO_CONTENT
    distinct: float | None = None


@dataclass(frozen=True)
class Reference:
    """A foreign key of one column."""

    column: str
    table: str
    target: str


@dataclass(frozen=True)
class Relation:
    """``rows`` is the planner's estimate. ``reads``: the relations a view is made from, through other views too."""

    name: str
    form: Form
    columns: tuple[Column, ...]
    rows: int = 0
    readable: bool = True
    references: tuple[Reference, ...] = ()
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Publication:
    """A table as one publication sends it. ``by_partition``: partitions of it are sent under their own names."""

    name: str
    table: str
    partitioned: bool = False
    deletes: bool = True
    updates: bool = True
    by_partition: bool = False


@dataclass(frozen=True)
class Copier:
    """A trigger or a rule that sees rows of a table.

    ``source``: of its function, where that can be read. ``writes``: the tables that a rule is about.
    """

    kind: str
    table: str
    name: str
    events: tuple[str, ...]
    function: str = ""
    source: str | None = field(default=None, repr=False)
    writes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stray:
    """Objects of an owned bucket outside what the dataset file declares, by the shape of their first path part.

    ``shape`` has no identifiers; ``begins`` is the longest piece of it that is plain text, for an exclusion.
    """

    shape: str
    begins: str
    count: int


@dataclass(frozen=True)
class Facts:
    """Everything that is compared.

    ``buckets``: every bucket that the key can list, None where it may not list buckets.
    ``strays``: per bucket that is owned.
    ``unclassified``: per dataset the records of unknown tier, which fall under the strictest default.
    ``timeless``: per dataset the records without a clock, which no rule ever reaches.
    ``logged``: settings by which the server's own log holds what is written.
    ``large_objects``: whether the database has any, of which a row holds no more than the number.
    """

    relations: tuple[Relation, ...] = ()
    buckets: tuple[str, ...] | None = ()
    strays: Mapping[str, tuple[Stray, ...]] = field(default_factory=dict)
    unclassified: Mapping[str, int] = field(default_factory=dict)
    timeless: Mapping[str, int] = field(default_factory=dict)
    publications: tuple[Publication, ...] = ()
    copiers: tuple[Copier, ...] = ()
    large_objects: bool = False
    logged: tuple[str, ...] = ()
