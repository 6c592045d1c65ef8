"""Reads many-record log objects in a stream, and stages the lines that may be past a deadline."""

from __future__ import annotations

import gzip
import io
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import IO, TYPE_CHECKING, Any, cast
from uuid import UUID

from psycopg import sql

from lifecycle.catalog.models import Logs
from lifecycle.policy.models import Category, Tier, Trigger
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.exceptions import as_read
from lifecycle.validation.fragments import AT_AS_OF, AT_SETTLED, ends
from lifecycle.validation.log_content import fields_in, parsed
from lifecycle.validation.scene import Scene
from lifecycle.validation.staging import add_fact

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)
# Ends the name of the count of a stage's fields that no record has.
ABSENT = "_fields_absent"
_COPY = "COPY {} (dataset, message, account, account_id, tier, clock, broken) FROM STDIN"
# A downloaded Parquet file stays in memory up to this size, then on disk.
_SPOOL_BYTES = 32 << 20
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class Line:
    """What of a log record matters to a deadline. ``broken``: it could not be read, or has no clock. ``content``: it
    has something that must go; of a stage that is what the stage names, or a line in which nobody can look for it."""

    message: str | None
    account: str | None
    tier: str | None
    clock: datetime | None
    broken: bool
    content: bool = True
    fields: frozenset[str] = frozenset()
    """Of a stage's fields those that the record has, empty or not."""


@dataclass(frozen=True)
class Suspects:
    """Which lines may be overdue: those before ``before``, and those of accounts and messages with terms of their"
    " own."""

    before: datetime
    accounts: frozenset[str]
    messages: frozenset[str]
    lettered: bool = False
    """Accounts are text, and who they are letter by letter; else they are compared in lower case."""

    def account_of(self, line: Line) -> str | None:
        return line.account if self.lettered or line.account is None else line.account.lower()

    @property
    def anywhere(self) -> bool:
        """Whether an object of any day may hold one."""
        return bool(self.accounts or self.messages)

    def include(self, line: Line, clock: datetime) -> bool:
        known = line.tier in set(Tier) and not line.broken
        return (
            clock < self.before or not known or self.account_of(line) in self.accounts or line.message in self.messages
        )


def suspects(conn: Connection, scene: Scene, dataset: Logs) -> Suspects:
    """The earliest default deadline, shorter agreements, and erasures past their service level."""
    strictest = scene.policy.strictest(dataset.category)
    if strictest.period is None:
        raise ValueError(f"rule {strictest.id} has no period of its own")
    accounts: set[str] = set()
    messages: set[str] = set()
    if any(scene.policy.rule_for(Trigger.AGREEMENT, dataset.category, tier) for tier in Tier):
        accounts |= _with_terms(conn, scene, dataset.category)
    erasure = scene.reasons.rule(Trigger.ERASURE, dataset.category, None)
    if erasure is not None:
        late = ends(sql.SQL("e.requested_at"), erasure)
        rows = conn.execute(
            sql.SQL(
                "SELECT e.scope, btrim(e.target) FROM lifecycle.erasure_requests e WHERE {} < %(as_of)s"
                " AND e.scope IN ('account', 'message')"
            ).format(late),
            {"as_of": scene.as_of},
        ).fetchall()
        # More than is asked for: what becomes of a line is decided where it is staged.
        accounts |= {name for scope, target in rows if scope == "account" for name in (target, target.lower())}
        messages |= {target.lower() for scope, target in rows if scope == "message"}
    lettered = scene.catalog.messages.subject_ids == "text"
    return Suspects(strictest.period.cutoff_bound(scene.as_of), frozenset(accounts), frozenset(messages), lettered)


def _with_terms(conn: Connection, scene: Scene, category: Category) -> set[str]:
    """Accounts with an agreement in effect at either instant."""
    terms = scene.catalog.agreements
    rows = conn.execute(
        sql.SQL(
            "SELECT DISTINCT a.{subject}::text FROM {agreements} a WHERE a.{category} = %(category)s"
            " AND a.{since} <= {now} AND (a.{until} IS NULL OR a.{until} > {before})"
        ).format(
            subject=sql.Identifier(terms.subject),
            agreements=as_read(terms, scene.catalog.messages.subject_ids),
            category=sql.Identifier(terms.category),
            since=sql.Identifier(terms.effective_from),
            until=sql.Identifier(terms.effective_to),
            now=AT_AS_OF,
            before=AT_SETTLED,
        ),
        {**scene.instants, "category": category.value},
    ).fetchall()
    return {account for (account,) in rows}


def stage_lines(conn: Connection, s3: S3Client, scene: Scene, dataset: Logs) -> int:
    """Read every version that may hold overdue lines. Returns how many objects could not be read."""
    wanted = suspects(conn, scene, dataset)
    unreadable = read = 0
    fields: frozenset[str] = frozenset()
    versions = _versions(conn, scene, dataset, wanted)
    with conn.cursor() as cursor, cursor.copy(sql.SQL(_COPY).format(scene.stage.logs)) as sink:
        for key, version, day in versions:
            # A line without a clock of its own counts from the end of its day: not before, and the strictest tier's.
            fallback = datetime.combine(day or wanted.before.date(), time(), UTC) + timedelta(days=1)
            try:
                for line in read_lines(s3, dataset, key, version):
                    clock = line.clock or fallback
                    read, fields = read + 1, fields | line.fields
                    if line.content and wanted.include(line, clock):
                        account = wanted.account_of(line)
                        sink.write_row(
                            (dataset.id, line.message, account, _uuid(account), line.tier, clock, line.broken)
                        )
            except UnreadableError as error:
                log.warning("an object of %s cannot be read (%s)", dataset.id, error.kind)
                unreadable += 1
    if dataset.clear:
        add_fact(conn, scene.stage, f"{dataset.id}{ABSENT}", len(set(dataset.clear) - fields) if read else 0)
    return unreadable


