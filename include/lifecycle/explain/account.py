"""An account explained: its data, its last interaction, and everything that concerns what it owns."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from lifecycle.catalog.models import subject_ids_of
from lifecycle.config import Configuration
from lifecycle.explain.groups import as_rows, records, sentences
from lifecycle.explain.records import ABSENT, as_data
from lifecycle.explain.sentences import Case, day
from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.explained import (
    Group,
    about_account,
    count_of,
    message_groups,
    quarantine_groups,
    row_of,
)

QUARANTINE = "quarantine"


def explain_account(conn: Connection, config: Configuration, account: UUID | str, as_of: datetime) -> dict[str, Any]:
    """An account by its id; what it owns is told also when its row is gone."""
    dataset = config.catalog.accounts
    row = row_of(conn, config.catalog, dataset, [str(account)], as_of)
    about = about_account(conn, config.catalog, account)
    owned = _owned(conn, config, account, as_of)
    others = {
        each.id: count_of(conn, each.table, each.subject, str(account))
        for each in config.catalog.tables
        if subject_ids_of(each) == dataset.ids or (dataset.ids == "uuid" and subject_ids_of(each) == "text")
    }
    data: dict[str, Any] = {"kind": "account", "account_id": str(account), "as_of": as_of, "location": ABSENT}
    lines: list[str] = []
    if row is None:
        lines.append("No row of that account is in the store.")
    else:
        case = Case(dataset.category, row.tier, row.clock, row.facts, config.policy, as_of)
        data |= as_data(case) | {"personal_data": row.personal}
        lines.append(f"Account of tier {row.tier}, last used on {day(row.clock)}.")
        if row.personal:
            lines.append(f"Its account data: {data['text']}")
        else:
            lines.append("It holds no personal data any more; the row stays while anything refers to it.")
    lines += _exceptions(about, as_of)
    lines += _belongings(owned, others, config)
    found = {place: as_rows(groups) for place, groups in owned.items()}
    return data | {"about": about, "messages": found, "records": others, "text": "\n".join(lines)}


def _owned(conn: Connection, config: Configuration, account: UUID | str, as_of: datetime) -> dict[str, list[Group]]:
    """Messages by tier and, under ``quarantine/<tier>``, what lies in quarantine."""
    policy, catalog = config.policy, config.catalog
    found: dict[str, list[Group]] = {}
    for tier in (*Tier, None):
        name = tier.value if tier is not None else "unclassified"
        found[name] = message_groups(conn, policy, catalog, tier, as_of, account=account)
        if tier is not None:
            inside = quarantine_groups(conn, policy, catalog, tier, as_of, account=account)
            found[f"{QUARANTINE}/{name}"] = inside
    return {name: groups for name, groups in found.items() if groups}


_SPANS = {
    "holds": ("legal hold", "placed_at", "released_at", "released"),
    "cases": ("usage-policy case", "opened_at", "closed_at", "closed"),
    "agreements": ("agreement", "effective_from", "effective_to", "ended"),
    "requests": ("erasure request", "requested_at", "completed_at", "completed"),
}


def _exceptions(about: dict[str, list[dict[str, Any]]], as_of: datetime) -> list[str]:
    lines = []
    for kind, (noun, began, ended, word) in _SPANS.items():
        for entry in about[kind]:
            end = entry[ended]
            state = f"{word} on {day(end)}" if end is not None and end <= as_of else "in force"
            if kind == "requests" and end is None:
                state = "open"
            extra = f" ({entry['category']}: {entry['retain']})" if kind == "agreements" else ""
            extra = f" ({entry['outcome']})" if kind == "requests" and entry["outcome"] else extra
            lines.append(f"{noun.capitalize()} of {day(entry[began])}{extra}: {state}.")
    return lines


def _belongings(owned: dict[str, list[Group]], others: dict[str, int], config: Configuration) -> list[str]:
    lines = []
    for place, groups in owned.items():
        noun = "In quarantine" if place.startswith(QUARANTINE) else "Messages"
        lines.append(f"{noun} of tier {place.rsplit('/', 1)[-1]}: {records(sum(g.records for g in groups))}.")
        lines += [f"  {sentence}" for sentence in sentences(groups, config.policy)]
    if not owned:
        lines.append("It has no messages.")
    lines += [f"{name}: {records(count)}." for name, count in others.items() if count]
    return lines
