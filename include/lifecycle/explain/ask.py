"""One question, whoever asks: the command line and the console get the same answer in the same words."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from lifecycle.config import Configuration
from lifecycle.errors import LifecycleError
from lifecycle.explain.account import explain_account
from lifecycle.explain.objects import explain_object
from lifecycle.explain.partitions import NoSuchPartitionError, explain_partition
from lifecycle.explain.records import dataset_of, explain_message, explain_record
from lifecycle.explain.waiting import what_waits
from lifecycle.stores.postgres.connect import Connection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What can be asked about, and how it is named.
KINDS = {
    "message": "the message's id (UUID)",
    "account": "the account's id (a UUID, or as the accounts have it)",
    "object": "BUCKET/KEY",
    "partition": "its name in plans and ledger, for example messages/consumer/2026-08-01",
    "record": "DATASET/KEY, for example feedback/ and a UUID, or whatever the key of its table is",
}


_WHOLE = re.compile(r"-?[0-9]{1,18}")


class QuestionError(LifecycleError):
    """What was asked about is not named as it should be. What was given is not repeated: it may name a person."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(f"not the name of a {kind}; write {KINDS[kind]}")


def ask(
    conn: Connection, s3: Callable[[], S3Client], config: Configuration, kind: str, name: str, as_of: datetime
) -> dict[str, Any]:
    """Explain one thing: its location, what decides, until when, what waits for an approval, and the text for people.

    Args:
        s3: makes the client; only called where objects are asked about.

    Raises:
        QuestionError: the name is not one of that kind.
    """
    found = _explained(conn, s3, config, kind, name, as_of)
    waits = what_waits(conn, config, kind, found, lambda other: _explained(conn, s3, other, kind, name, as_of))
    return found | {"waits": waits, "text": "\n".join([found["text"], *waits])}


def _explained(
    conn: Connection, s3: Callable[[], S3Client], config: Configuration, kind: str, name: str, as_of: datetime
) -> dict[str, Any]:
    match kind:
        case "message":
            return explain_message(conn, config, _uuid(kind, name), as_of)
        case "account":
            return explain_account(conn, config, _account(config, name), as_of)
        case "object":
            bucket, _, key = name.partition("/")
            if not bucket or not key:
                raise QuestionError(kind)
            return explain_object(conn, s3(), config, bucket, key, as_of)
        case "partition":
            try:
                return explain_partition(conn, s3(), config, name, as_of)
            except NoSuchPartitionError:
                raise QuestionError(kind) from None
        case _:
            dataset_id, _, key = name.partition("/")
            dataset = dataset_of(config, dataset_id)
            if dataset is None:
                raise QuestionError("record")
            if len(dataset.key_columns) > 1 and key.count("/") + 1 != len(dataset.key_columns):
                raise QuestionError("record")
            try:
                return explain_record(conn, config, dataset, key.strip(), as_of)
            except psycopg.errors.DataError:
                raise QuestionError("record") from None


def _account(config: Configuration, text: str) -> UUID | str:
    """As the dataset file has accounts: a UUID, a whole number, or text to the letter."""
    match config.catalog.accounts.ids:
        case "uuid":
            return _uuid("account", text)
        case "bigint" if _WHOLE.fullmatch(text.strip()) is None:
            raise QuestionError("account")
    return text.strip()


def _uuid(kind: str, text: str) -> UUID:
    try:
        return UUID(text.strip())
    except ValueError:
        raise QuestionError(kind) from None
