"""An object explained: whose it is, what becomes of it, and what the store itself says about its versions."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg import sql

from lifecycle.catalog.models import Logs
from lifecycle.config import Configuration
from lifecycle.explain.groups import cited
from lifecycle.explain.lead import lead_sentence, lead_terms
from lifecycle.explain.log_lines import inspect, reader
from lifecycle.explain.records import ABSENT, explain_message
from lifecycle.explain.sentences import day as on
from lifecycle.planning.risk import log_days
from lifecycle.policy.periods import Period
from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.fates import table

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)
_DATE = re.compile(r"date=(\d{4}-\d{2}-\d{2})/")


def explain_object(
    conn: Connection, s3: S3Client, config: Configuration, bucket: str, key: str, as_of: datetime
) -> dict[str, Any]:
    """An object by bucket and key: one of a message, a copy in quarantine, or one of many log records."""
    catalog = config.catalog
    head = {"kind": "object", "bucket": bucket, "as_of": as_of}
    logs = next((each for each in catalog.logs if each.bucket == bucket and key.startswith(each.prefix)), None)
    if logs is not None:
        filed = _DATE.search(key)
        if filed is None:
            return head | {"location": ABSENT, "text": "The key names no day, so no rule of the logs applies to it."}
        of = date.fromisoformat(filed[1])
        found = explain_log_objects(conn, s3, config, logs, key, of, as_of)
        stages = [explain_log_objects(conn, s3, config, part, key, of, as_of) for part in logs.parts]
        if not stages or found["location"] == ABSENT:
            return head | found
        told = {part.part.name: {"due": each["due"]} for part, each in zip(logs.parts, stages, strict=True)}
        text = "\n".join([found["text"], *(each["text"].partition("\n")[2] for each in stages)])
        return head | found | {"stages": told, "text": text}
    if bucket == catalog.evidence_bucket:
        text = "Evidence: ledgers and reports, written once. It holds no content and no identifier; no rule deletes it."
        return head | _state(s3, bucket, key) | {"text": text}
    if bucket not in (catalog.messages.objects.bucket, catalog.messages.quarantine.bucket):
        return head | {"location": ABSENT, "text": "No dataset of the dataset file owns this bucket."}
    return head | _of_message(conn, s3, config, bucket, key, as_of)


def _of_message(
    conn: Connection, s3: S3Client, config: Configuration, bucket: str, key: str, as_of: datetime
) -> dict[str, Any]:
    state = _state(s3, bucket, key)
    message = _message_of(conn, config, key)
    if message is None:
        return state | {"text": "\n".join([_seen(state), _ORPHAN.format(_margin(config))])}
    found = explain_message(conn, config, message, as_of)
    if found["location"] == ABSENT:
        return state | {"text": "\n".join([_seen(state), _ORPHAN.format(_margin(config))])}
    lines = [_seen(state), "It belongs to a message, and goes with it:", found["text"]]
    if state["locked"]:
        lines.append("The store holds a version of it under lock (retention or legal hold): it stays whole until then.")
    return found | state | {"kind": "object", "where": found["location"], "text": "\n".join(lines)}


_ORPHAN = "No message refers to it: it is an orphan, and is disposed of when it is older than {}."


def _margin(config: Configuration) -> Period:
    return config.policy.thresholds.orphan_margin


def _message_of(conn: Connection, config: Configuration, key: str) -> UUID | None:
    """The message whose row names the key, else the one whose id is in it."""
    dataset = config.catalog.messages
    row = conn.execute(
        sql.SQL("SELECT m.{} FROM {} m WHERE m.{} = %(key)s LIMIT 1").format(
            sql.Identifier(dataset.record), table(dataset.table), sql.Identifier(dataset.objects.column)
        ),
        {"key": key},
    ).fetchone()
    if row is not None:
        return UUID(str(row[0]))
    named = _UUID.findall(key)
    return UUID(named[-1]) if named else None


def _state(s3: S3Client, bucket: str, key: str) -> dict[str, Any]:
    """Versions, delete markers and locks of one key."""
    from lifecycle.stores.s3.locks import bucket_has_object_lock, version_lock
    from lifecycle.stores.s3.versions import key_versions

    found = list(key_versions(s3, bucket, key))
    versions = [version for version in found if not version.is_marker]
    locked = False
    if versions and bucket_has_object_lock(s3, bucket):
        locks = [version_lock(s3, bucket, key, version.version_id) for version in versions]
        locked = any(lock.legal_hold or lock.retain_until is not None for lock in locks)
    return {
        "location": bucket if found else ABSENT,
        "versions": len(versions),
        "delete_markers": len(found) - len(versions),
        "locked": locked,
    }


def _seen(state: dict[str, Any]) -> str:
    if state["location"] == ABSENT:
        return "No version of that key is in the bucket."
    hidden = f" and {state['delete_markers']} delete marker(s)" if state["delete_markers"] else ""
    return f"The key has {state['versions']} version(s){hidden}; all of them go together."


def explain_log_objects(
    conn: Connection, s3: S3Client, config: Configuration, dataset: Logs, prefix: str, filed: date, as_of: datetime
) -> dict[str, Any]:
    """Objects of many records, one or a whole day: read, and counted by what becomes of the records."""
    counts = inspect(reader(conn, s3, config, as_of), dataset, prefix, filed)
    data: dict[str, Any] = {
        "location": dataset.bucket if counts.objects else ABSENT,
        "day": filed,
        "objects": counts.objects,
        "records": counts.kept + sum(counts.due.values()),
        "due": counts.due,
        "kept": counts.kept,
        "lead": lead_terms(config.policy.lead),
    }
    if not counts.objects:
        return data | {"text": "There is no such object."}
    lines = [f"{counts.objects:,} object(s) of {filed} with {data['records']:,} records of many accounts and tiers."]
    cleared = ", ".join(dataset.clear)
    for rule, number in counts.due.items():
        what = f"to lose their content ({cleared})" if cleared else "to be taken out"
        lines.append(f"{number:,} {what} by the next run, by {cited(rule, config.policy)}.")
    empty = f"of their content ({cleared}) nothing is left, it is " if cleared else ""
    lines.append(f"{counts.kept:,} stay: {empty}not due yet, or kept by a hold, an open case or an agreement.")
    strikes = [each.strikes for each in log_days(config.policy, dataset.category, [filed], None)]
    if strikes:
        data["earliest_deadline"] = strikes[0]
        what = "the content of a line" if cleared else "a line"
        lines.append(f"The earliest deadline of {what} of that day is {on(strikes[0])}, by the strictest rule.")
    lines.append(
        f"The object is rewritten with null in the content of the lines that are due; the lines are dataset "
        f"{dataset.binding}."
        if cleared
        else "The object is rewritten without the lines that are due, and goes when none is left."
    )
    return data | {"text": "\n".join([*lines, lead_sentence(config.policy.lead)])}
