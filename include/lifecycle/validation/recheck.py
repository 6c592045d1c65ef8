"""A second look at what differs between the listing and the rows: while one was read the application may have changed
the other. Bounded, one request per key; what is beyond the bound counts as listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psycopg import sql

from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.fragments import relation
from lifecycle.validation.scene import Scene
from lifecycle.validation.staging import listing, write_objects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LIMIT = 1_000


def recheck(conn: Connection, s3: S3Client, scene: Scene, tiers: Sequence[str]) -> int:
    """List again every key that only one side knows. Returns how many keys were looked at."""
    bucket = scene.catalog.messages.objects.bucket
    keys = _unlisted(conn, scene, tiers) + _unnamed(conn, scene)
    for key in keys:
        conn.execute(
            sql.SQL("DELETE FROM {} WHERE bucket = %s AND key = %s").format(scene.stage.objects), (bucket, key)
        )
        write_objects(conn, scene.stage, bucket, (found for found in listing(s3, bucket, key) if found.key == key))
    return len(keys)


def _unlisted(conn: Connection, scene: Scene, tiers: Sequence[str]) -> list[str]:
    """Keys that rows name and the listing does not have."""
    rows = conn.execute(
        sql.SQL(
            "SELECT {object_key} FROM {messages} m WHERE {tier} = ANY (%(tiers)s) AND {object_key} IS NOT NULL"
            " AND NOT EXISTS (SELECT FROM {objects} o WHERE o.bucket = %(bucket)s AND o.key = {object_key}"
            " AND o.latest AND NOT o.marker) LIMIT %(limit)s"
        ).format(**scene.message_names(), objects=scene.stage.objects),
        {"tiers": list(tiers), "bucket": scene.catalog.messages.objects.bucket, "limit": LIMIT},
    ).fetchall()
    return [key for (key,) in rows]


def _unnamed(conn: Connection, scene: Scene) -> list[str]:
    """Keys of the listing that no row names."""
    dataset = scene.catalog.messages
    rows = conn.execute(
        sql.SQL(
            "SELECT DISTINCT o.key FROM {objects} o LEFT JOIN (SELECT {key} AS key FROM {messages} WHERE {key} IS NOT"
            " NULL) r"
            " ON r.key = o.key WHERE o.bucket = %(bucket)s AND r.key IS NULL LIMIT %(limit)s"
        ).format(
            objects=scene.stage.objects, key=sql.Identifier(dataset.objects.column), messages=relation(dataset.table)
        ),
        {"bucket": dataset.objects.bucket, "limit": LIMIT},
    ).fetchall()
    return [key for (key,) in rows]
