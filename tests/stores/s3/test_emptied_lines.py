"""Fields of lines are emptied, the lines stay: nothing but these values changes, in any packing (case 23)."""

from __future__ import annotations

import io
import json
from array import array
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lifecycle.errors import VerificationError
from lifecycle.stores.s3 import emptying, forms, jsonl
from lifecycle.stores.s3.logs import RewriteResult, inspect_object, rewrite_object
from lifecycle.stores.s3.outline import Known, Outline, may_hold
from lifecycle.stores.s3.packing import pieces
from lifecycle.stores.s3.records import Judge, LogFields, Ordinary, Tally, values_of_line
from lifecycle.stores.s3.versions import ObjectVersion, key_versions
from stores.s3 import LOGS
from stores.s3.test_rewrite_lines import LINES, QUICK, counts, decide, line, pack
from support.permits import CountingPermit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLEAR = ("prompt", "request.messages", "choices.message.content", "a.b.c")
FIELDS = LogFields("message_id", "account_id", "tier", "received_at", CLEAR)
PAST = "2026-05-01T00:00:00Z"
SECRET = "secret-7f3a"
CONTENT = {"prompt": SECRET, "request": {"messages": [SECRET], "model": "m"}, "n": 1.50}


def oracle(value: Any, *path: str) -> Any:
    """What is left of a parsed value, written down without the engine: the key of a whole path, or of what led here."""
    if isinstance(value, list):
        return [oracle(each, *path) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: None if names(*path, key) else oracle(held, *path, key) for key, held in value.items()}


def parsed_of(one: bytes) -> Any:
    """Numbers as text: some are too long for Python."""
    return json.loads(one, parse_int=str)


def names(*path: str) -> bool:
    return ".".join(path) in CLEAR


def seen(value: Any, *path: str) -> bool:
    """Whether a field holds anything."""
    if isinstance(value, list):
        return any(seen(each, *path) for each in value)
    if not isinstance(value, dict):
        return False
    return any(held is not None if names(*path, key) else seen(held, *path, key) for key, held in value.items())


KEYS = st.sampled_from(["prompt", "request", "messages", "choices", "message", "content", "a", "b", "a.b", "b.c", "x"])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)


def told(past: bool, more: dict[str, Any]) -> bytes:
    return line(clock=PAST if past else None, **more)


RECORDS = st.builds(told, st.booleans(), st.dictionaries(KEYS, VALUES, max_size=4))


def told_of(parsed: Any) -> bool | None:
    return None if parsed is None else seen(parsed)


def expected(body: bytes) -> tuple[Tally, list[Any]]:
    """Line by line: what was parsed, without its content where it is due."""
    tally, rest = Tally(decide, empties=True), list[Any]()
    for one in io.BytesIO(body):
        if not one.strip():
            rest.append(one)
            continue
        values = values_of_line(one, FIELDS)
        parsed = None if values is None else parsed_of(one)
        stays = tally.keeps(values, partial(told_of, parsed))
        rest.append(one if stays else oracle(parsed))
    return tally, rest


def rewritten(folder: Path, packed: bytes, judge: Any) -> tuple[Tally, bytes]:
    source, target = folder / "source", folder / "target"
    source.write_bytes(packed)
    tally, first, check = (Tally(judge, empties=True) for _ in range(3))
    jsonl.scan(source, FIELDS, first)
    jsonl.rewrite(source, target, FIELDS, tally)
    jsonl.scan(target, FIELDS, check)
    assert counts(first) == counts(tally)
    assert (check.before, check.due) == (tally.before, 0)
    assert jsonl.unlike(source, target, FIELDS, tally.due) == []
    assert jsonl.differences(source, target) == [] or not packed
    return tally, b"".join(pieces(target))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.one_of(RECORDS, LINES.filter(lambda one: b"[" * 99 not in one)), max_size=8),
    end=st.sampled_from([b"\n", b"\r\n"]),
    ended=st.booleans(),
    kind=st.sampled_from(["", "gzip", "zstd"]),
)
def test_case_23_any_lines_in_any_packing(
    tmp_path: Path, lines: list[bytes], end: bytes, ended: bool, kind: str
) -> None:
    """What is due loses its fields and nothing else; every other line stays byte for byte."""
    body = end.join(lines) + (end if ended else b"")
    assume(kind or body[:2] not in (b"\x1f\x8b", b"\x28\xb5"))
    wanted, rest = expected(body)
    for judge in (QUICK, decide):
        tally, found = rewritten(tmp_path, pack(body, kind), judge)
        assert counts(tally) == counts(wanted)
        assert repr([one if isinstance(want, bytes) else parsed_of(one) for one, want in _beside(found, rest)]) == (
            repr(rest)
        )


