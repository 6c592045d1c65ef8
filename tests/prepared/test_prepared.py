"""Rests that were made elsewhere are taken over if, and only if, they are what would be made here now."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dispositions.test_logs import ENDINGS, key, log_world, mixed
from lifecycle.dispositions.log_rests import TAKEN_OVER
from lifecycle.errors import PreconditionError
from lifecycle.orchestration import steps
from lifecycle.prepared import inputs as frozen
from lifecycle.prepared.inputs import Inputs
from lifecycle.prepared.job import INPUTS, OBJECTS
from lifecycle.prepared.notes import Note, note_key, rest_key
from lifecycle.prepared.worker import items_of, prepare_all
from lifecycle.stores.s3 import parquet_form
from lifecycle.stores.s3.adopt import Refusal
from oracle.facts import ident
from oracle.load import LOGS
from oracle.named import AS_OF
from oracle.stores import look
from prepared.conftest import STAGING, Planned


def prepare(planned: Planned) -> dict[str, int]:
    """What the cluster does, here."""
    s3 = planned.store.s3
    inputs = Inputs.from_json(planned.store.read_object(STAGING, f"{planned.prefix}{INPUTS}"))
    files = planned.store.keys(STAGING, f"{planned.prefix}{OBJECTS}")
    return prepare_all(s3, inputs, (item for file in files for item in items_of(s3, STAGING, file)))


def gone_lines(planned: Planned) -> int:
    return int(
        planned.store.value(
            "SELECT coalesce(sum((counts ->> 'records')::int), 0) FROM lifecycle.ledger WHERE run_id = %s"
            " AND entry = 'outcome' AND dataset = 'request_logs'",
            planned.run,
        )
    )


def outcomes(planned: Planned) -> dict[str, int]:
    """How many rests were taken over or refused, by why."""
    found = planned.store.sql(
        "SELECT outcome, count(*) FROM lifecycle.log_rests WHERE run_id = %s AND outcome IS NOT NULL GROUP BY 1",
        planned.run,
    )
    return dict(found)


def assert_only_what_is_due_went(planned: Planned, *also_held: str) -> None:
    left = look(planned.store).logs
    for ending in ENDINGS:
        stay, go = mixed(ending)
        for name, line in {**stay, **go}.items():
            assert left[line] == (name in stay or name in also_held), name


def test_what_was_prepared_is_taken_over_and_staging_is_empty(planned: Planned) -> None:
    """One pass over every kind of exception: the cluster judges as the oracle. Promise 6: nothing stays behind."""
    due = len([line for line in log_world().logs if line.key.endswith(tuple(ENDINGS))])
    assert prepare(planned) == {"prepared": 4}
    assert prepare(planned) == {"already": 4}
    planned.expire()
    assert [done.action for done in planned.adopted if done] == ["rewritten", "rewritten", "removed", "removed"]
    assert_only_what_is_due_went(planned)
    assert due - look(planned.store).logs.total() == gone_lines(planned)
    assert planned.store.keys(STAGING, f"{planned.prefix}notes/") == []
    assert planned.store.keys(STAGING, f"{planned.prefix}rests/") == []
    assert outcomes(planned) == {TAKEN_OVER: 4}
    assert planned.store.value("SELECT count(*) FROM lifecycle.log_rests WHERE contents IS NOT NULL") == 0
    stored = planned.store.s3.list_object_versions(Bucket=LOGS)["Versions"]
    assert len({version["Key"] for version in stored}) == len(stored)
    steps.fail(planned.run)
    steps.plan(steps.begin("records", AS_OF, run_key="the next"))
    assert planned.store.value("SELECT count(*) FROM lifecycle.log_rests WHERE run_id = %s", planned.run) == 0


def test_a_hold_that_comes_after_the_cluster_has_judged_wins_case_4(planned: Planned) -> None:
    """Promise 1: the notes were made without it, so none is taken over; this machine judges anew."""
    prepare(planned)
    target = str(ident("log", "consumer"))
    planned.store.insert("lifecycle.legal_holds", scope="message", target=target, reason="case", placed_by="counsel")
    planned.expire()
    assert planned.adopted == [None] * 4
    assert outcomes(planned) == {Refusal.FACTS: 4}
    assert_only_what_is_due_went(planned, "consumer")


Rows = list[dict[str, Any]]


def _as_it_was(rows: Rows) -> Rows:
    return rows


def _another_in_its_place(rows: Rows) -> Rows:
    """As many, none of them due, and the first of those that must stay is not among them."""
    return [rows[1], *rows[1:]]


def _altered(rows: Rows) -> Rows:
    """A field that decides nothing."""
    return [*rows[:-1], {**rows[-1], "line": "GET altered"}]


def _turned(rows: Rows) -> Rows:
    return rows[::-1]


def _forge(planned: Planned, ending: str, change: Callable[[Rows], Rows]) -> None:
    """Another rest of the same form, and a note that owns up to its bytes."""
    name = rest_key(planned.prefix, key(ending))
    body = planned.store.read_object(STAGING, name)
    if ending == "parquet":
        with pq.ParquetFile(io.BytesIO(body)) as file:
            table = pa.Table.from_pylist(change(file.read().to_pylist()), file.schema_arrow)
            sink = io.BytesIO()
            pq.write_table(table, sink, **parquet_form.settings(file))
        body = sink.getvalue()
    else:
        rows = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        unchanged = gzip.decompress(body).splitlines(keepends=True)
        told = {json.dumps(row): line for row, line in zip(rows, unchanged, strict=True)}
        lines = [told.get(json.dumps(row), json.dumps(row).encode() + b"\n") for row in change(rows)]
        body = gzip.compress(b"".join(lines), 1)
    planned.store.put_object(STAGING, name, body)
    _change_note(planned, ending, sha256=hashlib.sha256(body).hexdigest())


def test_a_rest_in_other_bytes_with_the_same_records_is_taken_over(planned: Planned) -> None:
    """So it is the records that the next test refuses."""
    prepare(planned)
    for ending in ENDINGS:
        _forge(planned, ending, _as_it_was)
    planned.expire()
    assert outcomes(planned) == {TAKEN_OVER: 4}
    assert_only_what_is_due_went(planned)


@pytest.mark.parametrize("change", [_another_in_its_place, _altered, _turned])
def test_a_forged_rest_of_as_many_records_destroys_nothing(
    planned: Planned, change: Callable[[Rows], Rows], caplog: pytest.LogCaptureFixture
) -> None:
    """Promises 1 and 3: whoever can write staging cannot choose what is left of an object. Named, and counted."""
    prepare(planned)
    for ending in ENDINGS:
        _forge(planned, ending, change)
    planned.expire()
    assert outcomes(planned) == {Refusal.CONTENTS: 2, TAKEN_OVER: 2}
    assert steps.settle(planned.run)["prepared"] == {Refusal.CONTENTS.value: 2, TAKEN_OVER: 2}
    assert [one.levelname for one in caplog.records if Refusal.CONTENTS.value in one.message] == ["ERROR"] * 2
    assert_only_what_is_due_went(planned)
    if change is _altered:
        assert not any(record.line == "GET altered" for record in look(planned.store).logs)


def test_a_note_alone_removes_no_object(planned: Planned) -> None:
    """A note by the right facts, which says that all was due: nobody's word is enough to destroy."""
    prepare(planned)
    for ending in ENDINGS:
        told = json.loads(planned.store.read_object(STAGING, note_key(planned.prefix, key(ending))))
        _change_note(planned, ending, kept=0, removed={"consumer_default": told["before"]}, sha256="")
    planned.expire()
    assert outcomes(planned) == {Refusal.COUNTS: 2, TAKEN_OVER: 2}
    assert_only_what_is_due_went(planned)


