"""An object in which nothing can be due is not read again; on any doubt it is (promises 1, 2 and 6, case 23).

What is remembered may only ever say that nothing is due, so each test asks what a survey finds after something changed.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.dispositions.log_index import Suspects
from lifecycle.dispositions.logs import survey_logs
from lifecycle.orchestration import steps
from lifecycle.orchestration.session import run_context
from lifecycle.planning.log_decision import LogFacts, log_decision
from lifecycle.planning.units import Unit
from lifecycle.policy.decide import Fact
from lifecycle.policy.models import Tier, Trigger
from lifecycle.policy.periods import Period
from lifecycle.stores.s3 import logs as engine
from lifecycle.stores.s3.outline import Outline, may_hold
from lifecycle.stores.s3.records import Judge
from lifecycle.stores.s3.versions import iter_versions, key_versions
from oracle.facts import LogRecord, World, ident
from oracle.load import LOGS
from oracle.named import AS_OF, DAY
from oracle.stores import Servers
from support.store import Store

PARTS = ("part-0.jsonl.gz", "part-1.jsonl.gz", "part-2.parquet")
FOLDER = "requests/date=2023-01-01"


def line(name: str, part: str, *, age: float = 1, tier: str = "consumer") -> LogRecord:
    key = f"{FOLDER}/{part}"
    return LogRecord(key, ident("log", name), ident("account", name), tier, AS_OF - DAY * age, f"GET {name}")


YOUNG = tuple(line(f"{part} {n}", part, age=n + 1) for part in PARTS for n in range(3))


@dataclass
class Place:
    """A store with young lines only, and how many objects the last survey looked into."""

    store: Store
    run_id: int
    looked: list[str]

    def survey(self, *, after: timedelta = DAY * 0, dry_run: bool = False) -> list[Unit]:
        """What a run of a later day finds."""
        self.looked.clear()
        with run_context(self.run_id) as context:
            run = replace(context.run, as_of=context.run.as_of + after, dry_run=dry_run)
            return list(survey_logs(replace(context, run=run)))

    def known(self) -> int:
        return int(self.store.value("SELECT count(*) FROM lifecycle.log_index"))

    def erase(self, account: UUID | str) -> None:
        self.store.insert("lifecycle.erasure_requests", scope="account", target=str(account), requested_at=AS_OF)


@pytest.fixture(scope="module")
def made(servers: Servers) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch, servers.store(World(logs=YOUNG)) as store:
        for name, value in store.env.items():
            patch.setenv(name, value)
        looked: list[str] = []
        real = key_versions

        def noted(s3: Any, bucket: str, key: str) -> Any:
            looked.append(key.rpartition("/")[2])
            return real(s3, bucket, key)

        patch.setattr(engine, "key_versions", noted)
        yield Place(store, steps.begin("records", AS_OF), looked)


@pytest.fixture
def place(made: Place) -> Iterator[Place]:
    """With everything remembered; what a test writes is taken back."""
    made.store.sql("DELETE FROM lifecycle.erasure_requests")
    made.store.sql("DELETE FROM lifecycle.legal_holds")
    made.store.sql("DELETE FROM lifecycle.log_index")
    for version in iter_versions(made.store.s3, LOGS, FOLDER):
        if version.key.rpartition("/")[2] not in PARTS:
            made.store.s3.delete_object(Bucket=LOGS, Key=version.key, VersionId=version.version_id)
    assert made.survey() == []
    assert (sorted(made.looked), made.known()) == (sorted(PARTS), 3)
    yield made


def put(place: Place, *lines: dict[str, Any], part: str = "part-9.jsonl.gz") -> None:
    body = gzip.compress(b"".join(json.dumps(each).encode() + b"\n" for each in lines))
    place.store.s3.put_object(Bucket=LOGS, Key=f"{FOLDER}/{part}", Body=body)


def told(name: str, **other: Any) -> dict[str, Any]:
    return {
        "message_id": str(ident("log", name)),
        "account_id": str(ident("account", name)),
        "tier": "consumer",
        "received_at": (AS_OF - DAY).isoformat(),
    } | other


def test_what_is_known_is_not_looked_into_again(place: Place) -> None:
    assert place.survey() == place.survey(after=DAY * 3) == []
    assert place.looked == []


def test_time_alone_makes_it_due_again_cases_1_and_11(place: Place) -> None:
    """The oldest lines are three days old; consumer goes at more than 87 days."""
    assert place.survey(after=DAY * 84) == []
    assert place.looked == []
    (unit,) = place.survey(after=DAY * 84 + timedelta(microseconds=1))
    assert sorted(place.looked) == sorted(PARTS)
    assert unit.tallies[0].records == 3


def test_only_objects_that_can_hold_an_erased_account_are_read(place: Place) -> None:
    place.erase(ident("account", "somebody else"))
    assert place.survey() == []
    assert place.looked == []
    place.erase(str(ident("account", "part-2.parquet 1")).upper())
    (unit,) = place.survey()
    assert place.looked == ["part-2.parquet"]
    assert [(tally.fate, tally.records) for tally in unit.tallies] == [
        ("delete:erasure_request", 1),
        ("keep:not_due", 8),
    ]


def test_a_request_that_was_completed_before_is_no_reason_to_read(place: Place) -> None:
    place.erase(ident("account", "part-0.jsonl.gz 0"))
    place.store.sql("UPDATE lifecycle.erasure_requests SET completed_at = %s, outcome = 'done'", AS_OF - DAY * 30)
    assert place.survey() == []
    assert place.looked == []


def test_a_hold_is_no_reason_to_read_and_one_on_all_lets_nothing_be_passed_over(place: Place) -> None:
    """What keeps makes nothing due; a hold on the dataset is not judged by cut-offs, so the index has no say."""
    target = str(ident("account", "part-0.jsonl.gz 0"))
    hold = {"reason": "case", "placed_by": "counsel"}
    place.store.insert("lifecycle.legal_holds", scope="account", target=target, **hold)
    assert place.survey() == []
    assert place.looked == []
    place.store.insert("lifecycle.legal_holds", scope="dataset", target="request_logs", **hold)
    assert place.survey() == []
    assert sorted(place.looked) == sorted(PARTS)


def test_while_a_policy_waits_for_approval_everything_is_read_case_20(place: Place) -> None:
    with run_context(place.run_id) as context:
        guard: Any = SimpleNamespace(policy=context.policy, waits=lambda _: False, params=lambda _: {})
        place.looked.clear()
        assert list(survey_logs(replace(context, guard=guard))) == []
    assert sorted(place.looked) == sorted(PARTS)


def test_an_overwritten_object_is_read_case_15(place: Place) -> None:
    """Two versions, and one that has been replaced behind the index's back."""
    put(place, told("new"))
    assert place.survey() == []
    assert place.looked == ["part-9.jsonl.gz"]
    put(place, told("new", received_at="2020-01-01T00:00:00+00:00"))
    assert len(place.survey()) == 1
    assert (place.looked, place.known()) == (["part-9.jsonl.gz"], 3), "signs of what was overwritten are not kept"
    first = list(iter_versions(place.store.s3, LOGS, f"{FOLDER}/part-9.jsonl.gz"))[-1]
    place.store.s3.delete_object(Bucket=LOGS, Key=first.key, VersionId=first.version_id)
    assert len(place.survey()) == 1
    assert place.looked == ["part-9.jsonl.gz"]


