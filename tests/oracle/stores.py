"""Stores by the dozen: a fresh one per generated world, and identical ones made from a loaded snapshot."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from lifecycle.demo.servers import Postgres, S3Server
from reference_store.create import BucketSpec
from support.buckets import fresh_buckets
from support.servers import fresh_database, with_database
from support.store import Store

from .facts import World
from .forked import Forked
from .load import put_logs, put_objects, write_rows, write_world
from .observe import Observed, observe
from .quick import only, unvalidated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Ran:
    """How a ``lifecycle run --json`` ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout)
        return found

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.stdout[-4000:]}\n{self.stderr[-4000:]}"

    def scope(self, name: str) -> dict[str, int]:
        """Records per disposition of one scope."""
        disposed: dict[str, int] = self.json["scopes"][name]["disposed"]
        return {disposition: count for disposition, count in disposed.items() if count}

    def failures(self) -> dict[str, dict[str, int]]:
        """Failed validations per scope, with their counts."""
        return {name: scope["failures"] for name, scope in self.json["scopes"].items() if scope["failures"]}

    def disposed(self) -> dict[str, int]:
        """Records per disposition, over all scopes."""
        total: dict[str, int] = {}
        for scope in self.json["scopes"].values():
            for disposition, count in scope["disposed"].items():
                total[disposition] = total.get(disposition, 0) + count
        return {disposition: count for disposition, count in total.items() if count}


def at(instant: datetime) -> str:
    """An instant as the command line takes it."""
    return instant.isoformat().replace("+00:00", "Z")


def full_run(store: Store, as_of: datetime, *options: str) -> Ran:
    """One run of the product, in this process."""
    done = store.cli("run", "--as-of", at(as_of), "--json", *options, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def run(store: Store, as_of: datetime, *options: str, scope: str | None = None) -> Ran:
    """The same, or one scope of it, without its validations: the test itself judges the stores (oracle/quick.py)."""
    with unvalidated(), only(scope):
        return full_run(store, as_of, *options)


def run_process(store: Store, as_of: datetime, scope: str | None = None) -> Forked:
    """The run, or one scope of it, without its validations, as a process of its own; the caller ends it."""
    narrowed = ("--only", scope) if scope else ()
    return Forked((*narrowed, "run", "--as-of", at(as_of), "--json"), {**os.environ, **store.env})


def look(store: Store) -> Observed:
    with store.connect() as conn:
        return observe(conn, store.s3)


@dataclass
class Servers:
    """The servers of this session, and what makes stores on them. One store at a time: the buckets are shared."""

    postgres: Postgres
    s3_server: S3Server
    s3: S3Client
    buckets: tuple[BucketSpec, ...]

    @contextmanager
    def store(self, world: World | None = None) -> Iterator[Store]:
        """A fresh store that holds ``world``."""
        with fresh_database(self.postgres) as name:
            fresh_buckets(self.s3_server, self.s3, self.buckets)
            store = self._store(name)
            try:
                if world is not None:
                    with store.connect() as conn:
                        write_world(conn, store.s3, world)
                yield store
            finally:
                store.close()

    @contextmanager
    def snapshot(self, world: World) -> Iterator[str]:
        """A database that holds ``world`` and nobody is connected to; ``copy_of`` makes identical stores from it."""
        with fresh_database(self.postgres) as name:
            with psycopg.connect(with_database(self.postgres, name), autocommit=True) as conn:
                write_rows(conn, world)
            yield name

    @contextmanager
    def copy_of(self, snapshot: str, world: World) -> Iterator[Store]:
        """A store in the state of the snapshot, objects and all."""
        with fresh_database(self.postgres, snapshot) as name:
            fresh_buckets(self.s3_server, self.s3, self.buckets)
            put_objects(self.s3, world.messages)
            put_logs(self.s3, world.logs)
            store = self._store(name)
            try:
                yield store
            finally:
                store.close()

    def _store(self, database: str) -> Store:
        env: Mapping[str, str] = {
            "AIRFLOW_CONN_LIFECYCLE_POSTGRES": json.dumps(self.postgres.airflow_connection(database)),
            "AIRFLOW_CONN_LIFECYCLE_S3": json.dumps(self.s3_server.airflow_connection()),
        }
        return Store(with_database(self.postgres, database), self.s3, env, self.postgres, self.s3_server)


@pytest.fixture(scope="session")
def servers(
    postgres_server: Postgres, s3_server: S3Server, s3_session_client: S3Client, buckets: tuple[BucketSpec, ...]
) -> Servers:
    return Servers(postgres_server, s3_server, s3_session_client, buckets)
