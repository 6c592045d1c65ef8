"""Each check finds the promise it watches broken, and nothing else; in a healthy world all pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pytest

from lifecycle.config import Configuration
from lifecycle.validation.auditor import audit
from lifecycle.validation.models import AuditResult
from lifecycle.validation.scene import Stage
from lifecycle.validation.staging import load_objects
from support.store import Connection, Store
from validation.healthy import (
    AS_OF,
    DAY,
    Healthy,
    ago,
    agreement,
    erasure,
    feedback,
    flag,
    hold,
    log_line,
    partitioned_key,
    put_log,
    put_message,
    quarantined,
    register_run,
    with_object,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def run_audit(store: Store, configuration: Configuration, *scopes: str) -> AuditResult:
    with store.connect() as conn:
        return audit(conn, store.s3, configuration, AS_OF, scopes=scopes or None)


def warned(result: AuditResult) -> dict[str, int]:
    return {check.name: check.violations for check in result.checks if check.violations and check.severity == "warning"}


class Plant(NamedTuple):
    """A broken promise: in which scope, which check must find it how often, and how it is planted."""

    scope: str
    broken: dict[str, int]
    plant: Callable[[Healthy], None]


def past_default(world: Healthy) -> None:
    put_message(world.store, tier="consumer", received_at=ago(days=90, microseconds=1), body="late")
    put_message(world.store, tier="consumer", received_at=ago(days=90) + timedelta(microseconds=1), body="in time")
    put_message(world.store, tier="consumer", received_at=ago(days=90), body="just now")


def past_business_default(world: Healthy) -> None:
    put_message(world.store, tier="business", received_at=ago(days=28, seconds=1), body="late")
    put_message(world.store, tier="business", received_at=ago(days=27, hours=23), body="in time")


def past_short_terms(world: Healthy) -> None:
    account = uuid4()
    agreement(world.store, account, "7 days")
    put_message(world.store, tier="business", received_at=ago(days=8), account_id=account, body="late")
    put_message(world.store, tier="business", received_at=ago(days=6), account_id=account, body="in time")


def past_no_days_at_all(world: Healthy) -> None:
    account = uuid4()
    agreement(world.store, account, "0 days")
    put_message(world.store, tier="business", received_at=ago(minutes=1), account_id=account, body="late")


def past_ended_terms(world: Healthy) -> None:
    """The later agreement has replaced the longer one; the shorter of two equally late ones counts."""
    replaced, equal = uuid4(), uuid4()
    agreement(world.store, replaced, "365 days")
    agreement(world.store, replaced, "30 days", effective_from=ago(days=20))
    for retain in ("10 days", "60 days"):
        agreement(world.store, equal, retain, effective_from=ago(days=20))
    put_message(world.store, tier="business", received_at=ago(days=31), account_id=replaced, body="late")
    put_message(world.store, tier="business", received_at=ago(days=11), account_id=equal, body="late")


def after_released_hold(world: Healthy) -> None:
    message = put_message(world.store, tier="beta", received_at=ago(days=100), body="late")
    hold(world.store, "message", message, released_at=ago(days=2))


def after_withdrawn_consent(world: Healthy) -> None:
    conversation, account = uuid4(), uuid4()
    put_message(world.store, tier="beta", received_at=ago(days=100), conversation_id=conversation, body="late")
    feedback(world.store, conversation, account, withdrawn_at=ago(days=2))


def after_closed_case(world: Healthy) -> None:
    account = uuid4()
    put_message(world.store, tier="business", received_at=ago(days=60), account_id=account, body="late")
    world.store.insert(
        "app.enforcement_cases", case_id=uuid4(), account_id=account, opened_at=ago(days=50), closed_at=ago(days=2)
    )


def case_of_a_consumer(world: Healthy) -> None:
    """A case keeps business messages only."""
    account = uuid4()
    put_message(world.store, tier="consumer", received_at=ago(days=91), account_id=account, body="late")
    world.store.insert(
        "app.enforcement_cases", case_id=uuid4(), account_id=account, opened_at=ago(days=50), closed_at=None
    )


def flagged_in_store(world: Healthy) -> None:
    message = put_message(world.store, tier="evaluation", received_at=ago(days=3), body="flagged")
    flag(world.store, message, uuid4())
    held = put_message(world.store, tier="evaluation", received_at=ago(days=3), body="flagged, held")
    flag(world.store, held, uuid4())
    hold(world.store, "message", held)


def erased_remains(world: Healthy) -> None:
    message = put_message(world.store, tier="consumer", received_at=ago(days=20), body="erased")
    erasure(world.store, "message", message, completed_at=ago(days=1))
    conversation, account = uuid4(), uuid4()
    put_message(world.store, tier="consumer", received_at=ago(days=20), conversation_id=conversation, body="erased")
    erasure(world.store, "conversation", conversation, completed_at=ago(days=1))
    put_message(world.store, tier="consumer", received_at=ago(days=20), account_id=account, body="erased, consented")
    erasure(world.store, "account", account, completed_at=ago(days=1))
    put_message(world.store, tier="consumer", received_at=ago(hours=1), account_id=account, body="after completion")


def unclassified_late(world: Healthy) -> None:
    put_message(world.store, tier="alpha", received_at=ago(days=29), body="late")
    put_message(world.store, tier="alpha", received_at=ago(days=3), body="only shown")


def old_scores(world: Healthy) -> None:
    for age in (7 * 365 + 3, 7 * 365 - 3):
        world.store.insert(
            "app.safety_scores",
            score_id=uuid4(),
            message_id=uuid4(),
            account_id=uuid4(),
            tier="business",
            scored_at=ago(days=age),
        )


def old_feedback(world: Healthy) -> None:
    feedback(world.store, uuid4(), uuid4(), submitted_at=ago(days=10 * 365 + 4), withdrawn_at=ago(days=3000))


def erased_feedback(world: Healthy) -> None:
    account = world.account["beta"]
    feedback(world.store, uuid4(), account)
    erasure(world.store, "account", account, completed_at=ago(hours=30))


def inactive_account(world: Healthy) -> None:
    account = world.store.insert_account(last_interaction_at=ago(days=3 * 365 + 2))
    put_message(world.store, received_at=ago(days=1), account_id=account, body="refers to it")
    world.store.sql("UPDATE app.accounts SET display_name = NULL WHERE account_id = %s", account)


def training_without_basis(world: Healthy) -> None:
    for basis, cleared in (("safety_review", ago(days=2)), ("curiosity", None)):
        message = put_message(world.store, received_at=ago(days=4), body="example")
        world.store.insert(
            "app.training_examples",
            example_id=uuid4(),
            message_id=message,
            account_id=uuid4(),
            basis=basis,
            added_at=ago(days=3),
        )
        flag(world.store, message, uuid4(), cleared_at=cleared or ago(days=2))


def training_without_message(world: Healthy) -> None:
    world.store.insert(
        "app.training_examples",
        example_id=uuid4(),
        message_id=uuid4(),
        account_id=uuid4(),
        basis="permission",
        added_at=ago(days=3),
    )


def orphaned_tools(world: Healthy) -> None:
    world.store.insert("app.message_tools", message_id=uuid4(), tool_name="search")


def quarantine_too_long(world: Healthy) -> None:
    quarantined(world.store, "consumer", ago(days=2 * 366 + 1))


def quarantine_cleared(world: Healthy) -> None:
    world.store.sql("UPDATE app.safety_flags SET cleared_at = %s WHERE message_id = %s", ago(days=2), world.quarantined)


def quarantine_changed(world: Healthy) -> None:
    world.store.sql(
        "UPDATE lifecycle.quarantine SET object_sha256 = repeat('0', 64) WHERE message_id = %s", world.quarantined
    )


def quarantine_lost(world: Healthy) -> None:
    world.store.s3.delete_object(Bucket="quarantine", Key=f"{world.quarantine_prefix}object")


def quarantine_unknown(world: Healthy) -> None:
    world.store.put_object("quarantine", f"tier=consumer/date=2026-01-01/{uuid4()}/record.json", b"{}")


def quarantine_misplaced(world: Healthy) -> None:
    world.store.sql(
        "UPDATE lifecycle.quarantine SET received_at = received_at - interval '1 day' WHERE tier = 'consumer'"
    )


def quarantine_twice(world: Healthy) -> None:
    put_message(world.store, message_id=world.quarantined, received_at=ago(days=600), body="also here")


def quarantine_unlocked(world: Healthy) -> None:
    hold(world.store, "message", world.quarantined)
    world.store.sql("UPDATE lifecycle.quarantine SET legal_hold = true WHERE message_id = %s", world.quarantined)
    world.store.s3.put_object_legal_hold(
        Bucket="quarantine", Key=f"{world.quarantine_prefix}record.json", LegalHold={"Status": "ON"}
    )


def quarantine_lock_hidden(world: Healthy) -> None:
    key = f"{world.quarantine_prefix}record.json"
    world.store.s3.put_object_legal_hold(Bucket="quarantine", Key=key, LegalHold={"Status": "ON"})
    world.store.s3.delete_object(Bucket="quarantine", Key=key)


def row_without_object(world: Healthy) -> None:
    _, key = with_object(world.store, "business", ago(days=4))
    world.store.s3.delete_object(Bucket="product-data", Key=key)


def object_without_row(world: Healthy) -> None:
    key = partitioned_key("business", ago(days=4), uuid4())
    world.store.put_object("product-data", key, b"words")


def hidden_version(world: Healthy) -> None:
    key = partitioned_key("consumer", ago(days=4), uuid4())
    world.store.put_object("product-data", key, b"words")
    world.store.s3.delete_object(Bucket="product-data", Key=key)


def object_past_deadline(world: Healthy) -> None:
    key = partitioned_key("consumer", ago(days=92), uuid4())
    world.store.put_object("product-data", key, b"words")


def object_misplaced(world: Healthy) -> None:
    key = partitioned_key("beta", ago(days=6), uuid4())
    put_message(world.store, tier="beta", received_at=ago(days=5), object_body="words", object_key=key)


def landing_orphan(world: Healthy) -> None:
    world.store.put_object("product-data", f"landing/{uuid4()}.json", b"words")


def left_behind(world: Healthy) -> None:
    world.store.put_object("product-data", f"tier=consumer/date=2026-11-01/{world.quarantined}.json", b"words")


def research_identifier(world: Healthy) -> None:
    world.store.sql("ALTER TABLE research.messages ADD COLUMN account_id uuid")


def publish(world: Healthy, tier: str, month: str) -> None:
    world.store.sql(
        "INSERT INTO research.messages SELECT %s, 'm-1', 'prompt', %s::date, 3 FROM generate_series(1, 5)", tier, month
    )


def research_other_tier(world: Healthy) -> None:
    publish(world, "consumer", "2026-01-01")


def research_exact_day(world: Healthy) -> None:
    publish(world, "evaluation", "2026-01-07")


def late_log_lines(world: Healthy) -> None:
    consumer = [log_line("consumer", ago(days=age)) for age in (91, 89)]
    business = [log_line("business", ago(days=age)) for age in (29, 27)]
    put_log(world.store, ago(days=91), consumer[:1])
    put_log(world.store, ago(days=30), [business[0], log_line("nobody", ago(days=29)), log_line("beta", "at noon")])
    put_log(world.store, ago(days=89), consumer[1:])
    put_log(world.store, ago(days=27), business[1:])


def late_log_lines_of_terms(world: Healthy) -> None:
    account = uuid4()
    agreement(world.store, account, "1 day")
    put_log(world.store, ago(days=3), [log_line("business", ago(days=3), account), log_line("business", ago(days=3))])


def erased_log_line(world: Healthy) -> None:
    account = uuid4()
    erasure(world.store, "account", account, completed_at=ago(days=1))
    put_log(world.store, ago(days=9), [log_line("consumer", ago(days=9), account)])


def unreadable_log(world: Healthy) -> None:
    world.store.put_object("product-logs", f"requests/date={ago(days=40).date()}/part-1.parquet", b"PAR1 no")


def open_request(world: Healthy) -> None:
    erasure(world.store, "account", uuid4(), requested_at=ago(days=7, seconds=1))
    erasure(world.store, "account", uuid4(), requested_at=ago(days=6))


PLANTS = [
    Plant("consumer", {"messages_past_deadline.consumer": 1}, past_default),
    Plant("business", {"messages_past_deadline.business": 1}, past_business_default),
    Plant("business", {"messages_past_agreement.business": 1}, past_short_terms),
    Plant("business", {"messages_past_agreement.business": 1}, past_no_days_at_all),
    Plant("business", {"messages_past_agreement.business": 2}, past_ended_terms),
    Plant("beta", {"messages_past_deadline.beta": 1}, after_released_hold),
    Plant("beta", {"messages_past_deadline.beta": 1}, after_withdrawn_consent),
    Plant("business", {"messages_past_deadline.business": 1}, after_closed_case),
    Plant("consumer", {"messages_past_deadline.consumer": 1}, case_of_a_consumer),
    Plant("evaluation", {"flagged_not_quarantined.evaluation": 1}, flagged_in_store),
    Plant("consumer", {"erased_messages_remain.consumer": 3}, erased_remains),
    Plant("records", {"messages_past_deadline.unclassified": 1}, unclassified_late),
    Plant("records", {"safety_scores_past_deadline": 1}, old_scores),
    Plant("records", {"feedback_past_deadline": 1}, old_feedback),
    Plant("records", {"erased_feedback_remain": 1, "erased_accounts_remain": 1}, erased_feedback),
    Plant("records", {"accounts_past_inactivity": 1}, inactive_account),
    Plant("records", {"training_without_basis": 2}, training_without_basis),
    Plant("records", {"training_without_message": 1}, training_without_message),
    Plant("records", {"children_without_message.message_tools": 1}, orphaned_tools),
    Plant("consumer", {"quarantine_past_deadline.consumer": 1}, quarantine_too_long),
    Plant("consumer", {"quarantine_without_flag.consumer": 1}, quarantine_cleared),
    Plant("consumer", {"quarantine_checksums.consumer": 1}, quarantine_changed),
    Plant("consumer", {"quarantine_index_without_object.consumer": 1}, quarantine_lost),
    Plant("consumer", {"quarantine_object_without_index.consumer": 1}, quarantine_unknown),
    Plant("consumer", {"quarantine_wrong_place.consumer": 1}, quarantine_misplaced),
    Plant(
        "consumer",
        {
            "quarantine_also_in_store.consumer": 1,
            "flagged_not_quarantined.consumer": 1,
        },
        quarantine_twice,
    ),
    Plant("consumer", {"quarantine_hold_not_locked.consumer": 1}, quarantine_unlocked),
    Plant(
        "consumer",
        {"quarantine_lock_hidden.consumer": 1, "quarantine_index_without_object.consumer": 1},
        quarantine_lock_hidden,
    ),
    Plant("business", {"rows_without_object.business": 1}, row_without_object),
    Plant("business", {"objects_without_row.business": 1}, object_without_row),
    Plant("consumer", {"versions_without_row.consumer": 1}, hidden_version),
    Plant("consumer", {"objects_past_deadline.consumer": 1, "objects_without_row.consumer": 1}, object_past_deadline),
    Plant("beta", {"objects_in_wrong_place.beta": 1}, object_misplaced),
    Plant("records", {"objects_without_row.elsewhere": 1}, landing_orphan),
    Plant("consumer", {"quarantined_left_behind.consumer": 1, "objects_without_row.consumer": 1}, left_behind),
    Plant("evaluation", {"research_columns": 1}, research_identifier),
    Plant("evaluation", {"research_tiers": 5}, research_other_tier),
    Plant("evaluation", {"research_months": 5}, research_exact_day),
    Plant(
        "records",
        {
            "request_logs_past_deadline.consumer": 1,
            "request_logs_past_deadline.business": 1,
            "request_logs_past_deadline.unclassified": 2,
        },
        late_log_lines,
    ),
    Plant("records", {"request_logs_past_deadline.business": 1}, late_log_lines_of_terms),
    Plant("records", {"erased_request_logs_remain.consumer": 1}, erased_log_line),
    Plant("records", {"request_logs_unreadable": 1}, unreadable_log),
    Plant("erasure", {"erasure_requests_open": 1}, open_request),
]


def test_a_healthy_world_passes(healthy: Healthy, configuration: Configuration) -> None:
    result = run_audit(healthy.store, configuration)
    assert result.failures == {}
    assert result.passed
    assert warned(result) == {}
    assert len(result.checks) > 100
    assert len({check.name for check in result.checks}) == len(result.checks)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.plant.__name__)
def test_a_broken_promise_is_found(plant: Plant, healthy: Healthy, configuration: Configuration) -> None:
    """Case 7: the auditor fails if anything is past its deadline, whatever the runs say."""
    plant.plant(healthy)
    result = run_audit(healthy.store, configuration, plant.scope)
    assert result.failures == plant.broken
    assert not result.passed


@pytest.mark.parametrize("target", ["request_logs", " Request_Logs", "product-logs"])
def test_log_lines_under_a_hold_on_all_of_them_are_not_late(
    healthy: Healthy, configuration: Configuration, target: str
) -> None:
    """Promise 1: what the run keeps under a hold on the dataset or its bucket, the auditor does not miss."""
    late_log_lines(healthy)
    hold(healthy.store, "dataset", target)
    assert run_audit(healthy.store, configuration, "records").failures == {}


def test_every_scope_needs_a_recent_run(store: Store, configuration: Configuration) -> None:
    """Case 7: it alarms too when a dataset has had no successful run."""
    register_run(store, "consumer", AS_OF - 2 * DAY)
    register_run(store, "beta", AS_OF - DAY)
    register_run(store, "business", AS_OF, status="failed")
    result = run_audit(store, configuration)
    missing = {name.removeprefix("run_missing.") for name in result.failures}
    assert missing == {"consumer", "evaluation", "business", "records", "erasure"}


@pytest.mark.parametrize("released, broken", [(timedelta(hours=2), 0), (timedelta(hours=30), 1)])
def test_what_a_hold_made_late_is_explained_until_a_run_had_to_act(
    store: Store, configuration: Configuration, released: timedelta, broken: int
) -> None:
    """Case 5: released since the last run, the message is late but explained; released before it, it is late."""
    register_run(store, "consumer", AS_OF - timedelta(hours=20))
    message = put_message(store, received_at=ago(days=200), body="held once")
    hold(store, "message", message, released_at=AS_OF - released)
    result = run_audit(store, configuration, "consumer")
    found = {check.name: check for check in result.checks}
    assert found["messages_past_deadline.consumer"].violations == broken
    explained = found["messages_late_but_explained.consumer"]
    assert (explained.violations, explained.success) == (1 - broken, True)


def test_a_run_must_have_acted_on_what_ended_before_it(store: Store, configuration: Configuration) -> None:
    register_run(store, "consumer", AS_OF - timedelta(hours=1))
    message = put_message(store, received_at=ago(days=200), body="held once")
    hold(store, "message", message, released_at=AS_OF - timedelta(hours=2))
    assert run_audit(store, configuration, "consumer").failures == {"messages_past_deadline.consumer": 1}


def test_zero_days_are_late_only_after_the_next_run(store: Store, configuration: Configuration) -> None:
    register_run(store, "business", AS_OF - timedelta(hours=6))
    account = uuid4()
    agreement(store, account, "0 days")
    put_message(store, tier="business", received_at=ago(hours=3), account_id=account, body="since the run")
    assert run_audit(store, configuration, "business").failures == {}
    put_message(store, tier="business", received_at=ago(hours=7), account_id=account, body="before the run")
    assert run_audit(store, configuration, "business").failures == {"messages_past_agreement.business": 1}


def test_a_young_difference_is_not_yet_an_orphan(store: Store, configuration: Configuration) -> None:
    """Case 13: an object without a row, and a row without an object, count from the margin on, by their own clocks."""
    register_run(store, "beta")
    with store.connect() as conn:
        store.put_object("product-data", partitioned_key("beta", AS_OF, uuid4()), b"words")
        _, key = with_object(store, "beta", ago(days=1))
        store.s3.delete_object(Bucket="product-data", Key=key)
        early = audit(conn, store.s3, configuration, AS_OF - 2 * DAY, scopes=("beta",))
    assert "objects_without_row.beta" not in early.failures
    late = run_audit(store, configuration, "beta")
    assert late.failures == {"objects_without_row.beta": 1}
    assert warned(late) == {"young_rows_without_object.beta": 1}


def test_warnings_do_not_fail_an_audit(healthy: Healthy, configuration: Configuration) -> None:
    store = healthy.store
    store.sql("INSERT INTO research.messages VALUES ('evaluation', 'm-1', 'prompt', date '2026-01-01', 3)")
    store.insert("app.safety_flags", message_id=uuid4(), account_id=uuid4(), flagged_at=ago(days=1))
    put_message(store, tier="alpha", received_at=ago(days=2), body="unknown tier")
    store.insert_message(tier="beta", received_at=ago(days=3), body="not drained")
    hold(store, "account", uuid4())
    put_log(store, ago(days=1), [log_line("alpha", ago(days=1)), log_line("beta", "yesterday")], name="part-1.jsonl.gz")
    result = run_audit(store, configuration)
    assert result.passed
    assert warned(result) == {
        "research_small_groups": 1,
        "research_rows_unaccounted": 1,
        "children_without_message.safety_flags": 1,
        "messages_unclassified": 1,
        "strays_in_default_partition.beta": 1,
        "holds_without_records": 1,
        "request_logs_unclassified": 2,
    }


def test_what_nobody_configured_fails_an_audit_and_no_run(healthy: Healthy, configuration: Configuration) -> None:
    """Case 24: counted in the audit of everything, by one check; `lifecycle coverage` names it."""
    store = healthy.store
    store.sql("CREATE TABLE app.shadow_copies (message_id uuid)")
    store.s3.create_bucket(Bucket="shadow")
    result = run_audit(store, configuration)
    assert result.failures == {"coverage": 2}
    assert {check.promise for check in result.checks if check.name == "coverage"} == {"coverage"}
    assert run_audit(store, configuration, "records").failures == {}


def test_what_is_left_of_a_hold_is_counted_against_the_plan(store: Store, configuration: Configuration) -> None:
    """Promise 1: the plan of the last run found two held messages of that day; one of them is gone."""
    received = ago(days=100)
    run_id = register_run(store, "beta")
    held = put_message(store, tier="beta", received_at=received, body="held")
    hold(store, "message", held)
    store.sql(
        "INSERT INTO lifecycle.plan_units (run_id, unit, dataset, tier, day, method, planned, status)"
        " VALUES (%s, %s, 'messages', 'beta', %s, 'rows', %s::jsonb, 'done')",
        run_id,
        f"messages/beta/{received:%Y-%m-%d}",
        received.date(),
        '{"keep:legal_obligation": {"records": 2}}',
    )
    assert run_audit(store, configuration, "beta").failures == {"held_messages_lost.beta": 1}


def test_the_listing_is_checked_again_where_it_differs(
    store: Store, configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the application moved between the listing and the queries is neither lost nor an orphan."""
    register_run(store, "beta")
    message, key = with_object(store, "beta", ago(days=4))

    def load_then_move(conn: Connection, s3: S3Client, stage: Stage, places: Iterable[tuple[str, str]]) -> int:
        found = load_objects(conn, s3, stage, places)
        store.s3.delete_object(Bucket="product-data", Key=key)
        for version in store.versions("product-data", key):
            store.s3.delete_object(Bucket="product-data", Key=key, VersionId=version.version_id)
        store.put_object("product-data", f"landing/{message}.json", b"words")
        store.sql("UPDATE app.messages SET object_key = %s WHERE message_id = %s", f"landing/{message}.json", message)
        return found

    monkeypatch.setattr("lifecycle.validation.prepare.load_objects", load_then_move)
    assert run_audit(store, configuration, "beta").failures == {}


def test_nothing_is_left_in_the_database(healthy: Healthy, configuration: Configuration) -> None:
    tables = "SELECT count(*) FROM pg_class WHERE relname LIKE 'audit!_%%' ESCAPE '!'"
    run_audit(healthy.store, configuration)
    assert healthy.store.value(tables.replace("%%", "%")) == 0
