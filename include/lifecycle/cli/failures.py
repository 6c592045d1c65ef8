"""What becomes of errors on the command line; no error prints what a record contains (hard case 25)."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from lifecycle.deployment import Store, current_store, using
from lifecycle.errors import ConfigurationError, LifecycleError

TRACEBACK = "LIFECYCLE_TRACEBACK"


# Which store an error arose in: it is told when that is no longer the current one.
_STORE = "lifecycle_store"


@contextmanager
def in_store(name: str | None) -> Iterator[None]:
    """Work on a store by its name; an error that leaves this knows whose it is."""
    with using(name):
        try:
            yield
        except Exception as error:
            setattr(error, _STORE, name)
            raise


def told(error: Exception) -> str:
    """An error as people read it."""
    if isinstance(error, ConfigurationError):
        count = len(error.problems)
        return f"{error}\n{count} problem{'s' if count != 1 else ''} in the configuration; nothing was run."
    return f"error: {error}" if isinstance(error, LifecycleError) else _unexpected(error)


def _unexpected(error: Exception) -> str:
    """The kind of an error and where it arose, without its message: a database's may quote the row at fault."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    state = getattr(error, "sqlstate", None)
    if kind == "psycopg.OperationalError" and state is None:
        # Raised before any row is read: the server cannot be reached, or refuses the login.
        return f"error: PostgreSQL: {str(error).strip()}\nIs {_variable(error, 'postgres')} right, and the server up?"
    if kind.startswith("botocore."):
        code = getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__)
        return f"error: S3: {code}. Is {_variable(error, 's3')} right, and the server up?"
    frames = "".join(
        f"  {frame.filename}:{frame.lineno} {frame.name}\n" for frame in traceback.extract_tb(error.__traceback__)[-8:]
    )
    shown = f"{kind} (SQLSTATE {state})" if state else kind
    return f"error: {shown}, raised at\n{frames}Set {TRACEBACK}=1 for the message, which may quote records."


def _variable(error: Exception, which: str) -> str:
    """The variable of the connection at fault, where it can still be told."""
    from lifecycle.connections import environment_variable

    try:
        with using(getattr(error, _STORE, None)):
            store = current_store()
    except ConfigurationError:
        store = Store()
    return environment_variable(getattr(store, which))
