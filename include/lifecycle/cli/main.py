"""The ``lifecycle`` command: sub-commands, logging, and what becomes of errors."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lifecycle.cli.across import give_store
from lifecycle.cli.failures import TRACEBACK, told
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
    "stores",
    "demo",
)


class _Group(TyperGroup):
    """Turns errors into messages and exit codes; no error prints what a record contains (hard case 25)."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.TyperException, typer.Exit, typer.Abort):
            raise
        except ConfigurationError as error:
            say(told(error))
            raise typer.Exit(EXIT_CONFIGURATION) from None
        except LifecycleError as error:
            say(told(error))
            raise typer.Exit(EXIT_FAILED) from None
        except Exception as error:
            if os.environ.get(TRACEBACK):
                raise
            say(told(error))
            raise typer.Exit(EXIT_FAILED) from None


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

    Connections are Airflow's: AIRFLOW_CONN_LIFECYCLE_POSTGRES and AIRFLOW_CONN_LIFECYCLE_S3, JSON or URI. Where one
    deployment serves several databases, LIFECYCLE_STORES names the file of stores, and `--store` chooses.

    Example: `lifecycle run --as-of 2026-08-01T06:00:00Z --dry-run`
    """
    configure_cli_logging(verbose)


def _register_commands() -> None:
    for name in _MODULES:
        module = f"lifecycle.cli.{name}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module).register(app)
    give_store(app)


_register_commands()
