"""Rests that were made elsewhere are taken over if, and only if, they are what would be made here now."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import date

import pytest

from dispositions.test_logs import ENDINGS, key, log_world, mixed
from lifecycle.errors import PreconditionError
from lifecycle.prepared import inputs as frozen
from lifecycle.prepared.inputs import Inputs
from lifecycle.prepared.job import INPUTS, OBJECTS
from lifecycle.prepared.notes import Note, note_key, rest_key
from lifecycle.prepared.worker import items_of, prepare_all
from oracle.facts import ident
from oracle.load import LOGS
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


def assert_only_what_is_due_went(planned: Planned, *also_held: str) -> None:
    left = look(planned.store).logs
    for ending in ENDINGS:
        stay, go = mixed(ending)
        for name, line in {**stay, **go}.items():
            assert left[line] == (name in stay or name in also_held), name


def test_what_was_prepared_is_taken_over_and_staging_is_empty(planned: Planned) -> None:
    """One pass over every kind of exception: the cluster judges as the oracle. Promise 6: nothing stays behind."""
    due = len([line for line in log_world().logs if line.key.endswith(tuple(ENDINGS))])
    assert prepare(planned) == {"prepared": 4, "unchanged": 2}
    assert prepare(planned) == {"already": 4, "unchanged": 2}
    planned.expire()
    assert [done.action for done in planned.adopted if done] == ["rewritten", "rewritten", "removed", "removed"]
    assert_only_what_is_due_went(planned)
    assert due - look(planned.store).logs.total() == gone_lines(planned)
    assert planned.store.keys(STAGING, f"{planned.prefix}notes/") == []
    assert planned.store.keys(STAGING, f"{planned.prefix}rests/") == []
    stored = planned.store.s3.list_object_versions(Bucket=LOGS)["Versions"]
    assert len({version["Key"] for version in stored}) == len(stored)


def test_a_hold_that_comes_after_the_cluster_has_judged_wins_case_4(planned: Planned) -> None:
    """Promise 1: the notes were made without it, so none is taken over; this machine judges anew."""
    prepare(planned)
    target = str(ident("log", "consumer"))
    planned.store.insert("lifecycle.legal_holds", scope="message", target=target, reason="case", placed_by="counsel")
    planned.expire()
    assert planned.adopted == [None] * 4
    assert_only_what_is_due_went(planned, "consumer")


def _other_rest(planned: Planned) -> None:
    """Bytes that are not those of the note."""
    body = gzip.compress(b"")
    planned.store.put_object(STAGING, rest_key(planned.prefix, key("jsonl.gz")), body)


def _short_rest(planned: Planned) -> None:
    """A rest that misses a line which must stay, with a note that owns up to its bytes and not to the loss."""
    import hashlib

    name = rest_key(planned.prefix, key("jsonl.gz"))
    lines = gzip.decompress(planned.store.read_object(STAGING, name)).splitlines(keepends=True)
    body = gzip.compress(b"".join(lines[1:]))
    planned.store.put_object(STAGING, name, body)
    _change_note(planned, sha256=hashlib.sha256(body).hexdigest())


def _overwritten(planned: Planned) -> None:
    """The object was written again; the note is about a version that is the latest no more."""
    planned.store.put_object(LOGS, key("jsonl.gz"), planned.store.read_object(LOGS, key("jsonl.gz")))


def _other_code(planned: Planned) -> None:
    _change_note(planned, digest="0" * 64)


def _lost_rest(planned: Planned) -> None:
    planned.store.s3.delete_object(Bucket=STAGING, Key=rest_key(planned.prefix, key("jsonl.gz")))


def _change_note(planned: Planned, **changed: str) -> None:
    name = note_key(planned.prefix, key("jsonl.gz"))
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
    assert prepare(planned) == {"prepared": 3, "changed": 1, "unchanged": 2}
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
