"""``lifecycle postgres``: what concerns the database itself rather than the policy."""

from __future__ import annotations

import typer

from lifecycle.cli import postgres_partition

postgres_app = typer.Typer(no_args_is_help=True, help="PostgreSQL: partition tables while they are in use.")
postgres_partition.attach(postgres_app)


def register(app: typer.Typer) -> None:
    app.add_typer(postgres_app, name="postgres")