@pytest.mark.parametrize(
    "odd",
    [
        {"received_at": None},
        {"received_at": "soon"},
        {"account_id": None},
        {"account_id": ""},
        {"message_id": "é"},
        {"message_id": 7},
        {"tier": None},
        {"tier": "prototype"},
        {"tier": ["consumer"]},
    ],
    ids=str,
)
def test_case_23_an_object_with_a_doubtful_line_is_never_remembered(place: Place, odd: dict[str, Any]) -> None:
    put(place, told("one"), told("two", **odd), told("three"))
    for _ in range(2):
        place.survey()
        assert place.looked == ["part-9.jsonl.gz"]
    assert place.known() == 3


def test_case_23_a_null_clock_in_parquet_is_never_remembered(place: Place) -> None:
    import pyarrow.parquet as pq

    rows = [told("one") | {"received_at": AS_OF - DAY}, told("two") | {"received_at": None}]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    key = f"{FOLDER}/part-8.parquet"
    place.store.s3.put_object(Bucket=LOGS, Key=key, Body=sink.getvalue().to_pybytes())
    for _ in range(2):
        place.survey()
        assert place.looked == ["part-8.parquet"]


def test_other_fields_are_another_index(place: Place) -> None:
    with run_context(place.run_id) as context:
        logs = replace_field(context.catalog.logs[0])
        catalog = context.catalog.model_copy(
            update={"datasets": tuple(logs if each.id == logs.id else each for each in context.catalog.datasets)}
        )
        place.looked.clear()
        list(survey_logs(replace(context, catalog=catalog, run=replace(context.run, dry_run=True))))
    assert sorted(place.looked) == sorted(PARTS)


