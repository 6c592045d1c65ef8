"""Small bodies sent at once, without asking the server first whether it wants them.

The client asks ("Expect: 100-continue") for every body, and waits for the answer: a second round trip per write, which
is worth it where the body is large.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_HANDLER = "lifecycle-unasked"
# Others write with the same client, and what they write may be large.
_wanted: ContextVar[bool] = ContextVar("unasked", default=False)


@contextmanager
def unasked(s3: S3Client) -> Iterator[None]:
    """Within the block this thread's PutObject requests carry their body at once."""
    s3.meta.events.register("before-send.s3.PutObject", _drop_question, unique_id=_HANDLER)
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def _drop_question(request: Any, **_: Any) -> None:
    """Handles the client's event; the header is never part of what is signed."""
    if _wanted.get():
        request.headers.pop("Expect", None)
