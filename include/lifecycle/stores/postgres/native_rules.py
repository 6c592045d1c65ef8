"""What is known of lifecycle rules for one day: written down before they are in a bucket, ended after they are out."""

from __future__ import annotations

from datetime import date, timedelta

from psycopg import sql
from psycopg.rows import class_row

from lifecycle.backstop.native import NativeDay
from lifecycle.backstop.standing import days_left_to_s3
from lifecycle.catalog.models import Messages
from lifecycle.stores.postgres.connect import Connection

_GIVEN = (
    "rule_id", "bucket", "prefix", "dataset", "tier", "day", "days", "rule", "run_id", "objects", "versions", "bytes"
)  # fmt: skip
_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, ("native_id", *_GIVEN, "placed_at")))


def write_down(conn: Connection, day: NativeDay) -> NativeDay:
    """Add one that stands from now on; gives it with its number and time."""
    with conn.cursor(row_factory=class_row(NativeDay)) as cursor:
        row = cursor.execute(
            sql.SQL("INSERT INTO lifecycle.native_rules ({}) VALUES ({}) RETURNING {}").format(
                sql.SQL(", ").join(map(sql.Identifier, _GIVEN)),
                sql.SQL(", ").join(map(sql.Placeholder, _GIVEN)),
                _COLUMNS,
            ),
            {name: getattr(day, name) for name in _GIVEN},
        ).fetchone()
    if row is None:
        raise ValueError("an insert that returns its row gave none")
    return row


def standing_of(conn: Connection, bucket: str, prefix: str) -> NativeDay | None:
    """The one that stands for a prefix."""
    return next((day for day in days_left_to_s3(conn) if (day.bucket, day.prefix) == (bucket, prefix)), None)


def withdrawn_since(conn: Connection, age: timedelta) -> list[NativeDay]:
    """Those that were taken away not long ago, while S3 may still have been at work."""
    with conn.cursor(row_factory=class_row(NativeDay)) as cursor:
        return cursor.execute(
            sql.SQL(
                "SELECT {} FROM lifecycle.native_rules WHERE outcome = 'withdrawn'"
                " AND ended_at > clock_timestamp() - %s ORDER BY day"
            ).format(_COLUMNS),
            (age,),
        ).fetchall()


def end(conn: Connection, day: NativeDay, outcome: str) -> bool:
    """End one that stood. False when somebody else has done so."""
    done = conn.execute(
        "UPDATE lifecycle.native_rules SET ended_at = clock_timestamp(), outcome = %s"
        " WHERE native_id = %s AND ended_at IS NULL",
        (outcome, day.native_id),
    )
    return done.rowcount == 1


def keys_elsewhere(conn: Connection, dataset: Messages, relation: sql.Composable, prefix: str) -> bool:
    """Whether a row of a partition names an object that is not below its day's prefix: in landing, or misplaced."""
    row = conn.execute(
        sql.SQL(
            "SELECT EXISTS (SELECT FROM {relation} m WHERE m.{key} IS NOT NULL AND NOT starts_with(m.{key}, %s))"
        ).format(relation=relation, key=sql.Identifier(dataset.objects.column)),
        (prefix,),
    ).fetchone()
    return row is None or bool(row[0])


def named(
    conn: Connection, dataset: Messages, relation: sql.Composable, tier: str, day: date, records: list[str]
) -> int:
    """Of some records, how many a partition has a row of that names the object of exactly this record, tier and day."""
    head, tail = dataset.objects.partitioned.split("{record}")
    row = conn.execute(
        sql.SQL(
            "SELECT count(*) FROM unnest(%(records)s::text[]) AS k (record) JOIN {relation} m"
            " ON m.{record} = k.record::uuid AND m.{key} = %(head)s || k.record || %(tail)s"
        ).format(
            relation=relation,
            record=sql.Identifier(dataset.record),
            key=sql.Identifier(dataset.objects.column),
        ),
        {"records": records, "head": head.format(tier=tier, date=day.isoformat()), "tail": tail},
    ).fetchone()
    return int(row[0]) if row is not None else 0
