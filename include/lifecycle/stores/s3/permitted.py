"""A look at the permit directly before each destructive request goes out, the client's own further tries included.

The client sends a request again by itself after a 503 or a broken connection, for minutes where a server is in trouble,
and may hold one back to keep its rate. A look before the call alone would be that old by then (hard cases 4 and 27).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from lifecycle.stores.permit import Permit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# The client's rate limiter waits under this very name, and what is registered last is called last.
_EVENT = "before-send"
_HANDLER = "lifecycle-permit"
# Others send requests with the same client at the same time.
_permit: ContextVar[Permit | None] = ContextVar("permit_of_request", default=None)


@contextmanager
def permitted(s3: S3Client, permit: Permit) -> Iterator[None]:
    """Within the block, nothing this thread asks of the client leaves the machine without the permit's consent.

    What the permit raises ends the request, unsent, and is raised as it is.
    """
    s3.meta.events.register_last(_EVENT, _look, unique_id=_HANDLER)
    token = _permit.set(permit)
    try:
        yield
    finally:
        _permit.reset(token)


def _look(**_: Any) -> None:
    """Handles the client's event, once for each request that is about to be sent."""
    permit = _permit.get()
    if permit is None:
        return
    # What the permit itself may ask of the client is not what needs it.
    token = _permit.set(None)
    try:
        permit.check()
    finally:
        _permit.reset(token)
