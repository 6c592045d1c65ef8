"""A fresh reference store for one test, with the few moves that most tests make."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from lifecycle.demo.servers import Postgres, S3Server
from support.buckets import Version, list_versions

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Connection = psycopg.Connection[TupleRow]
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Store:
    """Connections to the store of one test. ``env`` is also set in this process while the test runs."""

    conninfo: str
    s3: S3Client
    env: Mapping[str, str]
    postgres: Postgres
    s3_server: S3Server
    _open: dict[int, Connection] = field(default_factory=dict, repr=False)

    # -- PostgreSQL

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection of its own: autocommit, UTC."""
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            yield conn

    def sql(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        """Run one statement with %s parameters; its rows, or none."""
        cursor = self._kept().execute(query.encode(), params or None)
        return cursor.fetchall() if cursor.description else []

    def _kept(self) -> Connection:
        """The connection that a thread's statements share: another for each would cost more than it does."""
        conn = self._open.get(get_ident())
        if conn is None or conn.closed:
            conn = self._open[get_ident()] = psycopg.connect(self.conninfo, autocommit=True)
        return conn

    def value(self, query: str, *params: object) -> Any:
        """The first column of the first row."""
        return self.sql(query, *params)[0][0]

    def insert(self, table: str, **columns: object) -> None:
        """Insert one row into ``schema.table``."""
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(*table.split(".")),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join(sql.Placeholder() * len(columns)),
        )
        self._kept().execute(statement, list(columns.values()))

    def insert_account(self, account_id: UUID | None = None, *, tier: str = "consumer", **columns: object) -> UUID:
        """Insert an account unless it is there."""
        chosen = account_id or uuid4()
        if not self.sql("SELECT 1 FROM app.accounts WHERE account_id = %s", chosen):
            row: dict[str, object] = {
                "account_id": chosen,
                "tier": tier,
                "email": f"{chosen.hex[:12]}@example.com",
                "display_name": "Somebody",
                "created_at": LONG_AGO,
                "last_interaction_at": NOON,
            }
            self.insert("app.accounts", **(row | columns))
        return chosen

    def insert_message(
        self,
        *,
        tier: str = "consumer",
        received_at: datetime = NOON,
        message_id: UUID | None = None,
        account_id: UUID | None = None,
        conversation_id: UUID | None = None,
        role: str = "prompt",
        model: str | None = "m-1",
        client_ip: str | None = "192.0.2.1",
        body: str | None = None,
        object_body: str | bytes | None = None,
        object_key: str | None = None,
        tools: Sequence[str] = (),
    ) -> UUID:
        """Insert a message, its account if that is missing, its tools and its object; gives the message id.

        ``object_body`` writes the object as the application does (text) or as it is (bytes), under ``object_key`` or
        landing/<message_id>.json. Without it the body is inline; ``object_key`` alone makes a row without its object.
        """
        chosen, conversation = message_id or uuid4(), conversation_id or uuid4()
        account = self.insert_account(account_id, tier=tier)
        if object_body is not None:
            object_key = object_key or f"landing/{chosen}.json"
            content = object_body
            if isinstance(content, str):
                content = app_json(chosen, conversation, account, role, received_at, content)
            self.put_object("product-data", object_key, content)
        elif body is None and object_key is None:
            body = "What is the capital of France?"
        self.insert(
            "app.messages",
            message_id=chosen,
            conversation_id=conversation,
            account_id=account,
            tier=tier,
            role=role,
            received_at=received_at,
            model=model,
            client_ip=client_ip,
            body=body,
            object_key=object_key,
        )
        for tool in tools:
            self.insert("app.message_tools", message_id=chosen, tool_name=tool)
        return chosen

    # -- S3

    def put_object(self, bucket: str, key: str, content: bytes, content_type: str = "application/json") -> str | None:
        """Write an object; gives its version id."""
        done = self.s3.put_object(Bucket=bucket, Key=key, Body=content, ContentType=content_type)
        return done.get("VersionId")

    def read_object(self, bucket: str, key: str, version_id: str | None = None) -> bytes:
        extra: dict[str, Any] = {"VersionId": version_id} if version_id else {}
        return self.s3.get_object(Bucket=bucket, Key=key, **extra)["Body"].read()

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """The keys a reader sees, in order."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sorted(found["Key"] for page in pages for found in page.get("Contents", []))

    def versions(self, bucket: str, prefix: str = "") -> list[Version]:
        """Every version and delete marker, in order of key."""
        return sorted(list_versions(self.s3, bucket, prefix))

    # -- the command line

    def cli(self, *args: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``lifecycle ...`` in this process. With ``check`` a failure raises, with what it printed."""
        from typer.testing import CliRunner

        from lifecycle.cli.main import app

        words = [str(arg) for arg in args]
        result = CliRunner().invoke(app, words, env=dict(self.env))
        done = subprocess.CompletedProcess(["lifecycle", *words], result.exit_code, result.stdout, result.stderr)
        if check and done.returncode != 0:
            raise AssertionError(
                f"lifecycle {' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            ) from result.exception
        return done

    def cli_process(self, *args: object) -> subprocess.Popen[str]:
        """Start ``lifecycle ...`` as a process of its own (for tests that kill it); the caller ends it."""
        command = Path(sys.executable).with_name("lifecycle")
        return subprocess.Popen(
            [str(command), *(str(arg) for arg in args)],
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        for conn in self._open.values():
            conn.close()


def app_json(
    message_id: UUID, conversation_id: UUID, account_id: UUID, role: str, received_at: datetime, body: str
) -> bytes:
    """An object body as the application writes it."""
    content = {
        "message_id": str(message_id),
        "conversation_id": str(conversation_id),
        "account_id": str(account_id),
        "role": role,
        "received_at": received_at.isoformat(),
        "body": body,
    }
    return json.dumps(content).encode()
