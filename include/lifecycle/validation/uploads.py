"""Unfinished multipart uploads, which no listing of objects shows, counted by the auditor's own listing (case 14)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from psycopg import sql

from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.fragments import relation
from lifecycle.validation.scene import Scene

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FACT = "unfinished_uploads"
_HELD = (
    "EXISTS (SELECT FROM lifecycle.legal_holds h WHERE (h.released_at IS NULL OR h.released_at > %(as_of)s) AND"
    " ((h.scope = 'dataset' AND (btrim(h.target) = ANY (%(names)s) OR lower(btrim(h.target)) = ANY (%(names)s)))"
    " OR (h.scope = 'message' AND position(lower(btrim(h.target)) IN k.key) > 0)))"
)


def left_unfinished(conn: Connection, s3: S3Client, scene: Scene) -> int:
    """How many uploads are older than the margin for orphans, belong to no row, and are under no hold."""
    limit = scene.as_of - scene.policy.thresholds.orphan_margin.longest()
    count = 0
    for dataset in scene.catalog.logs:
        keys = list(_begun(s3, dataset.bucket, (dataset.prefix,), limit))
        # Its parts may hold what any of the stages holds.
        names = [dataset.id, *(part.id for part in dataset.parts), dataset.bucket]
        count += _objectionable(conn, scene, keys, names)
    if scene.catalog.has_messages:
        messages = scene.catalog.messages
        objects, quarantine = messages.objects, messages.quarantine
        places = (
            (objects.bucket, (objects.landing, *_of_tiers(objects.partitioned))),
            (quarantine.bucket, _of_tiers(quarantine.prefix)),
        )
        for bucket, prefixes in places:
            keys = list(_begun(s3, bucket, prefixes, limit))
            count += _objectionable(conn, scene, keys, [messages.id, messages.table])
    return count


def _of_tiers(layout: str) -> tuple[str, ...]:
    return tuple(layout.split("{date}", 1)[0].format(tier=tier.value) for tier in Tier)


def _begun(s3: S3Client, bucket: str, prefixes: tuple[str, ...], before: datetime) -> Iterator[str]:
    """Keys of uploads, each as often as it has some. Encoded, so that no key is one that XML cannot carry."""
    for prefix in sorted(set(prefixes)):
        request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "EncodingType": "url"}
        for page in s3.get_paginator("list_multipart_uploads").paginate(**request):
            for upload in page.get("Uploads", []):
                if upload["Initiated"] < before:
                    yield unquote_plus(upload["Key"])


def _objectionable(conn: Connection, scene: Scene, keys: list[str], names: list[str]) -> int:
    """Of some keys, how many no row names and no hold covers."""
    if not keys:
        return 0
    dataset = scene.catalog.messages
    row = conn.execute(
        sql.SQL(
            "SELECT count(*) FROM unnest(%(keys)s::text[]) AS k (key) WHERE NOT {held}"
            " AND NOT EXISTS (SELECT FROM {messages} m WHERE m.{column} = k.key)"
        ).format(
            held=sql.SQL(_HELD),
            messages=relation(dataset.table),
            column=sql.Identifier(dataset.objects.column),
        ),
        {"keys": keys, "names": names, "as_of": scene.as_of},
    ).fetchone()
    return int(row[0]) if row is not None else 0
