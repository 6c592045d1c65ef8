"""``lifecycle postgres``: what concerns the database itself rather than the policy."""

from __future__ import annotations

import typer

from lifecycle.cli import postgres_partition

app = typer.Typer(no_args_is_help=True, help="Partition tables while they are in use.")


def register(parent: typer.Typer) -> None:
    postgres_partition.attach(app)
    parent.add_typer(app, name="postgres")