def test_staging_that_makes_no_sense_is_in_nobody_s_way(planned: Planned) -> None:
    """Promise 2: objects are disposed of all the same; and what has no proof of the plan's is not looked at."""
    prepare(planned)
    for body, part in ((b"no note", 0), (b'{"kept": 1}', 1)):
        planned.store.put_object(STAGING, note_key(planned.prefix, key("jsonl.gz", part=part)), body)
    name = key("parquet", part=1)
    planned.store.sql(
        "DELETE FROM lifecycle.log_rests WHERE key_sha256 = %s", hashlib.sha256(name.encode()).hexdigest()
    )
    planned.expire()
    assert outcomes(planned) == {Refusal.NOTE: 2, TAKEN_OVER: 1}
    assert_only_what_is_due_went(planned)


def _other_rest(planned: Planned) -> None:
    """Bytes that are not those of the note."""
    body = gzip.compress(b"")
    planned.store.put_object(STAGING, rest_key(planned.prefix, key("jsonl.gz")), body)


def _short_rest(planned: Planned) -> None:
    """A rest that misses a line which must stay, with a note that owns up to its bytes and not to the loss."""
    name = rest_key(planned.prefix, key("jsonl.gz"))
    lines = gzip.decompress(planned.store.read_object(STAGING, name)).splitlines(keepends=True)
    body = gzip.compress(b"".join(lines[1:]))
    planned.store.put_object(STAGING, name, body)
    _change_note(planned, "jsonl.gz", sha256=hashlib.sha256(body).hexdigest())


