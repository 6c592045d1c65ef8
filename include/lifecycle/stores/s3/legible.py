"""Answers that name keys with control characters, made legible: XML 1.0 knows no such character, not even escaped.

Servers send them all the same (Ceph also where it was asked to encode keys, in the marker of the next page), and the
client then finds the whole answer broken. So each stands for one of Unicode's 32 noncharacters while it is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_HANDLER = "lifecycle-legible"
_CONTROL = re.compile(rb"&#(?:x0*([0-9a-fA-F]{1,2})|0*([0-9]{1,2}));|[\x00-\x08\x0b\x0c\x0e-\x1f]")
_CONTROLS, _STAND_IN = 32, 0xFDD0
_BACK = {_STAND_IN + number: number for number in range(_CONTROLS)}
# Others read answers with the same client, and do not turn them back.
_wanted: ContextVar[bool] = ContextVar("legible", default=False)


@contextmanager
def legible(s3: S3Client, operation: str) -> Iterator[None]:
    """Within the block this thread's answers to an operation can be parsed; `restored` turns their texts back."""
    # Under this name a handler is called before those of "before-parse.s3.*", of which one parses the answer.
    s3.meta.events.register_first(f"before-parse.*.{operation}", _replace, unique_id=f"{_HANDLER}-{operation}")
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def made_legible(body: bytes) -> bytes:
    """An answer's body that can be parsed."""
    return _CONTROL.sub(_stand_in, body)


def restored(text: str) -> str:
    """The text as the server has it."""
    return text.translate(_BACK)


def _replace(response_dict: dict[str, Any], **_: Any) -> None:
    """Handles the client's event."""
    if _wanted.get():
        response_dict["body"] = made_legible(response_dict["body"])


def _stand_in(found: re.Match[bytes]) -> bytes:
    hexadecimal, decimal = found.groups()
    number = int(hexadecimal, 16) if hexadecimal else int(decimal) if decimal else found.group(0)[0]
    return chr(_STAND_IN + number).encode() if number < _CONTROLS else found.group(0)
