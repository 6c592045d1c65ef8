"""The policy file states the order of rules; the code does not: another order changes `decide` and the SQL alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import sql

from lifecycle.config import Configuration, load_configuration
from lifecycle.policy.decide import Decision, Fact, decide
from lifecycle.policy.models import Category, Tier, Trigger
from lifecycle.policy.periods import Period
from lifecycle.shipped import SHIPPED_POLICY, shipped
from lifecycle.stores.postgres.fates import fate_parameters, message_fate
from support.store import Store

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
BEGAN = AS_OF - timedelta(days=5)
AGES = (timedelta(days=10), timedelta(days=200), timedelta(days=900))
RETAIN = timedelta(days=400)
SHIPPED_ORDER = "hold, case, flag, erasure, consent, agreement, default"
ORDERS = (
    SHIPPED_ORDER,
    "hold, erasure, case, flag, consent, agreement, default",
    "hold, agreement, consent, erasure, flag, case, default",
    "hold, consent, flag, case, agreement, erasure, default",
    "hold, flag, agreement, case, consent, erasure, default",
    "hold, erasure, agreement, consent, case, flag, default",
)


@dataclass(frozen=True)
class Record:
    """A message, and which exceptions name it: every combination there is."""

    message: UUID
    conversation: UUID
    account: UUID
    tier: Tier
    clock: datetime
    triggers: frozenset[Trigger]

    def decision(self, config: Configuration) -> Decision:
        facts = [
            Fact(trigger, BEGAN, None, Period(days=RETAIN.days) if trigger is Trigger.AGREEMENT else None)
            for trigger in self.triggers
        ]
        return decide(Category.PROMPTS_AND_OUTPUTS, self.tier, self.clock, facts, config.policy, AS_OF)


def all_records() -> list[Record]:
    exceptions = [trigger for trigger in Trigger if trigger is not Trigger.DEFAULT]
    return [
        Record(
            uuid4(),
            uuid4(),
            uuid4(),
            tier,
            AS_OF - age,
            frozenset(trigger for trigger, there in zip(exceptions, chosen, strict=True) if there),
        )
        for tier, age, chosen in product(Tier, AGES, product((False, True), repeat=len(exceptions)))
    ]


def load(store: Store, records: Iterable[Record]) -> None:
    rows: dict[tuple[str, str], list[tuple[Any, ...]]] = {}

    def add(table: str, columns: str, *values: object) -> None:
        rows.setdefault((table, columns), []).append(values)

    for r in records:
        add(
            "app.messages",
            "message_id, conversation_id, account_id, tier, role, received_at, body",
            *(r.message, r.conversation, r.account, r.tier.value, "prompt", r.clock, "x"),
        )
        for trigger in r.triggers:
            match trigger:
                case Trigger.HOLD:
                    columns = "scope, target, reason, placed_by, placed_at"
                    add("lifecycle.legal_holds", columns, "message", str(r.message), "r", "p", BEGAN)
                case Trigger.ERASURE:
                    columns = "scope, target, requested_at"
                    add("lifecycle.erasure_requests", columns, "message", str(r.message), BEGAN)
                case Trigger.CASE:
                    add("app.enforcement_cases", "case_id, account_id, opened_at", uuid4(), r.account, BEGAN)
                case Trigger.FLAG:
                    add("app.safety_flags", "message_id, account_id, flagged_at", r.message, r.account, BEGAN)
                case Trigger.CONSENT:
                    columns = "feedback_id, account_id, conversation_id, submitted_at"
                    add("app.feedback", columns, uuid4(), r.account, r.conversation, BEGAN)
                case Trigger.AGREEMENT:
                    columns = "agreement_id, account_id, category, retain, effective_from"
                    add("app.agreements", columns, uuid4(), r.account, "prompts_and_outputs", RETAIN, BEGAN)
    with store.connect() as conn, conn.cursor() as cursor:
        for (table, columns), values in rows.items():
            target = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns.split(", ")))
            )
            with cursor.copy(target) as copy:
                for row in values:
                    copy.write_row(row)


def configuration(order: str, folder: Path) -> Configuration:
    text = shipped(SHIPPED_POLICY).read_text(encoding="utf-8")
    file = folder / f"{order.replace(', ', '-')}.yaml"
    file.write_text(text.replace(f"precedence: [{SHIPPED_ORDER}]", f"precedence: [{order}]"), encoding="utf-8")
    config = load_configuration(file)
    assert ", ".join(config.policy.precedence) == order
    return config


def fates_in_sql(store: Store, config: Configuration) -> dict[UUID, str]:
    found: dict[UUID, str] = {}
    with store.connect() as conn:
        for tier in Tier:
            query = sql.SQL("SELECT m.message_id, {} FROM app.messages m WHERE m.tier = {}").format(
                message_fate(config.policy, config.catalog, tier), sql.Literal(tier.value)
            )
            found.update(conn.execute(query, fate_parameters(config.policy, AS_OF)).fetchall())
    return found


def test_another_order_changes_both_alike(store: Store, tmp_path: Path) -> None:
    """Every combination of exceptions, tier and age, under six orders: no difference, each order its own outcome."""
    records = all_records()
    load(store, records)
    outcomes = {}
    for order in ORDERS:
        config = configuration(order, tmp_path)
        expected = {}
        for record in records:
            decision = record.decision(config)
            expected[record.message] = f"{decision.disposition.value}:{decision.rule}"
        assert fates_in_sql(store, config) == expected
        outcomes[order] = tuple(expected.values())
    assert len(records) == 768
    assert len(set(outcomes.values())) == len(ORDERS)


@pytest.mark.parametrize("order", ORDERS)
def test_the_first_rule_in_the_files_order_wins(order: str, tmp_path: Path) -> None:
    """Of the rules that apply to a record the one whose trigger comes first, whatever the order is."""
    config = configuration(order, tmp_path)
    for record in all_records():
        applying = [item for item in record.decision(config).rules if item.applies]
        ranks = [config.policy.precedence.index(config.policy.rule(item.rule).trigger) for item in applying]
        assert ranks == sorted(ranks)
        assert [item.wins for item in applying] == [True, *[False] * (len(applying) - 1)]


def test_a_run_under_another_order_ends_as_decided_and_the_auditor_agrees(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planning, quarantine, disposal and the auditor's own queries read the order from the file too."""
    records = all_records()
    load(store, records)
    config = configuration(ORDERS[2], tmp_path)
    monkeypatch.setenv("LIFECYCLE_POLICY", str(config.policy_path))
    monkeypatch.setenv("LIFECYCLE_VALIDATION", "sql")
    store.cli("run", "--as-of", AS_OF.isoformat())
    kept = {row[0] for row in store.sql("SELECT message_id FROM app.messages")}
    moved = {row[0] for row in store.sql("SELECT message_id FROM lifecycle.quarantine")}
    for record in records:
        found = "keep" if record.message in kept else "quarantine" if record.message in moved else "delete"
        assert found == record.decision(config).disposition.value.replace("deidentify", "delete")
    store.cli("audit", "--as-of", AS_OF.isoformat())