def replace_field(logs: Any) -> Any:
    return logs.model_copy(update={"subject": "status"})


def test_a_dry_run_remembers_nothing_case_21(place: Place) -> None:
    put(place, told("new"))
    place.survey(dry_run=True)
    assert (place.looked, place.known()) == (["part-9.jsonl.gz"], 3)


def test_what_is_gone_is_forgotten(place: Place) -> None:
    """Signs of accounts do not outlive them: neither those of a rewritten object nor those of a day that is gone."""
    place.erase(ident("account", "part-9 gone"))
    place.store.sql("UPDATE lifecycle.erasure_requests SET completed_at = %s", AS_OF - DAY * 2)
    put(place, told("part-9 gone"), told("stays"))
    assert place.survey() == []
    assert place.known() == 4
    place.store.sql("UPDATE lifecycle.erasure_requests SET completed_at = NULL")
    steps.plan(place.run_id)
    assert steps.expire(place.run_id, "request_logs/2023-01-01") == {"delete:erasure_request": 1}
    assert place.known() == 3
    place.store.sql(
        "UPDATE lifecycle.log_index SET day = '2022-12-31' WHERE key_sha256 = (SELECT min(key_sha256)"
        " FROM lifecycle.log_index)"
    )
    place.survey()
    assert place.known() == 3


# -- objects that need a person ------------------------------------------------------------------------------------


def doubts(place: Place, *options: str) -> tuple[int, dict[str, Any]]:
    done = place.store.cli("s3", "unclassified", "--json", *options, check=False)
    return done.returncode, json.loads(done.stdout)


