"""Looks whether S3 could still expire what must stay: survivors past the cut-off whose object carries a ticket.

Past the cut-off only survivors are left, so it costs what they cost; of very many a share each day (see `copies`).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING

from psycopg import sql

from lifecycle.backstop.compile import stem, ticket_of
from lifecycle.config import Configuration
from lifecycle.policy.models import Category, Tier, Trigger
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.clocks import perhaps_before
from lifecycle.validation.fragments import AT_AS_OF, Reasons, relation, subject_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DAILY_SHARE = 2_000
READERS = 8
_EPOCH = date(2020, 1, 1)
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})


def count_tickets(conn: Connection, s3: S3Client, config: Configuration, as_of: datetime) -> int:
    """Objects that S3 may expire within the lead though a rule keeps their record."""
    bucket, found = config.catalog.messages.objects.bucket, 0
    with ThreadPoolExecutor(READERS) as pool:
        for tier in Tier:
            ticket = ticket_of(config.policy, config.catalog.messages, tier)
            if ticket is not None:
                for keys in _survivors(conn, config, tier, as_of):
                    found += sum(pool.map(partial(_has_tag, s3, bucket, ticket.key), keys))
    return found


def _survivors(conn: Connection, config: Configuration, tier: Tier, as_of: datetime) -> Iterator[list[str]]:
    dataset, prefix = config.catalog.messages, stem(config.catalog.messages.objects.partitioned, tier)
    default = config.policy.rule_for(Trigger.DEFAULT, dataset.category, tier)
    if default is None or default.period is None:
        return
    soon = config.policy.lead.total.end(as_of, round_up=True)
    reasons = Reasons(config.policy, config.catalog)
    kept = reasons.above(Trigger.DEFAULT, Category.PROMPTS_AND_OUTPUTS, tier, subject_of(dataset, "m"), AT_AS_OF)
    query = sql.SQL(
        "SELECT m.{key}, m.{record} FROM {messages} m WHERE m.{tier} = %(tier)s AND {near}"
        " AND starts_with(m.{key}, %(prefix)s) AND {kept}"
    ).format(
        key=sql.Identifier(dataset.objects.column),
        record=sql.Identifier(dataset.record),
        messages=relation(dataset.table),
        tier=sql.Identifier(dataset.tier),
        near=perhaps_before(dataset.clock, "m", default.period.cutoff_bound(soon)),
        kept=kept,
    )
    params = {"as_of": as_of, "tier": tier.value, "prefix": prefix or ""}
    total = conn.execute(sql.SQL("SELECT count(*) FROM ({}) q").format(query), params).fetchone()
    slices = max(1, -(-(total[0] if total else 0) // DAILY_SHARE))
    share = sql.SQL(
        "SELECT {} FROM ({}) q WHERE mod(hashtext({}::text) & 2147483647, %(slices)s::int) = %(today)s::int"
    )
    chosen = share.format(sql.Identifier("q", dataset.objects.column), query, sql.Identifier("q", dataset.record))
    today = {"slices": slices, "today": (as_of.date() - _EPOCH).days % slices}
    with conn.cursor(name="audit_tickets", withhold=True) as cursor:
        cursor.execute(chosen, params | today)
        while rows := cursor.fetchmany(500):
            yield [key for (key,) in rows]


def _has_tag(s3: S3Client, bucket: str, tag: str, key: str) -> bool:
    """Whether any version of exactly this key carries a tag of this name."""
    from botocore.exceptions import ClientError

    page = s3.list_object_versions(Bucket=bucket, Prefix=key)
    for version in page.get("Versions", []):
        if version["Key"] != key:
            continue
        try:
            found = s3.get_object_tagging(Bucket=bucket, Key=key, VersionId=version["VersionId"])["TagSet"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _MISSING:
                continue
            raise
        if any(each["Key"] == tag for each in found):
            return True
    return False
