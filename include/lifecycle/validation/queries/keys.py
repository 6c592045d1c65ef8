"""The key template of the catalog as an SQL expression."""

from __future__ import annotations

import re

from psycopg import sql

_FIELD = re.compile(r"\{(tier|date|record)\}")


def key_of(template: str, *, tier: sql.Composable, clock: sql.Composable, record: sql.Composable) -> sql.Composable:
    """Where a record's object belongs, for example ``tier={tier}/date={date}/{record}.json``."""
    fields: dict[str, sql.Composable] = {
        "tier": tier,
        "date": sql.SQL("to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD')").format(clock),
        "record": sql.SQL("{}::text").format(record),
    }
    pieces = _FIELD.split(template)
    parts = [fields[piece] if position % 2 else sql.Literal(piece) for position, piece in enumerate(pieces) if piece]
    return sql.SQL("({})").format(sql.SQL(" || ").join(parts))
