"""Days pass and facts change: writes the difference between two worlds into a store that holds the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection, sql

from .facts import World
from .load import copy_facts, copy_holds

# fact -> (table, key, the column that ends it)
ENDINGS = {
    "flags": ("app.safety_flags", "message_id", "cleared_at"),
    "feedback": ("app.feedback", "feedback_id", "withdrawn_at"),
    "cases": ("app.enforcement_cases", "case_id", "closed_at"),
    "holds": ("lifecycle.legal_holds", "hold_id", "released_at"),
    "agreements": ("app.agreements", "agreement_id", "effective_to"),
}


def apply_changes(conn: Connection[Any], before: World, after: World) -> None:
    """End what ended and insert what is new."""
    with conn.transaction():
        for name, (table, key, ending) in ENDINGS.items():
            old = {getattr(fact, key): fact for fact in getattr(before, name)}
            for fact in getattr(after, name):
                known = old.get(getattr(fact, key))
                if known is not None and known != fact:
                    conn.execute(
                        sql.SQL("UPDATE {} SET {} = %s WHERE {} = %s").format(
                            sql.Identifier(*table.split(".")), sql.Identifier(ending), sql.Identifier(key)
                        ),
                        (getattr(fact, ending), getattr(fact, key)),
                    )
        copy_facts(conn, "app.safety_flags", _new(before.flags, after.flags, "message_id"))
        copy_facts(conn, "app.feedback", _new(before.feedback, after.feedback, "feedback_id"))
        copy_facts(conn, "app.enforcement_cases", _new(before.cases, after.cases, "case_id"))
        copy_facts(conn, "lifecycle.erasure_requests", _new(before.erasures, after.erasures, "request_id"))
        copy_holds(conn, _new(before.holds, after.holds, "hold_id"))


def _new(before: Sequence[Any], after: Sequence[Any], key: str) -> Sequence[Any]:
    known = {getattr(fact, key) for fact in before}
    return [fact for fact in after if getattr(fact, key) not in known]
