"""Case 3: an Object Lock legal hold is read per version and respected; no marker hides it, no row goes before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from oracle.facts import Message, World
from oracle.named import AS_OF, DAY, flag, in_partition, message
from oracle.observe import Observed
from oracle.stores import Ran, Servers, full_run, look, run
from support.store import Store

if TYPE_CHECKING:
    from mypy_boto3_s3.literals import ObjectLockLegalHoldStatusType

pytestmark = pytest.mark.timeout(300)


def set_lock(store: Store, bucket: str, key: str, status: ObjectLockLegalHoldStatusType) -> None:
    store.s3.put_object_legal_hold(Bucket=bucket, Key=key, LegalHold={"Status": status})


def kept(done: Ran) -> dict[str, int]:
    """Records that were kept, per rule, over all scopes."""
    total: dict[str, int] = {}
    for scope in done.json["scopes"].values():
        for rule, count in scope["kept"].items():
            total[rule] = total.get(rule, 0) + count
    return total


@dataclass(frozen=True)
class Locked:
    """A record of which one key is locked: before, during and after the lock."""

    m: Message
    before: Observed
    during: Observed
    done: Ran
    after: Observed
    final: Ran


@pytest.fixture(scope="module", params=["object", "record.json"])
def in_quarantine(servers: Servers, request: pytest.FixtureRequest) -> Locked:
    """Two years are over, and one of the two copies in quarantine is locked; later it is not."""
    m = in_partition(message("locked", age=DAY))
    key = m.quarantine_prefix + request.param
    with servers.store(World(messages=(m,), flags=(flag(m),))) as store:
        assert run(store, AS_OF).code == 0
        before = look(store)
        set_lock(store, "quarantine", key, "ON")
        done = full_run(store, AS_OF + DAY * 800)
        during = look(store)
        set_lock(store, "quarantine", key, "OFF")
        final = full_run(store, AS_OF + DAY * 801)
        return Locked(m, before, during, done, look(store), final)


def test_a_locked_copy_keeps_the_whole_record_in_quarantine(in_quarantine: Locked) -> None:
    """The record is one: neither its row nor its object goes while the other must stay."""
    assert dict(in_quarantine.during.quarantine) == dict(in_quarantine.before.quarantine)
    assert in_quarantine.during.index.keys() == {in_quarantine.m.message_id}
    assert in_quarantine.during.flags == {in_quarantine.m.message_id}
    assert "delete" not in in_quarantine.done.disposed()


def test_a_locked_copy_is_reported_as_held_and_the_validation_objects(in_quarantine: Locked) -> None:
    assert kept(in_quarantine.done).get("object_lock") == 1
    assert in_quarantine.done.code == 1
    assert list(in_quarantine.done.failures()), "a lock that no hold explains is past its deadline, and said to be"


def test_a_copy_that_was_locked_goes_once_it_is_not(in_quarantine: Locked) -> None:
    left = in_quarantine.after
    assert (dict(left.quarantine), dict(left.index), left.flags) == ({}, {}, frozenset())
    assert in_quarantine.final.code == 0, in_quarantine.final.failures()


def test_a_locked_copy_is_not_restored_when_its_flag_is_cleared(servers: Servers) -> None:
    """What is under hold is not moved, out of quarantine neither."""
    m = in_partition(message("locked", age=DAY))
    with servers.store(World(messages=(m,), flags=(flag(m),))) as store:
        assert run(store, AS_OF).code == 0
        before = look(store)
        set_lock(store, "quarantine", m.quarantine_prefix + "object", "ON")
        store.sql("UPDATE app.safety_flags SET cleared_at = %s", AS_OF + DAY)
        run(store, AS_OF + DAY)
        after = look(store)
    assert dict(after.quarantine) == dict(before.quarantine)
    assert after.index.keys() == {m.message_id}
    assert (dict(after.app), dict(after.data)) == ({}, {})


@pytest.fixture(scope="module", params=[False, True], ids=["due", "flagged"])
def in_store(servers: Servers, request: pytest.FixtureRequest) -> Locked:
    """product-data may have Object Lock too, and what it locks may be due, or flagged."""
    m = in_partition(message("locked", "beta", DAY * 100), b'{"body": "earlier"}')
    assert m.stored is not None
    with servers.store(World(messages=(m,), flags=(flag(m),) if request.param else ())) as store:
        store.s3.put_object_lock_configuration(
            Bucket="product-data", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        )
        before = look(store)
        set_lock(store, "product-data", m.stored.key, "ON")
        done = full_run(store, AS_OF)
        during = look(store)
        set_lock(store, "product-data", m.stored.key, "OFF")
        final = full_run(store, AS_OF + DAY)
        return Locked(m, before, during, done, look(store), final)


def test_a_locked_object_of_the_store_keeps_its_row_and_versions(in_store: Locked) -> None:
    assert in_store.during.app.keys() == {in_store.m.message_id}
    assert dict(in_store.during.data) == dict(in_store.before.data)
    assert dict(in_store.during.quarantine) == {}


def test_a_locked_object_of_the_store_is_reported_as_held_and_the_validation_objects(in_store: Locked) -> None:
    assert kept(in_store.done).get("object_lock") == 1
    assert in_store.done.code == 1
    assert list(in_store.done.failures()), "a lock that no hold explains is past its deadline, and said to be"


def test_an_object_that_was_locked_goes_once_it_is_not(in_store: Locked) -> None:
    assert in_store.after.app == {}
    assert dict(in_store.after.data) == {}
    assert in_store.final.code == 0, in_store.final.failures()


@pytest.mark.parametrize("bucket", ["quarantine", "lifecycle-evidence"])
def test_case_3_no_run_begins_where_holds_could_not_bite(store: Store, bucket: str) -> None:
    """Case 3: a bucket without Object Lock is an error with the remedy, before anything is planned."""
    store.s3.delete_bucket(Bucket=bucket)
    store.s3.create_bucket(Bucket=bucket)
    store.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    refused = store.cli("plan", "--as-of", "2026-11-01T00:00:00Z", "--tier", "beta", check=False)
    assert refused.returncode != 0
    assert f"bucket '{bucket}' has no Object Lock" in refused.stderr
    assert "Create it anew with Object Lock enabled" in refused.stderr
