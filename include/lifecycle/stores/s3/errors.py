"""Errors of the S3 store. A client's own messages may name the object they failed on (hard case 25), so none leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from lifecycle.errors import LifecycleError

_ABSENT = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
_CONFLICT = frozenset({"409", "412", "PreconditionFailed", "ConditionalRequestConflict"})


class StoreError(LifecycleError):
    """A request that the S3 server refused or did not answer: operation and code only."""

    def __init__(self, operation: str, code: str) -> None:
        self.operation, self.code = operation, code
        super().__init__(f"S3 {operation} failed: {code}")

    @property
    def absent(self) -> bool:
        """The object or version is not there."""
        return self.code in _ABSENT

    @property
    def conflict(self) -> bool:
        """A condition on the object's state did not hold: somebody else wrote in between."""
        return self.code in _CONFLICT


@cache
def _client_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError

    return (ClientError, BotoCoreError)


def code_of(error: Exception) -> str:
    """The server's error code, or the kind of the client's error when no answer came."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", "unknown"))
    return type(error).__name__


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Turn the client's errors into StoreError, leaving behind messages and URLs, which contain keys."""
    try:
        yield
    except _client_errors() as error:
        raise StoreError(operation, code_of(error)) from None
