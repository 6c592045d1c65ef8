"""The auditor reads log objects in each form by itself, sharing nothing with what rewrites them."""

from __future__ import annotations

import gzip
import io
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
from botocore.response import StreamingBody

from lifecycle.catalog.models import Catalog
from lifecycle.validation.log_content import fields_in, parsed
from lifecycle.validation.log_lines import UnreadableError, read_lines

LINES = b'{"message_id":"m1","account_id":"a","tier":"beta","received_at":"2026-06-01T00:00:00Z"}\n{"message_id":"m2"}'


def zstd(body: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(body)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def store_of(body: bytes) -> Any:
    def get(**_: str) -> dict[str, Any]:
        return {"Body": StreamingBody(io.BytesIO(body), len(body))}

    return cast(Any, SimpleNamespace(get_object=get))


FORMS = {"a.jsonl": LINES, "a.jsonl.gz": gzip.compress(LINES), "a.jsonl.zst": zstd(LINES[:60]) + zstd(LINES[60:])}


@pytest.mark.parametrize("key", FORMS)
def test_lines_are_read(catalog: Catalog, key: str) -> None:
    lines = list(read_lines(store_of(FORMS[key]), catalog.logs[0], key, None))
    assert [(line.message, line.broken) for line in lines] == [("m1", False), ("m2", True)]


@pytest.mark.parametrize("key", ["a.jsonl.gz", "a.jsonl.zst"])
def test_case_23_a_part_is_not_taken_for_the_whole(catalog: Catalog, key: str) -> None:
    """Case 23: an object that is cut off is told as unreadable, not as one with fewer lines."""
    with pytest.raises(UnreadableError):
        list(read_lines(store_of(FORMS[key][:-3]), catalog.logs[0], key, None))


@pytest.mark.parametrize(
    ("record", "there"),
    [
        (b'{"prompt":null,"request":{"messages":[]}}', {"prompt": False, "request.messages": True}),
        (b'{"prompt":"x","prompt":null}', {"prompt": True}),
        (b'{"request":[{"messages":null},{"messages":0}],"other":{"prompt":1}}', {"request.messages": True}),
        (b'{"request.messages":false,"request":"text"}', {"request.messages": True}),
        (b"{}", {}),
    ],
)
def test_the_fields_of_a_stage_are_found_by_its_own_reading(record: bytes, there: dict[str, bool]) -> None:
    """Case 7: also in keys that occur twice, in lists, and under a name with dots in it."""
    assert fields_in(parsed(record), ("prompt", "request.messages")) == there


def test_fields_inside_a_map_of_parquet_are_found() -> None:
    """What the rewriting refuses is content all the same."""
    assert fields_in({"request": [("messages", "x"), ("model", "m")]}, ("request.messages",)) == {
        "request.messages": True
    }


@pytest.mark.parametrize("odd", [b"no json", b"[1]", b"[" * 99_999])
def test_case_23_a_line_in_which_nobody_can_look_for_fields_is_told(odd: bytes) -> None:
    assert parsed(odd) is None
