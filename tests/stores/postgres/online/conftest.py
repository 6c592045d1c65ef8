"""One database for all the tests of a module; each test has a schema of its own."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from lifecycle.demo.servers import Postgres
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.facts import Name
from support.online import connected
from support.servers import fresh_database, with_database


@pytest.fixture(scope="module")
def conninfo(postgres_server: Postgres) -> Iterator[str]:
    with fresh_database(postgres_server) as database:
        yield with_database(postgres_server, database)


@pytest.fixture
def conn(conninfo: str) -> Iterator[Connection]:
    with connected(conninfo) as conn:
        yield conn


@pytest.fixture
def table(conn: Connection) -> Name:
    """A name in a fresh schema; both need quotes."""
    name = Name(f"App {uuid4().hex[:8]}", "Events")
    conn.execute(f'CREATE SCHEMA "{name.schema}"'.encode())
    return name
