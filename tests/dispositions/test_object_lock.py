"""Case 3: an Object Lock legal hold is read per version and respected; no marker hides it, no row goes before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oracle.facts import Flag, Message, World
from oracle.named import AS_OF, DAY, flag, in_partition, message
from oracle.stores import Ran, Servers, look, run
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


@pytest.fixture
def quarantined() -> tuple[Message, tuple[Flag, ...]]:
    m = in_partition(message("locked", age=DAY))
    return m, (flag(m),)


@pytest.mark.parametrize("name", ["object", "record.json"])
def test_a_locked_copy_in_quarantine_stays_past_its_end_and_is_reported_held(
    servers: Servers, quarantined: tuple[Message, tuple[Flag, ...]], name: str
) -> None:
    m, flags = quarantined
    key = m.quarantine_prefix + name
    with servers.store(World(messages=(m,), flags=flags)) as store:
        assert run(store, AS_OF).code == 0
        before = look(store)
        set_lock(store, "quarantine", key, "ON")
        done = run(store, AS_OF + DAY * 800)
        after = look(store)
        set_lock(store, "quarantine", key, "OFF")
        final = run(store, AS_OF + DAY * 801)
        left = look(store)
    assert dict(after.quarantine) == dict(before.quarantine)
    assert after.index.keys() == {m.message_id}
    assert after.flags == {m.message_id}
    assert kept(done).get("legal_obligation") == 1, str(done)
    assert "delete" not in done.disposed()
    assert final.code == 0, str(final)
    assert (dict(left.quarantine), dict(left.index), left.flags) == ({}, {}, frozenset())


def test_a_locked_copy_is_not_restored_when_its_flag_is_cleared(
    servers: Servers, quarantined: tuple[Message, tuple[Flag, ...]]
) -> None:
    """What is under hold is not moved, out of quarantine neither."""
    m, flags = quarantined
    with servers.store(World(messages=(m,), flags=flags)) as store:
        assert run(store, AS_OF).code == 0
        before = look(store)
        set_lock(store, "quarantine", m.quarantine_prefix + "object", "ON")
        store.sql("UPDATE app.safety_flags SET cleared_at = %s", AS_OF + DAY)
        run(store, AS_OF + DAY)
        after = look(store)
    assert dict(after.quarantine) == dict(before.quarantine)
    assert m.message_id in after.index
    assert m.message_id not in after.app


@pytest.mark.parametrize("flagged", [False, True], ids=["due", "flagged"])
def test_a_locked_object_of_the_store_keeps_its_row(servers: Servers, flagged: bool) -> None:
    """product-data may have Object Lock too; the row stays as long as its object must."""
    m = in_partition(message("locked", "beta", DAY * 100), b'{"body": "earlier"}')
    assert m.stored is not None
    with servers.store(World(messages=(m,), flags=(flag(m),) if flagged else ())) as store:
        store.s3.put_object_lock_configuration(
            Bucket="product-data", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        )
        set_lock(store, "product-data", m.stored.key, "ON")
        done = run(store, AS_OF)
        after = look(store)
        set_lock(store, "product-data", m.stored.key, "OFF")
        final = run(store, AS_OF + DAY)
        left = look(store)
    assert m.message_id in after.app
    stored = after.data[m.stored.key]
    assert (stored.content, stored.markers) == (m.stored.content, 0)
    assert kept(done).get("legal_obligation") == 1, str(done)
    assert final.code == 0, str(final)
    assert left.app == {}
    assert dict(left.data) == {}