def _versions(
    conn: Connection, scene: Scene, dataset: Logs, wanted: Suspects
) -> list[tuple[str, str | None, date | None]]:
    """Versions, hidden ones included, of days that the earliest deadline (or an exception) reaches."""
    return conn.execute(
        sql.SQL(
            "SELECT o.key, o.version, o.day FROM {} o WHERE o.bucket = %(bucket)s AND starts_with(o.key, %(prefix)s)"
            " AND NOT o.marker AND (o.day IS NULL OR %(anywhere)s OR o.day <= %(last)s) ORDER BY o.day, o.key"
        ).format(scene.stage.objects),
        {
            "bucket": dataset.bucket,
            "prefix": dataset.prefix,
            "anywhere": wanted.anywhere,
            "last": wanted.before.date(),
        },
    ).fetchall()


class UnreadableError(Exception):
    """An object that is no log file; ``kind`` is the class of the underlying error, never its text."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


def read_lines(s3: S3Client, dataset: Logs, key: str, version: str | None) -> Iterator[Line]:
    """The lines of one version, in a stream; none when it is gone by now.

    Raises:
        UnreadableError: the object is not what its name says.
    """
    from botocore.exceptions import ClientError

    which = {"VersionId": version} if version is not None else {}
    try:
        body = s3.get_object(Bucket=dataset.bucket, Key=key, **which)["Body"]  # type: ignore[arg-type]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "NoSuchVersion", "404"):
            return
        raise
    try:
        if key.endswith(".parquet"):
            yield from _parquet(body, dataset)
        elif key.endswith((".jsonl.gz", ".json.gz")):
            with gzip.GzipFile(fileobj=body) as lines:
                yield from _json_lines(lines, dataset)
        elif key.endswith(".jsonl.zst"):
            yield from _json_lines(_zstd_lines(body), dataset)
        elif key.endswith((".jsonl", ".json")):
            yield from _json_lines(body.iter_lines(), dataset)
        else:
            raise UnreadableError("UnknownFormat")
    except (OSError, EOFError, ValueError) as error:
        # pyarrow's ArrowInvalid is a ValueError; a truncated gzip an EOFError, a wrong one an OSError.
        raise UnreadableError(type(error).__name__) from None


def _zstd_lines(body: Any) -> IO[bytes]:
    import pyarrow as pa

    return io.BufferedReader(cast(Any, pa.CompressedInputStream(pa.PythonFile(body, mode="r"), "zstd")))


def _json_lines(lines: Any, dataset: Logs) -> Iterator[Line]:
    for raw in lines:
        if not raw.strip():
            continue
        if dataset.clear:
            found = parsed(raw)
            there = None if found is None else fields_in(found, dataset.clear)
            broken = Line(None, None, None, None, True)
            yield broken if found is None or there is None else _line(dict(found), dataset, there)
            continue
        try:
            record = json.loads(raw)
        except ValueError:
            record = None
        yield _line(record, dataset) if isinstance(record, dict) else Line(None, None, None, None, True)


def _parquet(body: Any, dataset: Logs) -> Iterator[Line]:
    import pyarrow.parquet as pq

    with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as file:
        for chunk in body.iter_chunks(1 << 20):
            file.write(chunk)
        file.seek(0)
        yield from _parquet_rows(file, dataset, pq)


def _parquet_rows(file: IO[bytes], dataset: Logs, pq: Any) -> Iterator[Line]:
    table = pq.ParquetFile(file)
    wanted = (dataset.record, dataset.subject, dataset.tier, dataset.clock)
    columns = [name for name in table.schema_arrow.names if name in wanted or _begins(name, dataset)]
    for batch in table.iter_batches(_BATCH_ROWS, columns=columns):
        for record in batch.to_pylist():
            yield _line(record, dataset, fields_in(record, dataset.clear) if dataset.clear else None)


def _begins(name: str, dataset: Logs) -> bool:
    """Whether a column is, or holds, something that a stage takes."""
    return any(field == name or field.startswith(f"{name}.") for field in dataset.clear)


def _line(record: Mapping[str, Any], dataset: Logs, there: Mapping[str, bool] | None = None) -> Line:
    clock = _clock(record.get(dataset.clock))
    return Line(
        message=_text(record.get(dataset.record)),
        account=_as_written(record.get(dataset.subject)),
        tier=_text(record.get(dataset.tier)),
        clock=clock,
        broken=clock is None,
        content=there is None or any(there.values()),
        fields=frozenset(there or ()),
    )


def _text(value: Any) -> str | None:
    """As the exceptions are compared: lower case, no blanks around."""
    return None if (text := _as_written(value)) is None else text.lower()


def _as_written(value: Any) -> str | None:
    """Without blanks around; COPY knows no NUL."""
    return None if value is None else str(value).strip().replace("\x00", "")


def _clock(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    # The writers' contract is UTC; a time without a zone is one that says so only there.
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
