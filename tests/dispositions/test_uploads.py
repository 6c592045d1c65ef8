"""Unfinished multipart uploads that no run would meet otherwise are aborted by age (hard case 14)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from lifecycle.config import load_configuration
from lifecycle.dispositions import uploads
from lifecycle.dispositions.context import RunContext
from lifecycle.dispositions.plan_store import freeze, load_unit
from lifecycle.dispositions.survey import survey
from lifecycle.ledger import runs
from lifecycle.orchestration import steps
from lifecycle.planning.units import Unit
from lifecycle.validation.auditor import audit
from support.store import Store

# What is begun by the test is older than the margin by then.
LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
MESSAGES, LOGS = "orphans/uploads/messages", "orphans/uploads/request_logs"


@contextmanager
def later(store: Store, as_of: datetime = LATER) -> Iterator[RunContext]:
    """A run of the scope `records` that sees the store days later."""
    config = load_configuration()
    with store.connect() as conn:
        run = runs.begin(
            conn,
            scope="records",
            as_of=as_of,
            run_key="uploads",
            hashes=(config.policy_hash, config.catalog_hash),
            dry_run=False,
            owner=None,
        )
        yield RunContext(conn, store.s3, config.policy, config.catalog, run)


def begin(store: Store, bucket: str, key: str) -> None:
    """An upload that somebody began and left, with content in it."""
    upload = store.s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    store.s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"what somebody said")


def left(store: Store, *buckets: str) -> list[str]:
    names = buckets or ("product-data", "quarantine", "product-logs")
    return sorted(
        upload["Key"] for name in names for upload in store.s3.list_multipart_uploads(Bucket=name).get("Uploads", [])
    )


def planned(context: RunContext) -> dict[str, Unit]:
    return {unit.unit: unit for unit in survey(context) if unit.unit.startswith("orphans/uploads/")}


def carry_out(context: RunContext) -> dict[str, int]:
    """Plan and act, as the tasks of a run do; per unit how many went."""
    units = planned(context)
    freeze(context.conn, context.run.run_id, units.values())
    return {name: steps.expire(context.run.run_id, name)["delete:upload"] for name in units}


def hold(store: Store, scope: str, target: str) -> None:
    store.insert("lifecycle.legal_holds", scope=scope, target=target, reason="r", placed_by="p")


def found_by_the_auditor(store: Store) -> int:
    with store.connect() as conn:
        result = audit(conn, store.s3, load_configuration(), LATER, scopes=("records",))
    return result.failures.get("unfinished_uploads", 0)


def test_case_14_what_nobody_finished_is_aborted_by_age_wherever_our_data_lies(store: Store) -> None:
    """Case 14: in landing, below a day, in quarantine, among log objects; not beside them."""
    begin(store, "product-data", f"landing/{uuid4()}.json")
    begin(store, "product-data", f"tier=beta/date=2026-01-05/{uuid4()}.json")
    begin(store, "quarantine", f"tier=consumer/date=2026-01-05/{uuid4()}/object")
    begin(store, "product-logs", "requests/date=2026-01-05/part-9.jsonl.gz")
    begin(store, "product-data", "somebody/else.json")
    assert found_by_the_auditor(store) == 4
    with later(store) as context:
        assert carry_out(context) == {MESSAGES: 3, LOGS: 1}
    assert left(store) == ["somebody/else.json"]
    assert found_by_the_auditor(store) == 0
    entries = store.sql("SELECT entry, disposition, counts->>'records' FROM lifecycle.ledger WHERE rule = 'upload'")
    assert sorted(entries) == [(kind, "delete", n) for kind in ("intent", "outcome") for n in ("1", "3")]


def test_a_young_upload_may_still_be_finished(store: Store) -> None:
    begin(store, "product-data", f"landing/{uuid4()}.json")
    with later(store, datetime.now(UTC).replace(microsecond=0)) as context:
        assert planned(context) == {}


@pytest.mark.parametrize("scope", ["message", "dataset"])
def test_an_upload_under_hold_stays(store: Store, scope: str) -> None:
    """Promise 1, for what may still become evidence: also when the hold comes after the plan."""
    record = uuid4()
    begin(store, "product-data", f"landing/{record}.json")
    with later(store) as context:
        freeze(context.conn, context.run.run_id, planned(context).values())
        hold(store, scope, str(record) if scope == "message" else "messages")
        assert uploads.expire_uploads(context, MESSAGES)["delete:upload"]["records"] == 0
        assert planned(context) == {}
    assert left(store) == [f"landing/{record}.json"]
    assert found_by_the_auditor(store) == 0


@pytest.mark.parametrize("target", ["request_logs", "product-logs", " Product-Logs"])
def test_log_uploads_stay_while_their_dataset_is_held(store: Store, target: str) -> None:
    """By its id or its bucket, in whatever case, as the run reads holds on what was finished."""
    begin(store, "product-logs", "requests/date=2026-01-05/part-9.jsonl.gz")
    hold(store, "dataset", target)
    with later(store) as context:
        assert planned(context) == {}
    assert found_by_the_auditor(store) == 0


def test_what_lies_beside_an_object_that_a_row_names_goes_with_the_record(store: Store) -> None:
    message: UUID = store.insert_message(tier="business", received_at=LATER - timedelta(days=4), object_body="x")
    begin(store, "product-data", f"landing/{message}.json")
    with later(store) as context:
        assert planned(context) == {}


def test_promise_4_killed_between_the_requests_and_the_commit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is gone already is counted all the same when the unit is carried out again."""
    for _ in range(3):
        begin(store, "product-data", f"landing/{uuid4()}.json")
    abort = uploads.abort

    def dying(*args: object) -> int:
        abort(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with later(store) as context:
        freeze(context.conn, context.run.run_id, planned(context).values())
        monkeypatch.setattr(uploads, "abort", dying)
        with pytest.raises(KeyboardInterrupt):
            uploads.expire_uploads(context, MESSAGES)
        assert left(store) == []
        monkeypatch.setattr(uploads, "abort", abort)
        assert uploads.expire_uploads(context, MESSAGES)["delete:upload"]["records"] == 3
        assert load_unit(context.conn, context.run.run_id, MESSAGES).status == "done"
