"""The command itself: help, version, exit codes, and that no error tells what a record contains."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
import typer
from typer.testing import CliRunner

import lifecycle
from lifecycle.cli.main import _Group, app
from lifecycle.errors import ConfigurationError, LifecycleError, Problem
from lifecycle.logs import configure_cli_logging

CANARY = "canary-5f1c"


def failing(error: Exception) -> typer.Typer:
    """A command line whose one command raises."""
    made = typer.Typer(cls=_Group, pretty_exceptions_enable=False)

    @made.callback()
    def main() -> None:
        """A group."""

    @made.command()
    def fail() -> None:
        raise error

    return made


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (LifecycleError("the bucket is not versioned"), 1, "error: the bucket is not versioned"),
        (
            ConfigurationError([Problem("p.yaml", 3, "name", "is missing", "Add it")]),
            2,
            "p.yaml:3: name: is missing. Add it.",
        ),
        (ConfigurationError([]), 2, "0 problems in the configuration"),
    ],
)
def test_errors_of_ours_are_messages_on_stderr(error: Exception, code: int, says: str) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])
    assert result.exit_code == code
    assert says in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_case_25_an_unexpected_error_does_not_quote_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIFECYCLE_TRACEBACK", raising=False)
    error = psycopg.errors.UniqueViolation(f"Key (email)=({CANARY}@example.com) already exists")
    result = CliRunner().invoke(failing(error), ["fail"])
    assert result.exit_code == 1
    assert "psycopg.errors.UniqueViolation (SQLSTATE 23505)" in result.stderr
    assert "test_main.py" in result.stderr
    assert CANARY not in result.output + result.stderr

    result = CliRunner().invoke(failing(ValueError(CANARY)), ["fail"])
    assert result.exit_code == 1
    assert "builtins.ValueError" in result.stderr
    assert CANARY not in result.output + result.stderr


def test_an_unexpected_error_is_told_in_full_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_TRACEBACK", "1")
    result = CliRunner().invoke(failing(ValueError(CANARY)), ["fail"])
    assert isinstance(result.exception, ValueError)


def test_a_server_that_is_not_there_is_a_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_LIFECYCLE_POSTGRES", "postgres://user:hush-hush@127.0.0.1:1/shop")
    result = CliRunner().invoke(app, ["hold", "list"])
    assert result.exit_code == 1
    assert "AIRFLOW_CONN_LIFECYCLE_POSTGRES" in result.stderr and "refused" in result.stderr
    assert "hush-hush" not in result.stderr


def test_without_arguments_there_is_help() -> None:
    result = CliRunner().invoke(app, [])
    assert "Usage: lifecycle" in result.output
    for name in ("policy", "hold", "erase"):
        assert name in result.output


def commands(group: typer.core.TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands(typer.main.get_command(app))), ids=" ".join)  # type: ignore[arg-type]
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output


def test_the_module_runs_and_tells_its_version() -> None:
    done = subprocess.run([sys.executable, "-m", "lifecycle", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("lifecycle ")
    assert lifecycle.__name__ == "lifecycle"


def test_starting_is_cheap() -> None:
    """Nobody waits for Airflow, boto3 or pandas to read a help text."""
    code = (
        "import sys, lifecycle.cli.main; "
        "print([m for m in ('airflow', 'boto3', 'pandas', 'great_expectations', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("verbosity", "level"), [(0, logging.WARNING), (1, logging.INFO), (2, logging.DEBUG), (9, logging.DEBUG)]
)
def test_verbosity_concerns_our_own_logs_only(verbosity: int, level: int) -> None:
    root = logging.getLogger()
    handlers, before = list(root.handlers), root.level
    try:
        configure_cli_logging(verbosity)
        assert logging.getLogger("lifecycle.any").getEffectiveLevel() == level
        assert logging.getLogger("botocore").getEffectiveLevel() == logging.WARNING
        assert len(root.handlers) == 1
    finally:
        root.handlers[:] = handlers
        root.setLevel(before)
        logging.getLogger("lifecycle").setLevel(logging.NOTSET)
