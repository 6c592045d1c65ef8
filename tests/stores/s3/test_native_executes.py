"""Days that are left to S3, on a server that carries lifecycle rules out: a lifecycle day of this Ceph gateway lasts
seconds (LIFECYCLE_TEST_S3_DAY). Whole runs before and after; S3 does the rest. Promises 1, 2, 5, 7; cases 2, 4, 14.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from backstop.test_native import natively
from lifecycle.backstop.compare import normal
from lifecycle.backstop.native import added, is_native, rules_for
from lifecycle.orchestration.session import shared_s3_client
from lifecycle.stores.s3.lifecycle_rules import replace_rules
from lifecycle.stores.s3.prefixes import contents, is_empty
from oracle.facts import World
from oracle.named import AS_OF, DAY, in_partition, message
from oracle.stores import Servers, servers
from stores.s3 import PLAIN, VERSIONED
from stores.s3.test_backstop_executes import until
from support.approve import approve_loaded
from support.edits import lead, write_policy
from support.judges import sql_judges
from support.scopes import carry_out
from support.store import Store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["servers", "sql_judges"]
pytestmark = [pytest.mark.ceph, pytest.mark.timeout(500)]
LEFT = tuple(in_partition(message(f"left-{n}", "business", DAY * 15), b"an older version") for n in range(20))
HELD = in_partition(message("held", "business", DAY * 16))
PREFIX, HELD_PREFIX = (m.partitioned_key.rpartition("/")[0] + "/" for m in (LEFT[0], HELD))
YOUNG = in_partition(message("young", "business", DAY * 2))


@dataclass(frozen=True)
class Struck:
    """What was seen on the way: how many rules stood after the first run, and which requests the second one made."""

    rules: int
    versions: int
    asked: Counter[str]


@pytest.fixture(scope="module")
def made(servers: Servers, sql_judges: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    world = World(messages=(*LEFT, HELD, YOUNG))
    with servers.store(world) as store, pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("native")
        policy = write_policy(folder, lead("s3_expiry", "P12D"))
        environment = {**store.env, "LIFECYCLE_DATASETS": str(natively(folder)), "LIFECYCLE_POLICY": str(policy)}
        for name, value in environment.items():
            patch.setenv(name, value)
        approve_loaded(AS_OF)
        yield store


@pytest.fixture(scope="module")
def struck(made: Store) -> Struck:
    s3 = made.s3
    s3.create_multipart_upload(Bucket=VERSIONED, Key=LEFT[0].partitioned_key)
    for n in range(3):
        s3.put_object(Bucket=PLAIN, Key=f"{PREFIX}{n}", Body=b"x")
    s3.put_object(Bucket=PLAIN, Key=f"{PREFIX[:-1]}0/beside", Body=b"x")
    replace_rules(s3, PLAIN, lambda found: added(found, rules_for("lifecycle-native-x", PREFIX, 1)), normal)
    assert carry_out(AS_OF, "business").code == 0
    rules = sum(map(is_native, s3.get_bucket_lifecycle_configuration(Bucket=VERSIONED)["Rules"]))
    before = contents(s3, VERSIONED, PREFIX)
    made.cli("hold", "place", "--scope", "message", "--target", HELD.message_id, "--reason", "case")
    until(lambda: is_empty(s3, VERSIONED, PREFIX), "S3 has emptied the day")
    until(lambda: is_empty(s3, PLAIN, PREFIX), "and a prefix of a bucket without versions")
    asked: Counter[str] = Counter()
    note = counter(asked)
    client = shared_s3_client()
    client.meta.events.register("before-call.s3", note)
    try:
        done = carry_out(AS_OF + DAY, "business")
    finally:
        client.meta.events.unregister("before-call.s3", note)
    assert done.code == 0, str(done)
    return Struck(rules, before.versions, asked)


def counter(asked: Counter[str]) -> Callable[..., None]:
    def note(model: object, **_: object) -> None:
        asked[str(getattr(model, "name", ""))] += 1

    return note


def test_s3_empties_the_day_with_its_old_versions_markers_and_uploads(struck: Struck, made: Store) -> None:
    """Cases 2 and 14: an overwritten object, and an upload that nobody finished."""
    assert struck.rules == 4 and struck.versions >= len(LEFT)
    assert made.versions(VERSIONED, PREFIX) == []
    assert not made.s3.list_multipart_uploads(Bucket=VERSIONED, Prefix=PREFIX).get("Uploads")


def test_the_next_run_closes_it_without_a_request_to_delete_anything(struck: Struck, made: Store) -> None:
    """Promise 7: the rows go once the objects are gone; and the rule goes before the rows."""
    assert made.value("SELECT count(*) FROM app.messages WHERE message_id = ANY(%s)", [m.message_id for m in LEFT]) == 0
    assert struck.asked["DeleteObjects"] == struck.asked["DeleteObject"] == 0
    assert not made.sql("SELECT 1 FROM lifecycle.native_rules WHERE ended_at IS NULL")


def test_case_4_what_a_hold_took_back_stays_and_is_seen(struck: Struck, made: Store) -> None:
    """Case 4: the hold came before S3 had acted, and S3 passed by."""
    assert [version.is_marker for version in made.versions(VERSIONED, HELD_PREFIX)] == [False]
    assert made.value("SELECT count(*) FROM app.messages WHERE message_id = %s", HELD.message_id) == 1


def test_nothing_else_is_touched(struck: Struck, made: Store, s3_session_client: S3Client) -> None:
    """A prefix ends with its slash, so that no other day begins with it."""
    assert [version.is_marker for version in made.versions(VERSIONED, YOUNG.partitioned_key)] == [False]
    assert [found.key for found in made.versions(PLAIN, PREFIX[:-1])] == [f"{PREFIX[:-1]}0/beside"]