def test_case_23_what_cannot_be_read_is_named_with_what_to_do_and_nothing_of_its_content(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    whole = gzip.compress(json.dumps(told("SECRET")).encode() + b"\n")
    put(place, told("SECRET"), told("SECRET", account_id=None), part="part-3.jsonl.gz")
    others = {
        "part-4.jsonl.gz": whole[:-9],
        "part-5.parquet": b"PAR1SECRETPAR1",
        "part-6.parquet": b"PARESECRETPARE",
        "part-7.csv": b"SECRET",
        "part-8.jsonl.gz": whole[:-9],
    }
    for part, body in others.items():
        place.store.s3.put_object(Bucket=LOGS, Key=f"{FOLDER}/{part}", Body=body)
    put(place, told("SECRET"), part="part-8.jsonl.gz")
    before = fingerprint(place)

    code, found = doubts(place)
    assert (code, found["passed"], found["unreadable"], found["doubtful"]) == (1, False, 5, 1)
    assert (found["known"], found["read"]) == (3, 6)
    named = {each["key"].rpartition("/")[2]: each for each in found["objects"]}
    assert list(named) == ["part-3.jsonl.gz", *others]
    assert (named["part-3.jsonl.gz"]["records"], named["part-3.jsonl.gz"]["unclassified"]) == (2, 1)
    assert not named["part-8.jsonl.gz"]["latest"]
    faults = {part: (each["fault"], each["remedy"]) for part, each in named.items()}
    assert "decompressed (gzip)" in faults["part-4.jsonl.gz"][0]
    assert "cannot be read" in faults["part-5.parquet"][0]
    assert "decrypt it" in faults["part-6.parquet"][1]
    assert "name that ends in .jsonl" in faults["part-7.csv"][1]
    shown = place.store.cli("s3", "unclassified", "--most", "1", check=False).stdout
    assert "and 5 more" in shown
    assert "SECRET" not in json.dumps(found) + shown
    assert FOLDER not in caplog.text, "keys go to whoever asked, not to a log (case 25)"
    assert fingerprint(place) == before


def fingerprint(place: Place) -> tuple[object, ...]:
    """What the command may not change."""
    return (place.known(), list(iter_versions(place.store.s3, LOGS, FOLDER)))


def test_where_all_is_well_it_says_so_without_reading(place: Place) -> None:
    code, found = doubts(place, "--dataset", "request_logs")
    assert (code, found["known"], found["read"], found["objects"]) == (0, 3, 0, [])
    other = place.store.cli("s3", "unclassified", "--dataset", "request_log", check=False)
    assert other.returncode == 2
    assert "choose: request_logs" in " ".join(other.stderr.split())


# -- the pure part ------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "d"])
MOMENTS = st.integers(-120, 2).map(lambda days: AS_OF + DAY * days)
FACTS = st.builds(
    Fact,
    st.sampled_from([Trigger.HOLD, Trigger.CASE, Trigger.ERASURE, Trigger.AGREEMENT]),
    MOMENTS,
    st.none() | MOMENTS,
    st.integers(0, 120).map(lambda days: Period.parse(f"P{days}D")),
)
NAMED = st.dictionaries(NAMES, st.lists(FACTS, max_size=3).map(tuple), max_size=3)
LINES = st.lists(
    st.tuples(NAMES, NAMES, st.sampled_from([tier.value for tier in Tier]), MOMENTS), min_size=1, max_size=6
)


@settings(max_examples=120, deadline=None)
@given(lines=LINES, subjects=NAMED, records=NAMED)
def test_whatever_exceptions_say_nothing_due_is_passed_over(
    made: Place, lines: list[tuple[str, str, str, datetime]], subjects: Any, records: Any
) -> None:
    """Promise 2, against asking every record."""
    judge = judge_of(made, LogFacts(subjects, records, ()))
    due = [each for each in lines if judge(*each) is not None]
    oldest = {tier: min(clock for _, _, t, clock in lines if t == tier) for tier in {each[2] for each in lines}}
    assert judge.ordinary is not None
    names = Suspects(judge, judge.ordinary).clear(oldest)
    if due:
        assert names is None or {r for r, *_ in due} & set(names[1]) or {s for _, s, *_ in due} & set(names[0])


_CONTEXT: dict[int, Any] = {}


def judge_of(made: Place, facts: LogFacts) -> Judge:
    if made.run_id not in _CONTEXT:
        with run_context(made.run_id) as context:
            _CONTEXT[made.run_id] = SimpleNamespace(policy=context.policy, catalog=context.catalog, run=context.run)
    context = _CONTEXT[made.run_id]
    return cast(
        Judge, log_decision(context.policy, context.catalog.logs[0].category, context.run.as_of, facts, AS_OF.date())
    )


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.text(st.characters(codec="ascii"), min_size=1, max_size=400), min_size=1, max_size=30),
    cut=st.integers(0, 30),
)
def test_every_name_that_is_there_is_found(names: list[str], cut: int) -> None:
    outline = Outline()
    for part in (names[:cut], names[cut:]):
        texts = [pa.array(part, pa.string()), pa.array(part, pa.string()), pa.array(["beta"] * len(part), pa.string())]
        clock = pa.array([AS_OF] * len(part), pa.timestamp("us", "UTC"))
        outline.note(texts, clock, pa.array([True] * len(part), pa.bool_()), ["beta"])
    known = outline.known(len(names))
    assert known is not None
    assert outline.known(len(names) + 1) is None
    assert known.oldest == {"beta": AS_OF}
    assert all(may_hold(known.records, [name.lower()]) and may_hold(known.subjects, [name.lower()]) for name in names)


def test_what_is_not_there_is_hardly_ever_taken_for_there() -> None:
    there = [str(UUID(int=number << 64)) for number in range(2_000)]
    texts = [pa.array(there), pa.array(there), pa.array(["beta"] * len(there))]
    outline = Outline()
    plain = pa.array([True] * len(there))
    outline.note(texts, pa.array([AS_OF] * len(there), pa.timestamp("us", "UTC")), plain, ["beta"])
    known = outline.known(len(there))
    assert known is not None
    others = [str(UUID(int=(number << 64) + 1)) for number in range(2_000)]
    assert sum(may_hold(known.records, [other]) for other in others) <= 1
    assert not may_hold(known.records, [])
    assert may_hold(None, ["x"])
