"""Where the partitioning of a table stands: one row of lifecycle.partitionings, changed with what it tells of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, LiteralString

from psycopg import sql
from psycopg.types.json import Jsonb

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.online.handover import ForeignKey
from lifecycle.stores.postgres.online.layout import Interval, Layout
from lifecycle.stores.postgres.online.refusals import Accepted
from lifecycle.stores.postgres.online.text import stmt


class Phase(StrEnum):
    BUILDING = "building"
    BUILT = "built"
    MIRRORED = "mirrored"
    COPIED = "copied"
    VERIFIED = "verified"
    SWITCHED = "switched"
    FINISHING = "finishing"
    FINISHED = "finished"
    REVERTING = "reverting"
    REVERTED = "reverted"


@dataclass(frozen=True)
class Partitioning:
    id: int
    layout: Layout
    ahead: timedelta
    accepted: Accepted
    phase: Phase
    structure: str
    key: tuple[str, ...]
    indexes: tuple[str, ...]
    foreign_keys: tuple[ForeignKey, ...]
    position: tuple[str, ...] | None
    copied: int
    checked: int
    snapshots: tuple[str, ...]


_SELECT: LiteralString = """
    SELECT partitioning_id, table_schema, table_name, clock, tier, tiers, interval, ahead, accepted, phase, structure,
           key, indexes, foreign_keys, position, copied, checked, snapshots
    FROM lifecycle.partitionings WHERE phase NOT IN ('finished', 'reverted')"""


def _partitioning(row: tuple[Any, ...]) -> Partitioning:
    layout = Layout(Name(row[1], row[2]), row[3], row[4], tuple(row[5]), Interval(row[6]))
    keys = tuple(ForeignKey(Name(k["schema"], k["table"]), k["name"], k["before"], k["after"]) for k in row[13])
    return Partitioning(
        row[0],
        layout,
        row[7],
        Accepted(**row[8]),
        Phase(row[9]),
        row[10],
        tuple(row[11]),
        tuple(row[12]),
        keys,
        tuple(row[14]) if row[14] is not None else None,
        row[15],
        row[16],
        tuple(row[17] or ()),
    )


def open_partitioning(conn: Connection, table: Name) -> Partitioning | None:
    """The one under way for a table; None when there is none, or the project's schema is not there."""
    if conn.execute("SELECT to_regclass('lifecycle.partitionings')").fetchone() == (None,):
        return None
    row = conn.execute(_SELECT + " AND (table_schema, table_name) = (%s, %s)", (table.schema, table.name)).fetchone()
    return _partitioning(row) if row is not None else None


def reload(conn: Connection, partitioning: Partitioning) -> Partitioning:
    found = open_partitioning(conn, partitioning.layout.table)
    if found is None or found.id != partitioning.id:
        raise PreconditionError(f"the partitioning of {partitioning.layout.table} was ended by somebody else")
    return found


def begin(
    conn: Connection,
    layout: Layout,
    *,
    ahead: timedelta,
    accepted: Accepted,
    structure: str,
    key: Sequence[str],
    indexes: Sequence[str],
) -> Partitioning:
    conn.execute(
        "INSERT INTO lifecycle.partitionings (table_schema, table_name, clock, tier, tiers, interval, ahead, accepted,"
        " phase, structure, key, indexes) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'building', %s, %s, %s)",
        (
            layout.table.schema,
            layout.table.name,
            layout.clock,
            layout.tier,
            list(layout.tiers),
            layout.interval.value,
            ahead,
            Jsonb({"weaker_uniqueness": accepted.weaker_uniqueness, "lost_foreign_keys": accepted.lost_foreign_keys}),
            structure,
            list(key),
            list(indexes),
        ),
    )
    found = open_partitioning(conn, layout.table)
    if found is None:
        raise PreconditionError(f"the partitioning of {layout.table} could not be recorded")
    return found


def note(conn: Connection, partitioning: Partitioning, **values: object) -> None:
    """Change some of the row's columns, inside the caller's transaction."""
    assignments = [stmt("{} = {}", sql.Identifier(name), sql.Placeholder()) for name in values]
    statement = stmt(
        "UPDATE lifecycle.partitionings SET {}, changed_at = clock_timestamp() WHERE partitioning_id = {}",
        sql.SQL(", ").join(assignments),
        sql.Placeholder(),
    )
    conn.execute(statement, [*values.values(), partitioning.id])


def keys_as_json(keys: Sequence[ForeignKey]) -> Jsonb:
    return Jsonb(
        [
            {"schema": k.table.schema, "table": k.table.name, "name": k.name, "before": k.before, "after": k.after}
            for k in keys
        ]
    )
