"""What becomes of errors on the command line; no error prints what a record contains (hard case 25)."""

from __future__ import annotations

import traceback

from lifecycle.errors import ConfigurationError, LifecycleError

TRACEBACK = "LIFECYCLE_TRACEBACK"


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
        return f"error: PostgreSQL: {str(error).strip()}\nIs {_variable('postgres')} right, and the server up?"
    if kind.startswith("botocore."):
        code = getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__)
        return f"error: S3: {code}. Is {_variable('s3')} right, and the server up?"
    frames = "".join(
        f"  {frame.filename}:{frame.lineno} {frame.name}\n" for frame in traceback.extract_tb(error.__traceback__)[-8:]
    )
    shown = f"{kind} (SQLSTATE {state})" if state else kind
    return f"error: {shown}, raised at\n{frames}Set {TRACEBACK}=1 for the message, which may quote records."


def _variable(which: str) -> str:
    """The variable of the connection at fault: of the store that was worked on, where that can still be told."""
    from lifecycle.connections import environment_variable
    from lifecycle.deployment import Store, current_store

    try:
        store = current_store()
    except ConfigurationError:
        store = Store()
    return environment_variable(getattr(store, which))
