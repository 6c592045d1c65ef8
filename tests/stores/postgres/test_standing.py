"""Where a dataset stands, measured from bounds, indexes and exceptions, equals what asking every record gives."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from psycopg import sql

from lifecycle.config import Configuration, load_configuration
from lifecycle.planning.risk import Late, earliest
from lifecycle.policy.counterfactual import KEEPERS, without
from lifecycle.policy.decide import Decision, Fact, decide
from lifecycle.policy.models import Disposition, Kind, Policy, Rule, Tier, Trigger
from lifecycle.stores.postgres import windows
from lifecycle.stores.postgres.candidates import Source, of_messages, of_quarantine, of_records
from lifecycle.stores.postgres.fates import table
from lifecycle.stores.postgres.standing import measure
from support.crowd import LEAD, UNKNOWN, Crowd, Generator, Record, by_table
from support.store import Connection, Store

AS_OF = datetime(2026, 2, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DUE = (Disposition.DELETE, Disposition.DEIDENTIFY)
PROMPTS = "prompts_and_outputs"


def load(conn: Connection, crowd: Crowd) -> None:
    for name, columns, rows in by_table(crowd):
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            table(name), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        with conn.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)


class Asked:
    """One record, asked in plain Python."""

    def __init__(self, crowd: Crowd, record: Record, policy: Policy, last: datetime | None) -> None:
        self.record, self.policy, self.as_of, self.last = record, policy, crowd.as_of, last
        self.facts = crowd.facts_of(record)
        self.decision = self._decide(policy)
        self.unkept = self._decide(without(policy, KEEPERS))
        self.due = self.decision.disposition in DUE
        self.late = self.due and self.decision.deadline is not None and self.decision.deadline < self.as_of

    def _decide(self, policy: Policy) -> Decision:
        record = self.record
        return decide(record.category, record.tier, record.clock, self.facts, policy, self.as_of)

    def _rule(self, trigger: Trigger) -> Rule | None:
        tier = Tier(self.record.tier) if self.record.tier != UNKNOWN else Tier.CONSUMER
        return self.policy.rule_for(trigger, self.record.category, tier)

    @property
    def kept(self) -> bool:
        return self.decision.rule in ("legal_obligation", "usage_policy_enforcement")

    def _ends(self, fact: Fact) -> Iterable[datetime | None]:
        rule = self._rule(fact.trigger)
        if rule is None:
            return ()
        if fact.trigger is Trigger.CONSENT:
            if self.record.category.value != PROMPTS:
                return ()
            return [earliest([fact.ended, rule.end(fact.began)])]
        return [fact.began, fact.ended] if fact.trigger is Trigger.AGREEMENT else [fact.ended]

    def freed(self, triggers: set[Trigger]) -> datetime | None:
        """When the last exception of some kinds ended: after the deadline, and seen by no run yet."""
        if not self.late or self.decision.deadline is None:
            return None
        ends = [end for fact in self.facts if fact.trigger in triggers for end in self._ends(fact) if end is not None]
        since = self.last or datetime.min.replace(tzinfo=UTC)
        return max((e for e in ends if since < e <= self.as_of and e > self.decision.deadline), default=None)

    @property
    def strike(self) -> datetime | None:
        deadline = self.decision.deadline
        if deadline is None:
            return None
        if self.kept:
            assert self.unkept.deadline is not None
            return max(deadline, self.unkept.deadline) + LEAD
        both = {rule.id for rule in self.policy.rules if rule.kind is Kind.BOTH}
        if self.decision.rule in both:
            return deadline + LEAD
        since = self.last or datetime.min.replace(tzinfo=UTC)
        instants = [self.record.clock if self.record.clock >= since else None, self.freed(set(KEEPERS))]
        instants.append(self.freed({Trigger.FLAG, Trigger.CONSENT, Trigger.AGREEMENT}))
        return max([deadline, *(instant + LEAD for instant in instants if instant is not None)])


def expected(asked: list[Asked]) -> tuple[datetime | None, int, Late]:
    as_of = asked[0].as_of
    late = Late()
    for one in asked:
        held, freed = one.freed(set(KEEPERS)), one.freed({Trigger.FLAG, Trigger.CONSENT, Trigger.AGREEMENT})
        if one.kept:
            unkept = one.unkept.deadline
            late += Late(kept=int(unkept is not None and unkept < as_of))
        elif one.late and held is not None:
            late += Late(after_hold=1)
        elif one.late and freed is not None:
            late += Late(after_exception=1)
        elif one.late and one.strike is not None and one.strike < as_of:
            late += Late(overdue=1)
    return earliest(one.strike for one in asked), sum(one.due for one in asked), late


def sources(config: Configuration) -> list[tuple[Source, str, str | None]]:
    """Every source with the table and tier of the records it is about."""
    policy, catalog = config.policy, config.catalog
    found: list[tuple[Source, str, str | None]] = []
    for tier in (*Tier, None):
        found.append((of_messages(policy, catalog, tier), "app.messages", tier.value if tier else UNKNOWN))
        flag = policy.rule_for(Trigger.FLAG, catalog.messages.category, tier) if tier else None
        if tier is not None and flag is not None:
            found.append((of_quarantine(policy, catalog, tier, flag), "lifecycle.quarantine", tier.value))
    scores, feedback = (next(d for d in catalog.records if d.id == name) for name in ("safety_scores", "feedback"))
    for dataset, name in ((scores, "safety_scores"), (feedback, "feedback"), (catalog.accounts, "account_data")):
        found.append((of_records(policy, catalog, dataset, policy.rule(name)), dataset.table, None))
    return found


def due_or_kept(crowd: Crowd, place: str, tier: str | None) -> list[Record]:
    """What is in scope of a run: what arrived before it."""
    return [
        record
        for record in crowd.records
        if record.table == place and (tier is None or record.tier == tier) and record.clock < crowd.as_of
    ]


@pytest.mark.parametrize("last", [None, AS_OF - timedelta(days=1), AS_OF - timedelta(minutes=30)], ids=str)
def test_measured_from_exceptions_equals_asking_every_record(store: Store, last: datetime | None) -> None:
    """At-risk instant, due, simply late, late because of a hold or case, kept: per dataset and tier (cases 1 and 5)."""
    with store.connect() as conn:
        measured_is_asked(conn, last)


def test_a_tier_of_very_many_partitions_is_measured_some_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One statement over 100,000 partitions takes gigabytes; by windows of the clock the answer is the same."""
    monkeypatch.setattr(windows, "TOGETHER", 2)
    with store.connect() as conn:
        for tier in Tier:
            for days in range(-1, 130, 10):
                name = sql.Identifier("app", f"w_{tier.value}_{days + 1}")
                above = sql.Identifier("app", f"messages_{tier.value}")
                bounds = [sql.Literal(AS_OF - (days + past) * DAY) for past in (10, 0)]
                statement = sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})")
                conn.execute(statement.format(name, above, *bounds))
            config = load_configuration()
            divided = windows.in_windows(conn, of_messages(config.policy, config.catalog, tier))
            assert len(divided) == 7, "14 partitions, two in each; the ends of the clock belong to the outer ones"
        measured_is_asked(conn, AS_OF - DAY)


