"""One record explained: a message, or a row of an ordinary table. What is returned is for the caller alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from lifecycle.catalog.models import Accounts, Records, StagedRecords
from lifecycle.catalog.tiers import UNKNOWN
from lifecycle.config import Configuration
from lifecycle.explain.lead import lead_terms
from lifecycle.explain.sentences import Case, taken_after, tell
from lifecycle.policy.models import Category, Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.explained import Row, row_of, share_of_row
from lifecycle.stores.postgres.facts import message_facts
from lifecycle.stores.postgres.messages import locate

ABSENT = "absent"


def explain_message(conn: Connection, config: Configuration, message: UUID, as_of: datetime) -> dict[str, Any]:
    """A message in its table or in quarantine, by its id."""
    found = locate(conn, config.catalog, message)
    if found is None:
        text = "No message of that id is in the store or in quarantine."
        return {"kind": "message", "message_id": str(message), "location": ABSENT, "text": text}
    facts = message_facts(conn, config.catalog, message, found)
    case = Case(
        config.catalog.messages.category, found.tier, found.clock, facts, config.policy, as_of, found.location
    )  # fmt: skip
    return {"kind": "message", "message_id": str(message), **as_data(case)}


def as_data(case: Case) -> dict[str, Any]:
    """A decision in a stable form, with the text for people."""
    decision = case.decision
    return {
        "location": case.location,
        "tier": case.tier,
        "clock": case.clock,
        "as_of": case.as_of,
        "deciding_rule": decision.rule,
        "disposition": decision.disposition.value,
        "due": decision.due,
        "deadline": decision.deadline,
        "taken_after": taken_after(case, decision),
        "lead": lead_terms(case.policy.lead),
        "rules": [
            {"rule": c.rule, "applies": c.applies, "wins": c.wins, "reason": c.reason, "until": c.until}
            for c in decision.rules
        ],
        "text": tell(case),
    }


def dataset_of(config: Configuration, name: str) -> Records | Accounts | None:
    """The ordinary table of a dataset id, or a part of one; of a table of several tiers also the whole of it."""
    whole = (each for item in config.catalog.tables for each in (*item.parts, item))
    return next((each for each in (*config.catalog.row_by_row, *whole) if each.id == name), None)


def shares_of(config: Configuration, dataset: Records | Accounts) -> tuple[Records, ...]:
    """The parts that a dataset of rows of several tiers is judged by; none where it is judged as one."""
    if not isinstance(dataset, Records) or dataset.tiers is None:
        return ()
    return tuple(
        each for each in config.catalog.records if each.share_of is not None and each.share_of.names[0] == dataset.id
    )


def explain_record(
    conn: Connection, config: Configuration, dataset: Records | Accounts, key: str, as_of: datetime
) -> dict[str, Any]:
    """A row of an ordinary table (a score, a submission, a training example), by its key. A key of several columns is
    written with '/' between its parts."""
    head = {"kind": "record", "dataset": dataset.id, "key": key}
    parts = key.split("/") if len(dataset.key_columns) > 1 else [key]
    shares = shares_of(config, dataset)
    mine = share_of_row(conn, shares, parts) if shares else dataset
    row = row_of(conn, config.catalog, mine, parts, as_of) if mine is not None else None
    if row is None:
        return head | {"location": ABSENT, "text": f"No row of that key is in {dataset.table}."}
    case = Case(dataset.category, _tier(row), row.clock, row.facts, config.policy, as_of, dataset.table)
    data = head | as_data(case)
    if isinstance(dataset, StagedRecords):
        return data | _stage(dataset, row, data["text"])
    if dataset.category is Category.TRAINING_USE:
        return data | _training(case, row)
    return data


def _stage(dataset: StagedRecords, row: Row, text: str) -> dict[str, Any]:
    """Of a stage only content goes: which columns, and what that leaves."""
    columns = ", ".join(each.column for each in dataset.part.clear)
    if not row.personal:
        gone = f"Its content is gone: {columns} are empty. The row itself is dataset {dataset.part.of}."
        return {"content": False, "due": False, "text": gone}
    kept = f"This is about its content only ({columns}), which is emptied; the row itself is dataset {dataset.part.of}."
    return {"content": True, "text": f"{text}\n{kept}"}


def _tier(row: Row) -> str:
    """Where rows are not told apart by tier, rules do not differ by it."""
    return row.tier if row.tier in {*Tier, UNKNOWN} else Tier.CONSUMER.value


def _training(case: Case, row: Row) -> dict[str, Any]:
    """A training example has no period: it stays as long as its basis is valid, unless a hold keeps it."""
    decision = case.decision
    valid = row.basis == "permission" or (row.basis == "safety_review" and row.flagged)
    if valid or decision.rule != "training_use":
        return {}
    text = (
        "To be deleted by the next run because its basis is no longer valid: neither an explicit permission nor an"
        f" uncleared safety flag (rule {decision.rule}).\nThe policy says: '{case.policy.rule(decision.rule).basis}'."
    )
    return {"disposition": "delete", "due": True, "text": text}
