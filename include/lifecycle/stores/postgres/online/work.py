"""What all phases of a partitioning share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from lifecycle.errors import PreconditionError
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.facts import TableFacts
from lifecycle.stores.postgres.online.locks import Patience
from lifecycle.stores.postgres.online.mirror import Mirror
from lifecycle.stores.postgres.online.read import read_facts
from lifecycle.stores.postgres.online.refusals import extended_key
from lifecycle.stores.postgres.online.state import Partitioning
from lifecycle.stores.postgres.online.text import Statement

Report = Callable[[str, int], None]


def _silent(_step: str, _count: int) -> None:
    """Nobody is listening."""


@dataclass(frozen=True)
class Work:
    """What all phases need. ``report(step, count)`` is called after every transaction."""

    conn: Connection
    now: datetime
    patience: Patience = field(default_factory=Patience)
    batch_target: float = 0.25
    report: Report = _silent


class StructureChangedError(PreconditionError):
    """Columns, constraints or indexes are not what they were when it began; the copy would not be a copy."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"columns, constraints or indexes of {table} have changed since its partitioning began; "
            "change them back, or take it back with --revert and begin again"
        )


def session(conn: Connection) -> None:
    """Positions and bounds are written and read as text; rows that row security would hide are an error."""
    conn.execute(
        "SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO', false),"
        " set_config('IntervalStyle', 'postgres', false), set_config('row_security', 'off', false)"
    )


def mirror_of(partitioning: Partitioning, facts: TableFacts) -> Mirror:
    layout = partitioning.layout
    primary = facts.primary_key
    return Mirror(
        partitioning.id,
        layout.table,
        layout.root,
        layout.parked,
        primary.columns if primary is not None else (),
        extended_key(facts, layout),
        facts.writable,
        frozenset(column.name for column in facts.columns if column.identity == "a"),
    )


def checked_facts(work: Work, partitioning: Partitioning) -> TableFacts:
    facts = read_facts(work.conn, partitioning.layout.table)
    if facts.structure() != partitioning.structure:
        raise StructureChangedError(str(partitioning.layout.table))
    return facts


def run_all(conn: Connection, statements: Sequence[Statement]) -> None:
    for statement in statements:
        conn.execute(statement)