def _beside(found: bytes, rest: Sequence[Any]) -> list[tuple[bytes, Any]]:
    return list(zip(io.BytesIO(found), rest, strict=True))


def test_every_other_byte_is_as_it_was() -> None:
    """Numbers that no parser gives back, escapes, blanks, keys that occur twice, and a mark before the first byte."""
    odd = (
        b'\xef\xbb\xbf { "n" : 1.50 ,"big":123456789012345678901234567890,"e":1E+2, "prompt" :\t"s\\u0065cret" ,'
        b'"prompt":{"deep":[1,{"x":"\\""}]},"\\u0070rompt":7, "request":[{"messages":"\xc3\xa9"},{"messages":null}],'
        b'"a":{"b.c":1,"b":{"c":2,"d":3}},"a.b":{"c":4},"a.b.c":5,"request.messages":6,"other":{"prompt":"stays"}} \r\n'
    )
    wanted = (
        b'\xef\xbb\xbf { "n" : 1.50 ,"big":123456789012345678901234567890,"e":1E+2, "prompt" :\tnull ,'
        b'"prompt":null,"\\u0070rompt":null, "request":[{"messages":null},{"messages":null}],'
        b'"a":{"b.c":null,"b":{"c":null,"d":3}},"a.b":{"c":null},"a.b.c":null,"request.messages":null,'
        b'"other":{"prompt":"stays"}} \r\n'
    )
    assert emptying.holds(odd, CLEAR) is True
    assert emptying.emptied(odd, CLEAR) == wanted
    assert emptying.holds(wanted, CLEAR) is False
    assert emptying.emptied(wanted, CLEAR) == wanted


@pytest.mark.parametrize(
    "odd", [b"no json", b"[]", b'{"prompt":1}{}', b'{"prompt":', b"\xff\xfe{\0}\0", b'{"x":' + b"[" * 99_999, b""]
)
def test_case_23_fields_that_cannot_be_found_are_left_and_told(odd: bytes) -> None:
    assert emptying.holds(odd, CLEAR) is None
    with pytest.raises(ValueError, match="cannot be found"):
        emptying.emptied(odd, CLEAR)


def test_case_23_a_line_whose_fields_cannot_be_found_stays_and_is_counted(tmp_path: Path) -> None:
    deep = line(clock=PAST)[:-1] + b',"prompt":' + b"[" * 99_000 + b"]" * 99_000 + b"}"
    body = b"\n".join([line(clock=PAST, prompt=SECRET), deep, line(clock=PAST, prompt=SECRET), b"no json"])
    tally, found = rewritten(tmp_path, body, QUICK)
    assert (tally.due, tally.kept, tally.unclassified) == (2, 2, 2)
    assert deep in found
    assert SECRET.encode() not in found


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda text: text.replace(b"1.5", b"1.50"), "what stays of the lines that are emptied"),
        (lambda text: text.replace(b'"m"', b"null", 1), "what stays of the lines that are emptied"),
        (lambda text: text + b"{}\n", "the number of lines"),
        (lambda text: text[: text.rindex(b'{"message_id')], "the number of lines"),
        (lambda text: text.replace(b"\n", b"\r\n"), "what stays of the lines that are emptied"),
    ],
)
def test_what_is_not_the_source_without_its_content_is_refused(tmp_path: Path, change: Any, fault: str) -> None:
    """Promise 3: before the store is touched, by a reading of its own."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"".join(line(clock=PAST, **CONTENT) + b"\n" for _ in range(3)))
    jsonl.rewrite(source, target, FIELDS, Tally(QUICK, empties=True))
    assert jsonl.unlike(source, target, FIELDS, 3) == []
    assert jsonl.unlike(source, target, FIELDS, 2) == ["the lines that are emptied, 3 instead of 2"]
    target.write_bytes(change(target.read_bytes()))
    assert jsonl.unlike(source, target, FIELDS, 3) == [fault]


def test_what_is_empty_already_is_not_written_again(s3: S3Client) -> None:
    """Promise 4: the second time makes no request that changes anything; what is remembered says that it is clean."""
    key, learned = "requests/date=2026-06-01/part-0.jsonl.gz", list[Known]()
    lines = [line("old", clock=PAST, **CONTENT), line("held", clock=PAST, **CONTENT), line("young", **CONTENT)]
    s3.put_object(Bucket=LOGS, Key=key, Body=pack(b"\n".join(lines), "gzip"))

    def learn(version: ObjectVersion, known: Known) -> None:
        learned.append(known)

    told = RewriteResult("rewritten", 3, 2, {"beta_default": 1}, 0, 1)
    assert inspect_object(s3, LOGS, key, FIELDS, QUICK, learn) == told
    assert learned == []
    assert rewrite_object(s3, CountingPermit(), LOGS, key, FIELDS, QUICK) == RewriteResult(
        "rewritten", 3, 2, {"beta_default": 1}, 0, 1
    )
    (version,) = key_versions(s3, LOGS, key)
    permit = CountingPermit()
    assert rewrite_object(s3, permit, LOGS, key, FIELDS, QUICK).action == "unchanged"
    assert permit.checks == 0
    assert key_versions(s3, LOGS, key) == [version]
    assert inspect_object(s3, LOGS, key, FIELDS, QUICK, learn).action == "unchanged"
    (known,) = learned
    # The one that is held still holds something; the one that is empty concerns nobody any more.
    assert (known.rows, known.oldest["beta"].isoformat()) == (3, "2026-05-01T00:00:00+00:00")
    assert [may_hold(known.records, [name]) for name in ("old", "held", "young")] == [False, True, True]


def test_a_careless_rewrite_is_refused_before_the_store_is_touched(
    s3: S3Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 3: it takes more than it should, so nothing is written."""
    key = "requests/date=2026-06-01/part-1.jsonl"
    s3.put_object(Bucket=LOGS, Key=key, Body=line(clock=PAST, **CONTENT) + b"\n")
    before = key_versions(s3, LOGS, key)

    def rewrite(source: Path, target: Path, fields: LogFields, tally: Tally) -> None:
        jsonl.rewrite(source, target, fields, tally)
        target.write_bytes(target.read_bytes().replace(b'"model": "m"', b'"model": null'))

    others = {name: getattr(jsonl, name) for name in ("scan", "differences", "unlike")}
    monkeypatch.setitem(forms._FORMS, ".jsonl", cast(Any, SimpleNamespace(**others, rewrite=rewrite)))
    with pytest.raises(VerificationError, match="what stays of the lines that are emptied"):
        rewrite_object(s3, CountingPermit(), LOGS, key, FIELDS, QUICK)
    assert key_versions(s3, LOGS, key) == before


