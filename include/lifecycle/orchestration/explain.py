"""One message's fate, explained: the same `decide` that the planner's SQL is compiled from."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from lifecycle.config import load_configuration
from lifecycle.policy.decide import Decision, decide
from lifecycle.policy.models import Disposition, Policy
from lifecycle.stores.postgres.connect import connect
from lifecycle.stores.postgres.facts import message_facts
from lifecycle.stores.postgres.messages import locate


def explain_message(message_id: UUID, as_of: datetime) -> dict[str, Any]:
    """Explain a message by its id.

    Returns:
        location (app, quarantine or absent), tier, clock, deciding_rule, disposition, due, deadline, rules (each with
        rule, applies, wins, reason, until), and text for people.
    """
    config = load_configuration()
    with connect() as conn:
        found = locate(conn, config.catalog, message_id)
        if found is None:
            text = "No message of that id is in the store or in quarantine."
            return {"message_id": str(message_id), "location": "absent", "text": text}
        facts = message_facts(conn, config.catalog, message_id, found)
    decision = decide(config.catalog.messages.category, found.tier, found.clock, facts, config.policy, as_of)
    return {
        "message_id": str(message_id),
        "location": found.location,
        "tier": found.tier,
        "clock": found.clock,
        "as_of": as_of,
        "deciding_rule": decision.rule,
        "disposition": decision.disposition.value,
        "due": decision.due,
        "deadline": decision.deadline,
        "rules": [
            {"rule": c.rule, "applies": c.applies, "wins": c.wins, "reason": c.reason, "until": c.until}
            for c in decision.rules
        ],
        "text": sentence(decision, config.policy),
    }


_VERBS = {
    Disposition.KEEP: "Kept",
    Disposition.QUARANTINE: "Kept in quarantine",
    Disposition.DELETE: "To be deleted in the next run",
    Disposition.DEIDENTIFY: "To be de-identified in the next run",
}


def sentence(decision: Decision, policy: Policy) -> str:
    """A decision in words: what happens, until when, by which rule and whose sentence, and what it outranks."""
    until = f" until {decision.deadline.date().isoformat()}" if decision.deadline and not decision.due else ""
    overdue = f" (deadline {decision.deadline.date().isoformat()})" if decision.deadline and decision.due else ""
    winner = next((rule for rule in decision.rules if rule.wins), None)
    why = winner.reason if winner else "no rule covers it"
    basis = next(
        (rule.basis for rule in policy.rules if rule.id == decision.rule), "unknown tier: the strictest deadline"
    )
    lines = [f"{_VERBS[decision.disposition]}{until}{overdue} because {why} (rule {decision.rule}, '{basis}')."]
    for other in decision.rules:
        if other.applies and not other.wins:
            lines.append(f"{other.rule} applies too, but is outranked: {other.reason}.")
        elif not other.applies:
            lines.append(f"{other.rule} no longer counts: it {other.reason}.")
    return "\n".join(lines)
