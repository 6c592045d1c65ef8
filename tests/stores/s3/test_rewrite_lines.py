"""Lines that stay survive byte for byte, however they are packed and however odd they are (case 23)."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import zlib
from array import array
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lifecycle.errors import VerificationError
from lifecycle.stores.s3 import cutting, jsonl, logs, records
from lifecycle.stores.s3.logs import RewriteResult, inspect_object, rewrite_object
from lifecycle.stores.s3.packing import packing, pieces
from lifecycle.stores.s3.records import Judge, LogFields, Ordinary, Tally, UnreadableObjectError, values_of_line
from lifecycle.stores.s3.versions import key_versions
from stores.s3 import LOGS
from support.permits import CountingPermit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIELDS = LogFields("message_id", "account_id", "tier", "received_at")
CUTOFF = datetime(2026, 6, 1, tzinfo=UTC)
TIERS = ("beta", "business")
NAMED = frozenset({"held", "é"})
LATE = "2026-06-02T12:00:00Z"


def decide(record: str, subject: str, tier: str, clock: datetime | None) -> str | None:
    """Past the cut-off, unless its account or its id is held; what lacks something goes as unclassified."""
    if NAMED & {record.lower(), subject.lower()}:
        return None
    if tier not in TIERS or clock is None:
        return "unclassified" if clock is None or clock < CUTOFF - timedelta(days=5) else None
    return f"{tier}_default" if clock < CUTOFF else None


QUICK = Judge(decide, Ordinary({tier: (CUTOFF, f"{tier}_default") for tier in TIERS}, NAMED, NAMED))


def line(
    record: object = "m", subject: object = "a", tier: object = "beta", clock: object = None, **more: Any
) -> bytes:
    clock = "2026-06-02T12:00:00Z" if clock is None else clock
    told = {"message_id": record, "account_id": subject, "tier": tier, "received_at": clock, **more}
    return json.dumps(told).encode()


DUE = line("m1", clock="2026-05-01T00:00:00Z")
ODD = [
    b"",
    b"  \t",
    b"not json",
    b"\xff\xfe",
    b"[" * 3000,
    b'{"x":' + b"[" * 3000 + b"]" * 3000 + b"," + DUE[1:],
    b"\xef\xbb\xbf" + DUE,
    DUE + b"\r",
    b"  " + DUE + b"  ",
    DUE + DUE,
    DUE[:-1] + b',"message_id":"held"}',
    b'{"message_id":"held",' + DUE[1:],
    DUE[:-1] + b',"n":123456789012345678901234567890,"f":0.1000000000000000055511151231257827,"g":1e999}',
    DUE[:-1] + b',"n":' + b"9" * 5000 + b"}",
    DUE[:-1] + b',"n":NaN}',
    DUE[:-1] + b',"n":Inf}',
    DUE[:-1] + b',"n":-NaN}',
    DUE[:-1] + b',"n":Infinity}',
    DUE[:-1] + b',"s":"Information \\ud800 \x7f"}',
    DUE[:-1] + b',"s":"\x00"}',
    DUE[:-1] + b',"s":"\xff"}',
    DUE[:-1] + ',"s":"é \u2028 \x85"}'.encode(),
    DUE.replace(b"message_id", b"message\\u005fid"),
    DUE.replace(b'"m1"', b"17"),
    DUE.replace(b'"m1"', b"null"),
    line("HELD", clock="2026-05-01T00:00:00Z"),
    line("É", clock="2026-05-01T00:00:00Z"),
    line("m", {"a": 1}),
    line(clock="2026-05-01"),
    line(clock="2026-05-01T00:00:00"),
    line(clock="0001-01-01T00:00:00+05:00"),
    line(clock="yesterday"),
    line(clock=1780000000),
    b'{"a":\n1}\n{}{}',
    b'{"a":',
    b"1}",
    b"{}",
    b"{}{}",
    b"[{}]",
]
CLOCKS = st.integers(-3600, 3600).map(lambda seconds: (CUTOFF + timedelta(seconds=seconds)).isoformat())
LINES = st.one_of(
    st.just(DUE),
    st.builds(line, st.uuids().map(str), st.sampled_from(["a", "held", "Held"]), st.sampled_from(TIERS), CLOCKS),
    st.sampled_from(ODD),
    st.builds(line, st.text(), st.text(), st.text(), st.text(), more=st.text()),
    st.binary(max_size=20).map(lambda some: some.replace(b"\n", b"")),
)


def pack(body: bytes, kind: str, cuts: Sequence[int] = ()) -> bytes:
    """In one member or frame, or several."""
    parts = [body[a:b] for a, b in zip((0, *sorted(cuts)), (*sorted(cuts), len(body)), strict=True)]
    return b"".join(gzip.compress(part, 6) if kind == "gzip" else _zstd(part) if kind else part for part in parts)


def _zstd(body: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(body)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def rewritten(folder: Path, packed: bytes, judge: Any) -> tuple[Tally, bytes]:
    source, target = folder / "source", folder / "target"
    source.write_bytes(packed)
    tally, seen, check = Tally(judge), Tally(judge, gone=array("Q")), Tally(judge)
    jsonl.rewrite(source, target, FIELDS, tally)
    jsonl.scan(source, FIELDS, seen)
    if seen.gone is not None:
        cutting.cut(source, folder / "cut", seen.gone)
        assert list(pieces(folder / "cut")) == list(pieces(target))
    jsonl.scan(target, FIELDS, check)
    assert (seen.before, seen.kept, seen.unclassified, seen.removed) == counts(tally)
    assert (check.before, check.due) == (tally.kept, 0)
    assert jsonl.differences(source, target) == [] or not packed
    return tally, b"".join(pieces(target))


def counts(tally: Tally) -> tuple[Any, ...]:
    return tally.before, tally.kept, tally.unclassified, tally.removed


def expected(body: bytes) -> tuple[Tally, bytes]:
    tally = Tally(decide)
    lines = [one for one in io.BytesIO(body) if not one.strip() or tally.keeps(values_of_line(one, FIELDS))]
    return tally, b"".join(lines)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(LINES, max_size=12),
    end=st.sampled_from([b"\n", b"\r\n"]),
    ended=st.booleans(),
    kind=st.sampled_from(["", "gzip", "zstd"]),
    cuts=st.lists(st.integers(0, 400), max_size=2),
)
def test_case_23_any_lines_in_any_packing(
    tmp_path: Path, lines: list[bytes], end: bytes, ended: bool, kind: str, cuts: list[int]
) -> None:
    """Case 23: judged by column or one by one, the same lines stay, byte for byte, and the same are counted."""
    body = end.join(lines) + (end if ended else b"")
    packed = pack(body, kind, [min(cut, len(body)) for cut in cuts])
    wanted, rest = expected(body)
    # Plain lines that begin like something packed are taken for it, and refused.
    assume(kind or not {body[:2], rest[:2]} & {b"\x1f\x8b", b"\x28\xb5"})
    for judge in (QUICK, decide):
        tally, found = rewritten(tmp_path, packed, judge)
        assert found == rest
        assert counts(tally) == counts(wanted)


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_case_23_an_odd_line_among_ordinary_ones(tmp_path: Path, odd: bytes) -> None:
    """Case 23: it changes neither its own fate nor its neighbours' by standing between them."""
    stays = line("m2", n=1)
    for variant in {odd, odd.replace(b"2026-05-01", b"2026-06-02")}:
        body = b"\n".join([DUE, stays, variant, stays, DUE, variant, DUE])
        wanted, rest = expected(body)
        tally, found = rewritten(tmp_path, body, QUICK)
        assert (found, counts(tally)) == (rest, counts(wanted))