def _overwritten(planned: Planned) -> None:
    """The object was written again; the note is about a version that is the latest no more."""
    planned.store.put_object(LOGS, key("jsonl.gz"), planned.store.read_object(LOGS, key("jsonl.gz")))


def _other_code(planned: Planned) -> None:
    _change_note(planned, "jsonl.gz", digest="0" * 64)


def _lost_rest(planned: Planned) -> None:
    planned.store.s3.delete_object(Bucket=STAGING, Key=rest_key(planned.prefix, key("jsonl.gz")))


def _change_note(planned: Planned, ending: str, **changed: Any) -> None:
    name = note_key(planned.prefix, key(ending))
    told = json.loads(planned.store.read_object(STAGING, name)) | changed
    planned.store.put_object(STAGING, name, Note(**told).to_json())


@pytest.mark.parametrize("spoil", [_other_rest, _short_rest, _overwritten, _other_code, _lost_rest])
def test_what_does_not_fit_is_rewritten_here(planned: Planned, spoil: Callable[[Planned], None]) -> None:
    """Promises 1 and 3: the cluster is not believed."""
    prepare(planned)
    spoil(planned)
    planned.expire()
    assert len([done for done in planned.adopted if done]) == 3
    assert_only_what_is_due_went(planned)


def test_an_object_that_is_gone_before_the_cluster_reads_it_is_left_to_us(planned: Planned) -> None:
    name = key("jsonl.gz", part=1)
    (version,) = planned.store.s3.list_object_versions(Bucket=LOGS, Prefix=name)["Versions"]
    planned.store.s3.delete_object(Bucket=LOGS, Key=name, VersionId=version["VersionId"])
    assert prepare(planned) == {"prepared": 3, "changed": 1}
    planned.expire()
    assert len([done for done in planned.adopted if done]) == 3
    assert_only_what_is_due_went(planned)


def test_other_code_refuses_the_inputs(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster must judge by the same definition; a wheel of another day does not."""
    text = planned.store.read_object(STAGING, f"{planned.prefix}{INPUTS}")
    assert Inputs.from_json(text).to_json() == text.decode()
    monkeypatch.setattr(frozen, "definition", lambda: "of another day")
    with pytest.raises(PreconditionError, match="another version"):
        Inputs.from_json(text)


def test_the_frozen_judge_can_be_asked_by_day(planned: Planned) -> None:
    """Case 23: a line without a clock counts from the end of the day it was filed under."""
    inputs = Inputs.from_json(planned.store.read_object(STAGING, f"{planned.prefix}{INPUTS}"))
    assert inputs.judge(date(2023, 1, 1))("r", "s", "consumer", None) == "unclassified"
    assert inputs.judge(inputs.as_of.date())("r", "s", "consumer", None) is None
