"""What can still hold deleted rows: an estimate, or unknown with why; never "gone" of what is not seen (case 18)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.planning.physical import Deletion, Facts, Holder, Slot, outlook
from lifecycle.policy.models import Lead
from lifecycle.policy.periods import Period

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
NONE = Period()
DELETED = Deletion(NOW - HOUR, lsn=1_000)
# The log has moved on, nothing older than the deletion is left on disk, nobody else holds anything.
CLEAN = Facts(now=NOW, position=9_000, oldest_on_disk=2_000, redo=8_000, bytes_per_second=100.0)
LEAD = Lead(
    schedule_interval=Period(days=1),
    longest_run=Period(seconds=3600),
    failed_runs=Period(days=1),
    store_lag=Period(seconds=12 * 3600),
    backup_retention=NONE,
)


def kinds(facts: Facts, deletion: Deletion = DELETED, backups: Period = NONE) -> dict[str, Holder]:
    return {holder.kind: holder for holder in outlook(facts, deletion, backups).holders}


def test_erased_when_nothing_holds_it_any_more() -> None:
    found = outlook(CLEAN, DELETED, NONE)
    assert (found.erased, found.until, found.longer_than(LEAD)) == (True, None, [])


def test_log_on_disk_goes_with_the_checkpoints_to_come() -> None:
    found = kinds(replace(CLEAN, oldest_on_disk=900))
    assert found["write-ahead log"].until == NOW + 2 * CLEAN.checkpoint_timeout


@pytest.mark.parametrize(("oldest", "holds"), [(999, True), (1_000, False), (1_001, False)])
def test_a_segment_that_begins_at_the_deletion_holds_nothing_of_it(oldest: int, holds: bool) -> None:
    assert bool(kinds(replace(CLEAN, oldest_on_disk=oldest))) is holds


def test_wal_keep_size_is_counted_at_the_rate_of_the_server() -> None:
    found = kinds(replace(CLEAN, oldest_on_disk=0, keep=8_000 + 360_000))
    assert found["write-ahead log"].until == NOW + HOUR
    idle = kinds(replace(CLEAN, oldest_on_disk=0, keep=8_000 + 360_000, bytes_per_second=None))
    assert idle["write-ahead log"].until is None
    assert "360,000 more bytes" in idle["write-ahead log"].why


def test_where_files_may_not_be_listed_the_last_checkpoint_tells() -> None:
    """Of a managed service: not to be seen is said, and is not called gone."""
    released = kinds(replace(CLEAN, oldest_on_disk=None))
    assert released["write-ahead log"].until == NOW
    kept = kinds(replace(CLEAN, oldest_on_disk=None, redo=999))
    assert kept["write-ahead log"].until == NOW + 2 * CLEAN.checkpoint_timeout
    assert kinds(replace(CLEAN, position=None))["write-ahead log"].until is None


def test_log_that_was_not_archived_outlasts_every_checkpoint() -> None:
    """Seen on a server whose archive_command fails."""
    waiting = replace(CLEAN, oldest_on_disk=900, archiving=True)
    for archived in (None, 999):
        found = kinds(replace(waiting, archived=archived))["write-ahead log"]
        assert found.until is None and "archive_command" in found.why
    assert kinds(replace(waiting, archived=1_000))["write-ahead log"].until == NOW + 2 * CLEAN.checkpoint_timeout
    assert "write-ahead log" not in kinds(replace(waiting, oldest_on_disk=1_000))


def test_a_replica_that_feeds_back_holds_rows_without_a_slot() -> None:
    found = kinds(replace(CLEAN, feedback=1), replace(DELETED, tables_pending=1))
    assert "hot_standby_feedback" in found["replica feedback"].why
    assert kinds(replace(CLEAN, feedback=1)) == {}


def test_statistics_and_free_space_are_told_apart_from_each_other() -> None:
    """Statistics can be read; of free space only the file can."""
    assert kinds(CLEAN, replace(DELETED, sampled=2))["column statistics"].until is None
    freed = outlook(CLEAN, replace(DELETED, free_space=1), NONE)
    assert (freed.unreachable, freed.erased, freed.longer_than(LEAD)) == (True, False, [])


SLOT = Slot("copy", active=True, restart=999, holds_rows=False)


def test_a_slot_holds_the_log_it_has_not_passed() -> None:
    assert not kinds(replace(CLEAN, slots=(replace(SLOT, restart=1_000), replace(SLOT, restart=None))))
    endless = kinds(replace(CLEAN, slots=(replace(SLOT, active=False),)))["replication slot"]
    assert endless.until is None and "read by nobody" in endless.why and "copy" in endless.why
    bounded = kinds(replace(CLEAN, slots=(SLOT,), slot_keep=9_000 - 999 + 360_000))["replication slot"]
    assert bounded.until == NOW + HOUR
    assert kinds(replace(CLEAN, slots=None))["replication slots"].until is None


def test_a_slot_that_nobody_reads_is_given_up_where_the_server_says_when() -> None:
    idle = replace(SLOT, active=False, ends=NOW + HOUR)
    checkpoint = CLEAN.checkpoint_timeout
    assert kinds(replace(CLEAN, slots=(idle,)))["replication slot"].until == NOW + HOUR + checkpoint
    sooner = replace(CLEAN, slots=(idle,), slot_keep=9_000 - 999 + 100)
    assert kinds(sooner)["replication slot"].until == NOW + timedelta(seconds=1)
    late = kinds(replace(CLEAN, slots=(replace(idle, ends=NOW - HOUR),)))["replication slot"]
    assert late.until == NOW + checkpoint and "idle_replication_slot_timeout" in late.why


def test_subscribers_keep_what_nobody_declared() -> None:
    found = kinds(replace(CLEAN, undeclared=("outward",)))["subscribers"]
    assert found.until is None and "outward" in found.why


PENDING = replace(DELETED, tables_pending=2)


def test_what_keeps_a_vacuum_from_finishing_is_named_and_only_then() -> None:
    holding = replace(
        CLEAN,
        prepared=(1, NOW - HOUR),
        oldest_snapshot=NOW - HOUR,
        hidden_sessions=3,
        slots=(Slot("feedback", True, 9_000, holds_rows=True),),
    )
    assert kinds(holding, PENDING).keys() == {
        *("tables", "prepared transactions", "snapshots", "sessions", "replication slot"),
    }
    assert outlook(holding, PENDING, NONE).until is None
    assert kinds(holding) == {}


def test_backups_are_what_the_policy_declares() -> None:
    found = kinds(CLEAN, backups=Period(days=14))
    assert found["base backups"].until == DELETED.at + timedelta(days=14)
    assert kinds(replace(CLEAN, archiving=True), backups=NONE)["archived log"].until is None
    assert kinds(replace(CLEAN, archiving=True, now=NOW + timedelta(days=15)), backups=Period(days=14)) == {}


def test_replicas() -> None:
    assert kinds(replace(CLEAN, replicas=2, replica_lag=HOUR))["replicas"].until == NOW + HOUR
    assert kinds(replace(CLEAN, replicas=2))["replicas"].until is None
    assert kinds(replace(CLEAN, replicas=None))["replicas"].until is None


def test_what_holds_longer_than_the_lead_allows_is_named() -> None:
    """The terms store_lag and backup_retention are what a promise counts on."""
    declared = LEAD.model_copy(update={"backup_retention": Period(days=14)})
    in_time = outlook(replace(CLEAN, oldest_on_disk=0), DELETED, Period(days=14))
    assert in_time.longer_than(declared) == []
    assert [holder.kind for holder in in_time.longer_than(LEAD)] == ["base backups"]
    unknown = outlook(replace(CLEAN, slots=(SLOT,)), DELETED, NONE)
    assert [holder.kind for holder in unknown.longer_than(LEAD)] == ["replication slot"]


@given(
    position=st.integers(0, 10**6),
    oldest=st.none() | st.integers(0, 10**6),
    redo=st.none() | st.integers(0, 10**6),
    restart=st.none() | st.integers(0, 10**6),
    lsn=st.none() | st.integers(0, 10**6),
    pending=st.integers(0, 2),
)
def test_never_called_erased_while_anything_is_pending_or_unseen(
    position: int, oldest: int | None, redo: int | None, restart: int | None, lsn: int | None, pending: int
) -> None:
    facts = replace(
        CLEAN, position=position, oldest_on_disk=oldest, redo=redo, slots=(Slot("s", True, restart, False),)
    )
    found = outlook(facts, Deletion(NOW, lsn, pending), NONE)
    seen_gone = lsn is not None and oldest is not None and oldest >= lsn and (restart is None or restart >= lsn)
    assert found.erased == (seen_gone and not pending)
