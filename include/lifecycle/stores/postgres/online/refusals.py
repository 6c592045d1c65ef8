"""What cannot be partitioned online, and what to do about it. Pure: facts in, refusals out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.online.facts import Column, InboundKey, Index, TableFacts
from lifecycle.stores.postgres.online.layout import MAX_NAME_BYTES, Layout

_CLOCKS = ("timestamp with time zone", "timestamp without time zone", "date")
_TIERS = ("text", "character varying", "name")
_KEY = re.compile(r"FOREIGN KEY \(.*?\) REFERENCES .*?\([^()]*\)(?P<tail>.*)", re.DOTALL)


@dataclass(frozen=True)
class Accepted:
    """What somebody said yes to, knowing that a partitioned table cannot keep it."""

    weaker_uniqueness: bool = False
    lost_foreign_keys: bool = False


@dataclass(frozen=True)
class Refusal:
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}"


class CannotPartitionError(PreconditionError):
    """The table cannot be partitioned as it stands; nothing was changed. One line per reason, with its remedy."""

    def __init__(self, table: str, refusals: tuple[Refusal, ...]) -> None:
        self.table, self.refusals = table, refusals
        lines = "\n".join(f"  - {refusal}" for refusal in refusals)
        super().__init__(f"{table} cannot be partitioned as it stands; nothing was changed\n{lines}")


def extended_key(facts: TableFacts, layout: Layout) -> tuple[str, ...]:
    """The columns of the new primary key: the old ones, then what the partitions are made by."""
    key = facts.primary_key
    old = key.columns if key is not None else ()
    return (*old, *(name for name in layout.key_columns if name not in old))


def stays_unique(index: Index, layout: Layout) -> bool:
    return set(layout.key_columns) <= set(index.columns)


def weakened(facts: TableFacts, layout: Layout) -> tuple[Index, ...]:
    """Unique indexes whose promise the database can no longer keep over the whole table."""
    return tuple(index for index in facts.indexes if index.unique and not stays_unique(index, layout))


def rekeyed(key: InboundKey, facts: TableFacts, layout: Layout) -> str | None:
    """The definition of an inbound foreign key afterwards; None when there is no key left that it could refer to."""
    if set(layout.key_columns) <= set(key.referenced):
        return key.definition
    primary, found = facts.primary_key, _KEY.fullmatch(key.definition)
    if primary is None or found is None or sorted(primary.columns) != sorted(key.referenced):
        return None
    more = [name for name in extended_key(facts, layout) if name not in key.referenced]
    types = dict(key.table_columns)
    if any(types.get(name) != facts.column(name).type for name in more):
        return None
    ours, theirs = (", ".join(map(_quoted, (*names, *more))) for names in (key.columns, key.referenced))
    table = f"{_quoted(facts.name.schema)}.{_quoted(facts.name.name)}"
    return f"FOREIGN KEY ({ours}) REFERENCES {table}({theirs}){found['tail']}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def refusals(facts: TableFacts, layout: Layout, accepted: Accepted) -> tuple[Refusal, ...]:
    """Every reason not to begin, so that they can be mended in one go."""
    return tuple(
        reason
        for reasons in (
            _relation(facts, layout),
            _columns(facts, layout),
            _keys(facts, layout, accepted),
            _foreign_keys(facts, layout, accepted),
            _followers(facts),
            _publications(facts),
        )
        for reason in reasons
    )


def _relation(facts: TableFacts, layout: Layout) -> Iterator[Refusal]:
    if facts.kind != "r":
        kind = {"p": "partitioned already", "v": "a view", "m": "a materialized view", "f": "a foreign table"}
        yield Refusal(f"it is {kind.get(facts.kind, 'no ordinary table')}", "Name an ordinary table, with its schema")
        return
    if facts.persistence != "p":
        yield Refusal("it is unlogged or temporary", f"ALTER TABLE {facts.name} SET LOGGED, then again")
    if facts.inherits:
        yield Refusal("it inherits, or is inherited from", "Take it out of the inheritance (NO INHERIT) first")
    if not facts.plain_heap:
        yield Refusal(
            "it is a typed table, lies in a tablespace of its own, or is not stored as a heap",
            "Move it to the default tablespace and access method first",
        )
    if not facts.ours or not facts.may_create:
        yield Refusal(
            "this role neither owns it nor is a member of its owner, or may not create tables in its schema",
            f"GRANT the role {facts.owner} to it, and CREATE on schema {facts.name.schema}",
        )
    if facts.force_row_security and not facts.bypasses_rls:
        yield Refusal(
            "row security is forced upon its owner, so that a copy would not see every row",
            "Run as a role with BYPASSRLS, or ALTER TABLE ... NO FORCE ROW LEVEL SECURITY for the time being",
        )
    if facts.replica_identity == "i":
        yield Refusal("its replica identity is an index", "ALTER TABLE ... REPLICA IDENTITY DEFAULT (or FULL) first")
    if len(layout.longest_name().encode()) > MAX_NAME_BYTES:
        yield Refusal(
            f"the name of a partition would be longer than {MAX_NAME_BYTES} bytes", "Give it a shorter name first"
        )
    if taken := sorted(facts.taken & _names(layout)):
        yield Refusal(f"names that its partitions need are taken: {', '.join(taken)}", "Rename or drop what has them")


def _names(layout: Layout) -> frozenset[str]:
    fixed = {layout.root.name, layout.parked.name, *layout.defaults}
    return frozenset(fixed | {branch for _, branch in layout.branches})


def _columns(facts: TableFacts, layout: Layout) -> Iterator[Refusal]:
    by_name = {column.name: column for column in facts.columns}
    for option, name, types in (("--clock", layout.clock, _CLOCKS), ("--tier", layout.tier, _TIERS)):
        if name is None:
            continue
        if name not in by_name:
            yield Refusal(f"it has no column {name!r}", f"Give {option} one of {', '.join(sorted(by_name))}")
            continue
        yield from _column(by_name[name], option, types)
    for column in facts.columns:
        if column.identity and (column.sequence is None or not column.not_null):
            yield Refusal(f"the identity of column {column.name!r} has no sequence", "Drop and add the identity")


def _column(column: Column, option: str, types: tuple[str, ...]) -> Iterator[Refusal]:
    if not any(column.type.startswith(kind) for kind in types) and not (
        column.type.startswith("timestamp") and column.type.endswith(("with time zone", "without time zone"))
    ):
        yield Refusal(f"column {column.name!r} is of type {column.type}", f"{option} needs {' or '.join(types)}")
    if column.generated:
        yield Refusal(f"column {column.name!r} is generated, and a partition key may not be", f"Name another {option}")


def _keys(facts: TableFacts, layout: Layout, accepted: Accepted) -> Iterator[Refusal]:
    primary = facts.primary_key
    if primary is None:
        yield Refusal(
            "it has no primary key, so that a row could not be told from another while it is copied",
            "CREATE UNIQUE INDEX CONCURRENTLY on columns that tell rows apart, then ADD PRIMARY KEY USING INDEX",
        )
    elif primary.deferrable:
        yield Refusal("its primary key is deferrable", "Make it NOT DEFERRABLE")
    for constraint in facts.constraints:
        if constraint.kind == "x":
            yield Refusal(
                f"exclusion constraint {constraint.name} holds over the whole table, and no partition can see another",
                "Drop it, or leave the table as it is",
            )
        if constraint.kind == "f" and not constraint.validated:
            yield Refusal(
                f"foreign key {constraint.name} is not validated, and a partitioned table has no such state",
                f"ALTER TABLE {facts.name} VALIDATE CONSTRAINT {constraint.name}, or drop it",
            )
    for index in facts.indexes:
        if not index.valid:
            yield Refusal(f"index {index.name} is invalid", "REINDEX INDEX CONCURRENTLY, or drop it")
    weaker = weakened(facts, layout)
    if weaker and not accepted.weaker_uniqueness:
        shown = "; ".join(
            f"{index.name} ({', '.join(name or 'an expression' for name in index.columns)})" for index in weaker
        )
        yield Refusal(
            f"a unique index of a partitioned table must contain {', '.join(layout.key_columns)}, which these lack: "
            f"{shown}. Afterwards the database no longer refuses the same key twice with another "
            f"{' or '.join(layout.key_columns)}, and INSERT ... ON CONFLICT on the old key is refused",
            f"If the keys are unique by themselves (UUIDs, a sequence) and no statement needs that conflict: "
            f"--accept-weaker-uniqueness. The primary key becomes ({', '.join(extended_key(facts, layout))})",
        )


def _foreign_keys(facts: TableFacts, layout: Layout, accepted: Accepted) -> Iterator[Refusal]:
    for key in facts.inbound:
        if key.own:
            yield Refusal(
                f"foreign key {key.name} refers to its own table by a key that goes",
                "Drop it before, and check it by query",
            )
        elif not key.ours:
            yield Refusal(
                f"foreign key {key.name} is of {key.table}, which is not this role's", "GRANT its owner's role"
            )
        elif key.partitioned:
            yield Refusal(
                f"foreign key {key.name} is of {key.table}, which is partitioned: it cannot be moved in a short time",
                "Drop it, partition, and add it again",
            )
        elif rekeyed(key, facts, layout) is None and not accepted.lost_foreign_keys:
            more = ", ".join(name for name in layout.key_columns if name not in key.referenced)
            yield Refusal(
                f"foreign key {key.name} of {key.table} refers to ({', '.join(key.referenced)}), which is no key of a "
                f"partitioned table, and {key.table} does not have the missing columns ({more})",
                f"Add them to {key.table} under the same names and fill them, so that the key is extended; or go "
                "without it: --accept-lost-foreign-keys (declare the table a child in the dataset file, and its rows "
                "go with their record all the same)",
            )


def _followers(facts: TableFacts) -> Iterator[Refusal]:
    for found in facts.dependants:
        if found.kind == "m":
            yield Refusal(
                f"materialized view {found.name} is made from it and cannot be replaced in place",
                "Keep its definition (pg_get_viewdef), drop it, and create it again afterwards",
            )
        elif not found.ours:
            yield Refusal(f"{found.name} names it and is not this role's", "GRANT the role of its owner")
    for what in facts.in_the_way:
        if not what.startswith("rule _RETURN on materialized view"):
            yield Refusal(f"{what} hangs on it and cannot follow it", "Drop it before and create it again afterwards")
    for trigger in facts.triggers:
        if trigger.per_row and trigger.transition_tables:
            yield Refusal(
                f"trigger {trigger.name} is FOR EACH ROW with transition tables, which a partitioned table cannot have",
                "Make it FOR EACH STATEMENT",
            )


def _publications(facts: TableFacts) -> Iterator[Refusal]:
    for found in facts.publications:
        if found.all_tables or found.narrowed:
            yield Refusal(
                f"publication {found.name} publishes it with all tables of the database or of a schema, "
                "or only some of its rows or columns",
                "Publish it by name and whole for the time being",
            )
        elif not found.via_root:
            yield Refusal(
                f"publication {found.name} would publish each partition under its own name",
                f"ALTER PUBLICATION {found.name} SET (publish_via_partition_root = true)",
            )
        elif not found.ours:
            yield Refusal(f"publication {found.name} is not this role's", "GRANT the role of its owner")
