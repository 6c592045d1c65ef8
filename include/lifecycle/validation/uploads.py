"""Unfinished multipart uploads, which no listing of objects shows, counted by the auditor's own listing (case 14)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from psycopg import sql

from lifecycle.policy.models import Tier
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.fragments import relation
from lifecycle.validation.scene import Scene

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FACT = "unfinished_uploads"
# Sent as they are or as references to characters, from 0 to 31 but for those that XML knows.
_CONTROL = re.compile(
    rb"&#x0*([0-8bBcCeEfF]|1[0-9a-fA-F]);|&#0*([0-8]|1[124-9]|2[0-9]|3[01]);|[\x00-\x08\x0b\x0c\x0e-\x1f]"
)
# Of Unicode's noncharacters: no text has them.
_STANDS_IN = 0xFDD0
_BACK = {_STANDS_IN + number: number for number in range(32)}
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
        keys = list(begun(s3, dataset.bucket, (dataset.prefix,), limit))
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
            keys = list(begun(s3, bucket, prefixes, limit))
            count += _objectionable(conn, scene, keys, [messages.id, messages.table])
    return count


def _of_tiers(layout: str) -> tuple[str, ...]:
    return tuple(layout.split("{date}", 1)[0].format(tier=tier.value) for tier in Tier)


def begun(s3: S3Client, bucket: str, prefixes: tuple[str, ...], before: datetime) -> Iterator[str]:
    """Keys of uploads, each as often as it has some.

    Servers are not asked to encode keys: of those that do, some leave the marker of the next page as it is, and others
    do not know the encoded one again.
    """
    for prefix in sorted(set(prefixes)):
        with _parsable(s3):
            for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
                for upload in page.get("Uploads", []):
                    if upload["Initiated"] < before:
                        yield upload["Key"].translate(_BACK)


@contextmanager
def _parsable(s3: S3Client) -> Iterator[None]:
    """Within it an answer may name keys with control characters, which no XML can: each is another character there,
    and itself again in a request."""
    # Under these names ahead of what parses an answer or checks a request.
    handlers: tuple[tuple[str, Callable[..., None]], ...] = (
        ("before-parse.*.ListMultipartUploads", _take_away),
        ("provide-client-params.*.ListMultipartUploads", _put_back),
    )
    for event, handler in handlers:
        s3.meta.events.register_first(event, handler)
    try:
        yield
    finally:
        for event, handler in handlers:
            s3.meta.events.unregister(event, handler)


def _take_away(response_dict: dict[str, Any], **_: Any) -> None:
    response_dict["body"] = _CONTROL.sub(
        lambda found: chr(_STANDS_IN + (int(found[1], 16) if found[1] else int(found[2] or found[0][0]))).encode(),
        response_dict["body"],
    )


def _put_back(params: dict[str, Any], **_: Any) -> None:
    if "KeyMarker" in params:
        params["KeyMarker"] = params["KeyMarker"].translate(_BACK)


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