def measured_is_asked(conn: Connection, last: datetime | None) -> None:
    config = load_configuration()
    crowd = Generator(f"standing/{last}", AS_OF).fill(150)
    conn.execute("SET TimeZone = 'America/New_York'")
    load(conn, crowd)
    for source, place, tier in sources(config):
        records = due_or_kept(crowd, place, tier)
        asked = [Asked(crowd, record, config.policy, last) for record in records]
        found = measure(conn, source, place, "scope", AS_OF, last)
        told = (found.at_risk.astimezone(UTC) if found.at_risk else None, found.due, found.late)
        assert told == expected(asked), (place, tier)


YEARS_10 = datetime(2026, 3, 7, 12, tzinfo=UTC)


def at_risk(store: Store, tier: Tier) -> datetime | None:
    config = load_configuration()
    with store.connect() as conn:
        return measure(conn, of_messages(config.policy, config.catalog, tier), "m", "s", AS_OF, AS_OF - DAY).at_risk


def test_exceptions_of_young_records_are_found_by_their_own_tables(store: Store) -> None:
    """A dated release, a dated closing, a consent about to end, longer terms: none is near the default's cut-off."""
    held = store.insert_message(tier="beta", received_at=AS_OF - 10 * DAY)
    assert at_risk(store, Tier.BETA) == AS_OF + 80 * DAY, "its default"
    store.insert("lifecycle.legal_holds", scope="message", target=str(held).upper(), reason="r", placed_by="p",
                 released_at=AS_OF + 100 * DAY)  # fmt: skip
    assert at_risk(store, Tier.BETA) == AS_OF + 103 * DAY, "a lead after it is released"
    store.insert("lifecycle.legal_holds", scope="message", target=str(held), reason="r", placed_by="p")
    assert at_risk(store, Tier.BETA) is None, "an open hold has no end"
    accused = store.insert_account(tier="business")
    store.insert_message(tier="business", received_at=AS_OF - 5 * DAY, account_id=accused)
    store.insert("app.enforcement_cases", case_id=accused, account_id=accused, opened_at=AS_OF,
                 closed_at=AS_OF + 9 * DAY)  # fmt: skip
    assert at_risk(store, Tier.BUSINESS) == AS_OF + 26 * DAY, "its default is later than the closing, and a lead"
    party = store.insert_account(tier="business")
    store.insert_message(tier="business", received_at=AS_OF - 2 * DAY, account_id=party)
    store.insert("app.agreements", agreement_id=party, account_id=party, category=PROMPTS, retain="27 days",
                 effective_from=AS_OF - DAY)  # fmt: skip
    assert at_risk(store, Tier.BUSINESS) == AS_OF + 25 * DAY, "shorter terms"
    rated = store.insert_message(tier="consumer", received_at=AS_OF - DAY)
    store.sql(
        "INSERT INTO app.feedback (feedback_id, account_id, conversation_id, submitted_at) SELECT gen_random_uuid(),"
        " account_id, conversation_id, %s FROM app.messages WHERE message_id = %s",
        YEARS_10.replace(year=2016), rated,
    )  # fmt: skip
    assert at_risk(store, Tier.CONSUMER) == YEARS_10 + LEAD, "the consent ends before any default strikes"


def test_under_a_hold_on_the_whole_dataset_nothing_is_at_risk(store: Store) -> None:
    """And no row is looked at one by one to find that out."""
    store.insert_message(tier="beta", received_at=AS_OF - 200 * DAY)
    store.insert_message(tier="beta", received_at=AS_OF - 10 * DAY)
    store.insert("lifecycle.legal_holds", scope="dataset", target="app.messages", reason="r", placed_by="p")
    assert at_risk(store, Tier.BETA) is None
