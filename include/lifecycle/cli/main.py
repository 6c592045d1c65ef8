"""The ``lifecycle`` command: sub-commands, logging, and what becomes of errors."""

from __future__ import annotations

import importlib
import importlib.util
import os
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lifecycle.cli.output import say
from lifecycle.errors import ConfigurationError, LifecycleError
from lifecycle.logs import configure_cli_logging

EXIT_FAILED, EXIT_CONFIGURATION = 1, 2
# Each module of this package with these names registers its own commands; none of them may import Airflow, boto3,
# pandas or Great Expectations at its top level.
_MODULES = (
    "run",
    "status",
    "explain",
    "audit",
    "coverage",
    "policy",
    "hold",
    "erase",
    "ledger",
    "postgres",
    "s3",
    "store",
    "demo",
)
_TRACEBACK = "LIFECYCLE_TRACEBACK"


class _Group(TyperGroup):
    """Turns errors into messages and exit codes; no error prints what a record contains (hard case 25)."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.TyperException, typer.Exit, typer.Abort):
            raise
        except ConfigurationError as error:
            count = len(error.problems)
            say(f"{error}\n{count} problem{'s' if count != 1 else ''} in the configuration; nothing was run.")
            raise typer.Exit(EXIT_CONFIGURATION) from None
        except LifecycleError as error:
            say(f"error: {error}")
            raise typer.Exit(EXIT_FAILED) from None
        except Exception as error:
            if os.environ.get(_TRACEBACK):
                raise
            say(_unexpected(error))
            raise typer.Exit(EXIT_FAILED) from None


def _unexpected(error: Exception) -> str:
    """The kind of an error and where it arose, without its message: a database's may quote the row at fault."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    state = getattr(error, "sqlstate", None)
    if kind == "psycopg.OperationalError" and state is None:
        # Raised before any row is read: the server cannot be reached, or refuses the login.
        return f"error: PostgreSQL: {str(error).strip()}\nIs AIRFLOW_CONN_LIFECYCLE_POSTGRES right, and the server up?"
    if kind.startswith("botocore."):
        code = getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__)
        return f"error: S3: {code}. Is AIRFLOW_CONN_LIFECYCLE_S3 right, and the server up?"
    frames = "".join(
        f"  {frame.filename}:{frame.lineno} {frame.name}\n" for frame in traceback.extract_tb(error.__traceback__)[-8:]
    )
    shown = f"{kind} (SQLSTATE {state})" if state else kind
    return f"error: {shown}, raised at\n{frames}Set {_TRACEBACK}=1 for the message, which may quote records."


app = typer.Typer(
    name="lifecycle",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lifecycle {version('lifecycle')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Log what is done; twice for details.")
    ] = 0,
) -> None:
    """Makes data-retention promises true and proves it.

    Connections are Airflow's: AIRFLOW_CONN_LIFECYCLE_POSTGRES and AIRFLOW_CONN_LIFECYCLE_S3, JSON or URI.

    Example: `lifecycle run --as-of 2026-08-01T06:00:00Z --dry-run`
    """
    configure_cli_logging(verbose)


def _register_commands() -> None:
    for name in _MODULES:
        module = f"lifecycle.cli.{name}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module).register(app)


_register_commands()
