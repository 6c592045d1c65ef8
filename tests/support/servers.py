"""Servers for a test session: one PostgreSQL shared by all pytest-xdist workers, one S3 server per worker."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from lifecycle.demo.servers import Postgres, S3Server, embedded_postgres, start_postgres, stop_postgres
from reference_store.create import create_schemas

TEMPLATE = "reference_store_template"
# A fresh database is six hundred files: made in memory, they cost a fraction of what they do on a disk.
MEMORY = Path("/dev/shm")
ENOUGH_MEMORY = 6 * 1024**3
EXTERNAL_S3 = "LIFECYCLE_TEST_S3_ENDPOINT"


def _in_memory() -> Path | None:
    """A file system in memory with room for the databases of a session; None for the usual folder."""
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK | os.X_OK):
        return None
    free = min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available)
    return MEMORY if free > ENOUGH_MEMORY else None


@contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """A folder that the server's user can reach, which pytest's own (mode 0700) is not."""
    folder = Path(tempfile.mkdtemp(prefix=f"lifecycle-test-{purpose}-", dir=_in_memory()))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class PostgresSpec:
    """How to reach the session's PostgreSQL; passed to xdist workers as text."""

    port: int
    password: str
    socket_dir: str
    pid: int

    @classmethod
    def of(cls, server: Postgres) -> PostgresSpec:
        return cls(server.port, server.password, str(server.socket_dir), server.pid)

    @classmethod
    def parse(cls, text: str) -> PostgresSpec:
        return cls(**json.loads(text))

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @property
    def server(self) -> Postgres:
        return Postgres(self.port, self.password, Path(self.socket_dir), self.pid)


@contextmanager
def session_postgres() -> Iterator[Postgres]:
    """A server with the reference store's schemas in a template database."""
    with scratch("pg") as folder, embedded_postgres(folder) as server:
        with psycopg.connect(server.conninfo(), autocommit=True) as conn:
            _let_in_quickly(conn, server.password)
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        create_schemas(server.conninfo(TEMPLATE))
        yield server


def _let_in_quickly(conn: psycopg.Connection[Any], password: str) -> None:
    """A run logs in eighty times, and each time both sides hash the password 4,096 times; from version 16 on, once."""
    if conn.info.server_version >= 160000:
        conn.execute("SET scram_iterations = 1")
        conn.execute(sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(sql.Literal(password)))


@contextmanager
def fresh_database(server: Postgres, template: str = TEMPLATE) -> Iterator[str]:
    """The name of a database made from a template, dropped afterwards with whoever is still in it."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server.conninfo(), autocommit=True) as conn:
        # The faster way where it has to be asked for; before 15 it is the only one.
        how = sql.SQL("STRATEGY file_copy" if conn.info.server_version >= 150000 else "")
        conn.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} {}").format(sql.Identifier(name), sql.Identifier(template), how)
        )
        try:
            yield name
        finally:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def server_with(purpose: str, **settings: str) -> Iterator[Postgres]:
    """A PostgreSQL of its own, for settings that only a start can make."""
    with scratch(purpose) as folder:
        server = start_postgres(folder, tie_to_parent=True)
        try:
            with psycopg.connect(server.conninfo(), autocommit=True) as conn:
                for name, value in settings.items():
                    conn.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            stop_postgres(folder)
            yield start_postgres(folder, tie_to_parent=True)
        finally:
            stop_postgres(folder)


def external_s3() -> S3Server | None:
    """An S3 endpoint from outside (a Ceph gateway), when the environment names one."""
    endpoint = os.environ.get(EXTERNAL_S3)
    if not endpoint:
        return None
    return S3Server(
        endpoint,
        access_key=os.environ["LIFECYCLE_TEST_S3_ACCESS"],
        secret_key=os.environ["LIFECYCLE_TEST_S3_SECRET"],
        region=os.environ.get("LIFECYCLE_TEST_S3_REGION", "us-east-1"),
    )


def with_database(server: Postgres, name: str, *, over_socket: bool = False) -> str:
    """Sessions in UTC, like the project's own."""
    return make_conninfo(server.conninfo(name, over_socket=over_socket), options="-c TimeZone=UTC")