def test_ordinary_lines_are_not_put_to_the_decision(tmp_path: Path) -> None:
    """Promise 8: what is asked one by one is the exceptions, and only they."""
    asked: list[str] = []

    def noting(record: str, subject: str, tier: str, clock: datetime | None) -> str | None:
        asked.append(record)
        return decide(record, subject, tier, clock)

    body = b"".join(line(f"m{n}", clock=f"2026-0{5 + n % 2}-02T00:00:00Z") + b"\n" for n in range(1000))
    body += line("held", clock="2026-05-02T00:00:00+02:00")
    tally, _ = rewritten(tmp_path, body, Judge(noting, QUICK.ordinary))
    assert (tally.before, tally.kept) == (1001, 501)
    assert set(asked) == {"held"}


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_many_pieces_become_one_stream(tmp_path: Path, kind: str) -> None:
    """Some readers stop after the first member or frame: what would look to them like a loss is not written."""
    body = b"".join((DUE if n % 3 else line(f"m{n}", body="x" * (n % 500))) + b"\n" for n in range(30_000))
    cuts = (len(body) // 3, len(body) // 2)
    wanted, rest = expected(body)
    tally, found = rewritten(tmp_path, pack(body, kind, cuts), QUICK)
    assert len(rest) > 3 << 20
    assert (found, counts(tally)) == (rest, counts(wanted))
    packed = (tmp_path / "target").read_bytes()
    assert len(packed) < 1.05 * len(pack(rest, kind))
    if kind == "gzip":
        one = zlib.decompressobj(zlib.MAX_WBITS | 16)
        assert one.decompress(packed) == rest
        assert (one.eof, one.unused_data) == (True, b"")
    else:
        assert packed.count(b"\x28\xb5\x2f\xfd") == 1


def test_what_goes_is_remembered_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours are one stretch, also across pieces; too many are judged again instead."""
    monkeypatch.setattr(records, "MOST_GONE", 3)
    stays = line("m2")
    for lines, noted in (([DUE] * 9000 + [stays], 1), ([stays, DUE] * 3, 3), ([stays, DUE] * 4, None)):
        (tmp_path / "source").write_bytes(b"\n".join(lines))
        tally = Tally(QUICK, gone=array("Q"))
        jsonl.scan(tmp_path / "source", FIELDS, tally)
        assert tally.due == lines.count(DUE)
        assert (None if tally.gone is None else len(tally.gone) // 2) == noted


@pytest.mark.parametrize("packed", ["", "zstd"])
def test_what_was_cut_is_proven_byte_by_byte(tmp_path: Path, packed: str) -> None:
    """A stretch that is no whole line, a line too many or too few, another byte: each is named, nothing quoted."""
    lines = [line(f"m{number}") + b"\n" for number in range(20)]
    source, target, body = tmp_path / "source", tmp_path / "target", b"".join(lines)
    source.write_bytes(pack(body, packed))
    begin, end = len(lines[0]), len(lines[0]) + len(lines[1]) + len(lines[2])

    def told(*bounds: int, due: int = 2, rest: bytes | None = None) -> list[str]:
        cutting.cut(source, target, array("Q", bounds))
        if rest is not None:
            target.write_bytes(rest)
        return cutting.wrong(jsonl.blocks(source), target, array("Q", bounds), due)

    assert told(begin, end) == []
    assert told(begin, len(body), due=19) == []
    assert told(begin, end, due=1) == ["the lines that went, 2 instead of 1"]
    assert told(begin + 1, end) == told(begin, end - 1) == ["where lines end"]
    left = body[:begin] + body[end:]
    for other in (body, left[:-1], left + lines[1], left.replace(b"m5", b"m6"), b""):
        assert told(begin, end, rest=other) == ["the lines that stay"]


def test_a_bad_cut_is_refused_before_the_store_is_touched(s3: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "requests/date=2026-06-01/part-0.jsonl"
    s3.put_object(Bucket=LOGS, Key=key, Body=DUE + b"\n" + line("k") + b"\n")
    careless = SimpleNamespace(cut=lambda source, target, gone: shutil.copy(source, target), wrong=cutting.wrong)
    monkeypatch.setattr(logs, "cutting", careless)
    with pytest.raises(VerificationError, match="differs in the lines that stay"):
        rewrite_object(s3, CountingPermit(), LOGS, key, FIELDS, QUICK)
    assert len(list(key_versions(s3, LOGS, key))) == 1


@pytest.mark.parametrize("level", [1, 6, 9])
def test_the_effort_of_compression_is_kept(tmp_path: Path, level: int) -> None:
    body = b"".join(line(f"m{n}", body=str(n) * 7) + b"\n" for n in range(5000))
    (tmp_path / "a").write_bytes(gzip.compress(body, level) if level != 6 else pack(body, "gzip"))
    source = bytearray((tmp_path / "a").read_bytes())
    source[8] = {1: 4, 6: 0, 9: 2}[level]  # as gzip writes it; Python's own header always says 2 or 0
    rewritten(tmp_path, bytes(source), QUICK)
    target = (tmp_path / "target").read_bytes()
    assert target[8] == source[8]
    assert abs(len(target) - len(source)) < 0.02 * len(source)


BROKEN = {
    "gzip cut off": pack(DUE * 100, "gzip")[:-3],
    "gzip with garbage behind": pack(DUE, "gzip") + b"garbage",
    "zstd cut off": pack(DUE * 100, "zstd")[:-3],
    "zstd cut off between frames": pack(DUE, "zstd") + pack(DUE, "zstd")[:6],
    "zstd with garbage behind": pack(DUE, "zstd") + b"garbage",
}


@pytest.mark.parametrize("how", BROKEN)
def test_case_23_what_cannot_be_decompressed_is_refused(tmp_path: Path, how: str) -> None:
    """Case 23: a part of an object is never taken for the whole."""
    (tmp_path / "source").write_bytes(BROKEN[how])
    with pytest.raises(UnreadableObjectError, match="decompressed"):
        jsonl.scan(tmp_path / "source", FIELDS, Tally(QUICK))


def test_a_line_of_any_length_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 23: what is refused is the object, which then stays and is counted; nothing of it is cut."""
    monkeypatch.setattr(jsonl, "LONGEST_LINE", 1 << 20)
    short, long = line("m", body="x" * 900_000), line("m", body="x" * 2_000_000)
    for lines, fits in (([short, short, DUE, short], True), ([short, long], False), ([long], False)):
        (tmp_path / "source").write_bytes(pack(b"\n".join(lines), "gzip"))
        tally = Tally(QUICK)
        if fits:
            jsonl.scan(tmp_path / "source", FIELDS, tally)
            assert (tally.before, tally.due) == (4, 1)
        else:
            with pytest.raises(UnreadableObjectError, match="line longer than"):
                jsonl.scan(tmp_path / "source", FIELDS, tally)


def test_a_zstd_object_in_the_store(s3: S3Client) -> None:
    key, stays = "requests/date=2026-06-01/part-0.jsonl.zst", line("m2")
    s3.put_object(Bucket=LOGS, Key=key, Body=pack(b"\n".join([DUE, stays, DUE]), "zstd"))
    told = RewriteResult("rewritten", 3, 1, {"beta_default": 2}, 0, 1)
    assert inspect_object(s3, LOGS, key, FIELDS, QUICK) == told
    assert rewrite_object(s3, CountingPermit(), LOGS, key, FIELDS, QUICK) == told
    body = s3.get_object(Bucket=LOGS, Key=key)["Body"].read()
    assert pa.CompressedInputStream(pa.BufferReader(body), "zstd").read() == stays + b"\n"
    # One of two broken frames: refused whole, counted, and left.
    broken = body[:-4]
    s3.put_object(Bucket=LOGS, Key=key, Body=broken)
    assert rewrite_object(s3, CountingPermit(), LOGS, key, FIELDS, QUICK).unclassified == 1
    assert s3.get_object(Bucket=LOGS, Key=key)["Body"].read() == broken


def test_case_23_an_older_version_that_cannot_be_read_to_its_end_stays(s3: S3Client) -> None:
    """Case 23: what could be read of it stands in the latest version too, and the rest nobody knows."""
    key = "requests/date=2026-06-01/part-0.jsonl.gz"
    lines = [line(f"m{n}", body="x" * 300) for n in range(3000)]
    s3.put_object(Bucket=LOGS, Key=key, Body=pack(b"\n".join(lines), "gzip")[:-20])
    s3.put_object(Bucket=LOGS, Key=key, Body=pack(b"\n".join([*lines, DUE]), "gzip"))
    before = key_versions(s3, LOGS, key)
    with pytest.raises(VerificationError, match="older version"):
        rewrite_object(s3, CountingPermit(), LOGS, key, FIELDS, QUICK)
    assert key_versions(s3, LOGS, key) == before


def test_packing_is_told_by_content(tmp_path: Path) -> None:
    for body, kind in ((b"", ""), (b"{}", ""), (pack(b"x", "gzip"), "gzip"), (b"\x50\x2a\x4d\x18\0\0\0\0", "zstd")):
        (tmp_path / "file").write_bytes(body)
        assert packing(tmp_path / "file") == kind
