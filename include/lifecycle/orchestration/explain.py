"""One thing's fate, explained: the same `decide` that the planner's SQL is compiled from."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from lifecycle.config import load_configuration
from lifecycle.explain.ask import ask
from lifecycle.orchestration.session import shared_s3_client
from lifecycle.stores.postgres.connect import connect


def explain(kind: str, name: str, as_of: datetime) -> dict[str, Any]:
    """Explain a message, an account, an object, a partition or a record, in a session that cannot write.

    Raises:
        QuestionError: the name is not one of that kind.
    """
    config = load_configuration()
    with connect() as conn:
        conn.execute("SET default_transaction_read_only = on")
        return ask(conn, shared_s3_client, config, kind, name, as_of)


def explain_message(message_id: UUID, as_of: datetime) -> dict[str, Any]:
    """Explain a message by its id.

    Returns:
        location (app, quarantine or absent), tier, clock, deciding_rule, disposition, due, deadline, rules (each with
        rule, applies, wins, reason, until), and text for people.
    """
    return explain("message", str(message_id), as_of)
