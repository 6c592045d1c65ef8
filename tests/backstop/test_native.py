"""Days that are left to S3 (`expire: native`), on a real store whose server keeps lifecycle rules and carries none out:
the tests do S3's part. That a server does it is tested on Ceph (tests/stores/s3/test_native_executes.py).

Promises 1, 2, 4, 5, 7; cases 1, 2, 4, 5, 13, 15, 21.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lifecycle.backstop.native import is_native
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from oracle.facts import Agreement, Hold, Message, Retain, World, ident
from oracle.named import AS_OF, DAY, in_partition, message
from oracle.stores import Ran, Servers
from support.approve import approve_loaded
from support.edits import lead, write_policy
from support.scopes import carry_out
from support.store import Store

DATA = "product-data"
# Business goes 28 days after receipt: due after 13 days, a whole day after 14, by requests from its 25th day on.
TERM = "P12D"
LAST = AS_OF + DAY * 8


def trade(name: str, days: int) -> Message:
    return in_partition(message(name, "business", DAY * days))


EMPTIED = tuple(trade(f"emptied-{n}", 15) for n in range(3))
HELD, BESIDE = trade("held", 16), trade("beside", 16)
IGNORED = trade("ignored", 17)
STRAYED = trade("strayed", 18)
AGREED, UNBOUND = trade("agreed", 19), trade("unbound", 19)
PARTLY = in_partition(message("partly", "business", DAY * 13 + timedelta(hours=3)))
STUDIED = in_partition(message("studied", "evaluation", DAY * 78))
NOBODY, LATE = ident("of nobody"), ident("late")
WORLD = World(
    messages=(*EMPTIED, HELD, BESIDE, IGNORED, STRAYED, AGREED, UNBOUND, PARTLY, STUDIED),
    holds=(Hold(ident("hold"), "message", str(NOBODY), AS_OF - DAY),),
    agreements=(Agreement(ident("terms"), AGREED.account_id, Retain(days=400), AS_OF - DAY * 30, None),),
)


def natively(folder: Path) -> Path:
    """The shipped dataset file, with days of messages left to S3."""
    text = shipped(SHIPPED_DATASETS).read_text(encoding="utf-8")
    file = folder / "datasets.yaml"
    file.write_text(text.replace("      landing: landing/\n", "      landing: landing/\n      expire: native\n"))
    return file


@dataclass(frozen=True)
class Seen:
    """What one look at the store found."""

    run: Ran
    rules: dict[str, dict[str, Any]]
    keys: frozenset[str]
    rows: frozenset[str]

    def has(self, *messages: Message) -> list[tuple[bool, bool]]:
        """Of each message whether its row and its object are there."""
        return [(str(m.message_id) in self.rows, m.partitioned_key in self.keys) for m in messages]

    def prefixes(self) -> set[str]:
        return {rule["Filter"]["Prefix"] for rule in self.rules.values()}

    def left(self, scope: str = "business") -> int:
        kept: dict[str, int] = self.run.json["scopes"][scope]["kept"]
        return kept.get("left_to_s3", 0)


def look(store: Store, run: Ran) -> Seen:
    try:
        rules = store.s3.get_bucket_lifecycle_configuration(Bucket=DATA)["Rules"]
    except store.s3.exceptions.ClientError:
        rules = []
    return Seen(
        run,
        {str(rule["ID"]): dict(rule) for rule in rules if is_native(rule)},
        frozenset(store.keys(DATA)),
        frozenset(str(row[0]) for row in store.sql("SELECT message_id FROM app.messages")),
    )


def run_at(store: Store, as_of: datetime, *scopes: str) -> Seen:
    done = carry_out(as_of, *(scopes or ("business",)))
    assert done.code == 0, str(done)
    return look(store, done)


def prefix_of(m: Message) -> str:
    return m.partitioned_key.rpartition("/")[0] + "/"


def empty_as_s3_does(store: Store, prefix: str) -> None:
    for version in store.versions(DATA, prefix):
        store.s3.delete_object(Bucket=DATA, Key=version.key, VersionId=version.version_id)


@pytest.fixture(scope="module")
def made(servers: Servers, sql_judges: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with servers.store(WORLD) as store, pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("native")
        environment = {
            **store.env,
            "LIFECYCLE_DATASETS": str(natively(folder)),
            "LIFECYCLE_POLICY": str(write_policy(folder, lead("s3_expiry", TERM))),
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        store.put_object(DATA, f"{prefix_of(STRAYED)}{NOBODY}.json", b"{}")
        approve_loaded(AS_OF)
        yield store


@pytest.fixture(scope="module")
def first(made: Store) -> Seen:
    return run_at(made, AS_OF, "business", "evaluation")


@pytest.fixture(scope="module")
def previewed(made: Store, first: Seen) -> dict[str, bool]:
    """Case 21: what the plan says; and that nothing was done."""
    before = (made.versions(DATA), made.sql("SELECT count(*) FROM lifecycle.native_rules"))
    told = made.cli("plan", "--as-of", AS_OF.isoformat(), "--tier", "business", "--json").stdout
    assert (made.versions(DATA), made.sql("SELECT count(*) FROM lifecycle.native_rules")) == before
    units = json.loads(told)["scopes"]["business"]["units"]
    return {unit["unit"]: unit["left_to_s3"] for unit in units}


@pytest.fixture(scope="module")
def audited(made: Store, previewed: dict[str, bool]) -> dict[str, Any]:
    """What the daily audit says while S3 is in the middle of its work: some objects are gone, and no row."""
    made.s3.delete_object(Bucket=DATA, Key=EMPTIED[0].partitioned_key)
    told = made.cli("audit", "--as-of", AS_OF.isoformat(), "--json", check=False).stdout
    found: dict[str, Any] = {check["name"]: check for check in json.loads(told)["checks"]}
    return found


@pytest.fixture(scope="module")
def held(made: Store, first: Seen, audited: dict[str, Any]) -> Seen:
    """S3 has hidden two objects when somebody places a hold on one of them; no run in between."""
    for m in (HELD, BESIDE):
        made.s3.delete_object(Bucket=DATA, Key=m.partitioned_key)
    made.cli("hold", "place", "--scope", "message", "--target", HELD.message_id, "--reason", "case")
    return look(made, first.run)


@pytest.fixture(scope="module")
def second(made: Store, held: Seen) -> Seen:
    """The next day, S3 has emptied one day and nothing else; and a message has come late to another."""
    made.insert_message(
        tier="business", received_at=IGNORED.received_at, message_id=LATE, object_body="late", account_id=LATE
    )
    empty_as_s3_does(made, prefix_of(EMPTIED[0]))
    return run_at(made, AS_OF + DAY)


@pytest.fixture(scope="module")
def third(made: Store, second: Seen) -> Seen:
    return run_at(made, LAST)


def test_a_day_that_no_exception_names_is_left_to_s3(first: Seen) -> None:
    """No object and no row of it is touched; it is shown as kept, and not called done."""
    assert first.has(*EMPTIED, HELD, BESIDE, IGNORED) == [(True, True)] * 6
    assert first.prefixes() == {prefix_of(EMPTIED[0]), prefix_of(HELD), prefix_of(IGNORED)}
    assert first.left() == len(EMPTIED) + 4


def test_its_rule_takes_every_version_marker_and_upload_of_exactly_its_prefix(first: Seen) -> None:
    """Cases 2 and 14."""
    prefix = prefix_of(EMPTIED[0])
    name = f"lifecycle-native-messages-business-{EMPTIED[0].received_at:%Y-%m-%d}"
    rule, markers = first.rules[name], first.rules[f"{name}-markers"]
    assert rule["Filter"] == markers["Filter"] == {"Prefix": prefix}
    assert rule["Expiration"] == {"Days": 1} and rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert markers["Expiration"] == {"ExpiredObjectDeleteMarker": True}


def test_a_day_of_which_part_is_due_waits_until_all_of_it_is(first: Seen) -> None:
    """Promise 1: a rule for a prefix takes everything there, so there is none yet, and no request either."""
    assert first.has(PARTLY) == [(True, True)]
    assert prefix_of(PARTLY) not in first.prefixes()


def test_a_day_in_which_an_exception_names_anything_goes_by_requests(first: Seen) -> None:
    assert first.has(UNBOUND, AGREED) == [(False, False), (True, True)]


def test_what_is_deidentified_goes_by_requests(first: Seen) -> None:
    """Promise 3: the published form is written before the object goes, and S3 writes nothing."""
    assert first.has(STUDIED) == [(False, False)]


def test_case_13_a_day_with_an_object_that_no_row_of_it_names_goes_by_requests(first: Seen) -> None:
    """Case 13: this one is under hold, and its row is lost; another might be named by a row of another day."""
    assert first.has(STRAYED) == [(False, False)]
    assert f"{prefix_of(STRAYED)}{NOBODY}.json" in first.keys


def test_case_21_the_plan_says_what_is_left_to_s3(previewed: dict[str, bool]) -> None:
    said = {unit.rsplit("/", 1)[1] for unit, left in previewed.items() if left}
    assert said == {m.received_at.date().isoformat() for m in (EMPTIED[0], HELD, IGNORED, PARTLY)}


def test_promise_5_the_ledger_says_which_rule_and_what_lay_there_before_it_was_placed(first: Seen, made: Store) -> None:
    unit = f"native/messages/business/{EMPTIED[0].received_at:%Y-%m-%d}"
    found = made.sql(
        "SELECT disposition, rule, counts FROM lifecycle.ledger WHERE unit = %s ORDER BY seq LIMIT 1", unit
    )
    ((disposition, rule, counts),) = found
    assert (disposition, rule) == ("approve", "business_default")
    assert counts["s3_rule"] in first.rules and counts["objects"] == counts["versions"] == len(EMPTIED)


def test_the_audit_knows_rules_for_days_and_excuses_rows_whose_objects_go_first(audited: dict[str, Any]) -> None:
    assert audited["rows_without_object.business"]["violations"] == 0
    for name in ("backstop_drift", "backstop_foreign_rules", "native_rules_reach_kept.business"):
        assert audited[name]["violations"] == 0, name


def test_case_4_a_hold_takes_the_rule_away_at_once_and_brings_back_what_it_hid(held: Seen) -> None:
    """Case 4, promise 1: nothing under hold is hidden. The other days stay with S3."""
    assert held.prefixes() == {prefix_of(EMPTIED[0]), prefix_of(IGNORED)}
    assert held.has(HELD, BESIDE) == [(True, True), (True, True)]


def test_then_the_day_goes_by_requests_and_what_is_held_stays(second: Seen) -> None:
    assert second.has(HELD, BESIDE) == [(True, True), (False, False)]


def test_once_s3_has_emptied_a_prefix_its_rule_goes_then_its_rows(second: Seen, made: Store) -> None:
    """Promise 7; and nothing may arrive later under a rule that nobody looks at (case 15)."""
    assert second.has(*EMPTIED) == [(False, False)] * len(EMPTIED)
    assert prefix_of(EMPTIED[0]) not in second.prefixes()
    outcome = made.value("SELECT outcome FROM lifecycle.native_rules WHERE prefix = %s", prefix_of(EMPTIED[0]))
    assert outcome == "emptied"
    unit = f"messages/business/{EMPTIED[0].received_at:%Y-%m-%d}"
    counted = made.value(
        "SELECT sum((counts->>'records')::int) FROM lifecycle.ledger WHERE unit = %s AND entry = 'outcome'", unit
    )
    assert counted == len(EMPTIED)


def test_while_s3_does_nothing_the_day_is_left_to_it_again(second: Seen) -> None:
    assert second.has(IGNORED) == [(True, True)]
    assert prefix_of(IGNORED) in second.prefixes()


def test_case_15_what_comes_late_to_a_day_that_is_left_goes_with_it(second: Seen, third: Seen) -> None:
    """Case 15: what is due already is not moved to its day, and so not left to S3; the day is not closed without it."""
    assert f"landing/{LATE}.json" in second.keys and str(LATE) in second.rows
    assert not [key for key in third.keys if str(LATE) in key] and str(LATE) not in third.rows


def test_case_1_a_run_does_it_by_requests_when_there_is_no_more_time_for_s3(third: Seen, made: Store) -> None:
    """Case 1, promise 2: S3 promises no hour, so the deadline does not depend on it; no rule is left behind."""
    assert third.has(IGNORED) == [(False, False)]
    assert prefix_of(IGNORED) not in third.prefixes()
    outcome = made.value("SELECT outcome FROM lifecycle.native_rules WHERE prefix = %s", prefix_of(IGNORED))
    assert outcome == "taken over"


def test_once_all_of_a_day_is_due_it_is_left_to_s3(second: Seen, third: Seen) -> None:
    assert prefix_of(PARTLY) in second.prefixes() & third.prefixes()
    assert third.has(PARTLY) == [(True, True)]