def test_an_older_version_with_content_goes_only_if_its_records_stay(s3: S3Client) -> None:
    """Promises 1 and 2: content that a former version still holds is due too, but the record must be in the latest."""
    key = "requests/date=2026-06-01/part-2.jsonl"
    old = b"\n".join([line("one", clock=PAST, **CONTENT), line("two", clock=PAST, **CONTENT)])
    s3.put_object(Bucket=LOGS, Key=key, Body=old)
    s3.put_object(Bucket=LOGS, Key=key, Body=b"\n".join([line("one", clock=PAST), line("two", clock=PAST)]))
    done = rewrite_object(s3, CountingPermit(), LOGS, key, FIELDS, QUICK)
    assert (done.removed, done.versions_deleted) == ({"beta_default": 2}, 1)
    assert len(key_versions(s3, LOGS, key)) == 1
    s3.put_object(Bucket=LOGS, Key=key, Body=old)
    s3.put_object(Bucket=LOGS, Key=key, Body=line("one", clock=PAST))
    with pytest.raises(VerificationError, match="latest version"):
        rewrite_object(s3, CountingPermit(), LOGS, key, FIELDS, QUICK)


def test_a_period_of_months_is_judged_by_column_except_near_its_end(tmp_path: Path) -> None:
    """Promise 8: whether a month is over can be told of all lines but those of a few days, which are asked about."""
    asked: list[str] = []

    def noting(record: str, subject: str, tier: str, clock: datetime | None) -> str | None:
        asked.append(record)
        return decide(record, subject, tier, clock)

    since = datetime.fromisoformat("2026-05-28T00:00:00Z")
    until = datetime.fromisoformat("2026-06-05T00:00:00Z")
    judge = Judge(noting, Ordinary({"beta": (until, "beta_default")}, frozenset(), frozenset(), {"beta": since}))
    days = ["05-27", "05-28", "05-31", "06-01", "06-04", "06-05"]
    (tmp_path / "source").write_bytes(b"\n".join(line(day, clock=f"2026-{day}T00:00:00Z") for day in days))
    tally = Tally(judge, outline=Outline(), gone=array("Q"))
    jsonl.scan(tmp_path / "source", LogFields(*FIELDS.names()), tally)
    assert (tally.removed, tally.kept) == ({"beta_default": 3}, 3)
    assert asked == days[1:5]
    assert tally.outline is not None
    assert tally.outline.rows == len(days)
