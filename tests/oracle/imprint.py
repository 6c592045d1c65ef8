"""Both stores byte by byte: what a dry run may not change (case 21).

Stricter than `observe.fingerprint`, which asks what is in the stores: an imprint also sees rows that were written again
with the same values, empty tables, indexes, triggers, sequences, an object's version that was written again, its tags,
locks and retention, the settings of buckets, and unfinished uploads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from psycopg import Connection, sql

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Imprint = Mapping[str, str]

# Everything that is defined, by its own definition; the file node tells a table that was written anew.
_DEFINITIONS = {
    "relation": """SELECT format('%s %I.%I', c.relkind, n.nspname, c.relname), concat_ws(' ', c.oid, c.relfilenode,
                   c.reloptions, c.relacl, pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid))
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {schema}""",
    "column": """SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname), concat_ws(' ', a.attnum, a.attisdropped,
                 format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid))
                 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                 LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE {schema}""",
    "index": """SELECT format('%I.%I', schemaname, indexname), indexdef FROM pg_indexes
                JOIN pg_namespace n ON n.nspname = schemaname WHERE {schema}""",
    "constraint": """SELECT format('%I.%I on %s', n.nspname, k.conname, k.conrelid::regclass),
                     pg_get_constraintdef(k.oid) FROM pg_constraint k
                     JOIN pg_namespace n ON n.oid = k.connamespace WHERE {schema}""",
    "trigger": """SELECT format('%I on %s', t.tgname, t.tgrelid::regclass),
                  concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid)) FROM pg_trigger t
                  JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {schema}""",
    "function": """SELECT format('%I.%I', n.nspname, p.proname), pg_get_functiondef(p.oid) FROM pg_proc p
                   JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {schema} AND p.prokind IN ('f', 'p')""",
    "sequence": """SELECT format('%I.%I', schemaname, sequencename), concat_ws(' ', last_value, start_value)
                   FROM pg_sequences JOIN pg_namespace n ON n.nspname = schemaname WHERE {schema}""",
    "schema": """SELECT n.nspname::text, concat_ws(' ', n.nspacl, obj_description(n.oid, 'pg_namespace'))
                 FROM pg_namespace n WHERE {schema}""",
}
_OURS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
_TABLES = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {schema}"
_REFUSED = "refused: "
# What a bucket can be told, and what its answer is called.
_SETTINGS = (
    "get_bucket_versioning",
    "get_object_lock_configuration",
    "get_bucket_lifecycle_configuration",
    "get_bucket_policy",
    "get_bucket_tagging",
    "get_bucket_encryption",
    "get_bucket_notification_configuration",
)
_OF_A_VERSION = ("get_object_tagging",)
_OF_A_LOCKED_VERSION = ("get_object_tagging", "get_object_legal_hold", "get_object_retention")


def imprint(conn: Connection[Any], s3: S3Client) -> Imprint:
    """Every definition, table, bucket setting, version and upload by name, with a digest of all there is to it."""
    return dict([*_of_postgres(conn), *_of_s3(s3)])


def changes(before: Imprint, after: Imprint) -> list[str]:
    """The names of what is new, gone or different."""
    return [
        f"{'new' if name not in before else 'gone' if name not in after else 'changed'}: {name}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _of_postgres(conn: Connection[Any]) -> Iterator[tuple[str, str]]:
    for kind, query in _DEFINITIONS.items():
        for name, definition in conn.execute(query.replace("{schema}", _OURS).encode()).fetchall():
            yield f"{kind} {name}", _digest(str(definition).encode())
    tables = conn.execute((_TABLES.replace("{schema}", _OURS) + " AND c.relkind = 'r'").encode()).fetchall()
    for schema, table in tables:
        yield f"rows of {schema}.{table}", _rows(conn, sql.Identifier(schema, table))


def _rows(conn: Connection[Any], table: sql.Composable) -> str:
    """The rows as COPY writes them, each with where it lies and which transactions made and locked it."""
    digest = hashlib.sha256()
    query = sql.SQL("COPY (SELECT t.ctid, t.xmin, t.xmax, t.* FROM ONLY {} t ORDER BY t.ctid) TO STDOUT").format(table)
    with conn.cursor() as cursor, cursor.copy(query) as copy:
        for part in copy:
            digest.update(part)
    return digest.hexdigest()


def _of_s3(s3: S3Client) -> Iterator[tuple[str, str]]:
    for found in s3.list_buckets()["Buckets"]:
        name = found["Name"]
        settings = {setting: _ask(s3, setting, Bucket=name) for setting in _SETTINGS}
        yield from ((f"{name}: {setting}", answer) for setting, answer in settings.items())
        locked = not settings["get_object_lock_configuration"].startswith(_REFUSED)
        questions = _OF_A_LOCKED_VERSION if locked else _OF_A_VERSION
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            for version in page.get("Versions", []):
                yield f"{name}: version {version['Key']} {version['VersionId']}", _version(s3, name, version, questions)
            for marker in page.get("DeleteMarkers", []):
                yield f"{name}: marker {marker['Key']} {marker['VersionId']}", _text(marker)
        for uploads in s3.get_paginator("list_multipart_uploads").paginate(Bucket=name):
            for upload in uploads.get("Uploads", []):
                parts = s3.list_parts(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"]).get("Parts", [])
                yield f"{name}: upload {upload['Key']} {upload['UploadId']}", _text([upload, parts])


def _version(s3: S3Client, bucket: str, version: Any, questions: Iterable[str]) -> str:
    which = {"Bucket": bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
    answer: dict[str, Any] = dict(s3.get_object(**which))
    content = _digest(answer.pop("Body").read())
    answer.pop("ResponseMetadata")
    return _text([version, answer, content, *(_ask(s3, question, **which) for question in questions)])


def _ask(s3: S3Client, question: str, **which: str) -> str:
    """The answer without what differs from request to request; a refusal is an answer too."""
    try:
        answer: dict[str, Any] = dict(getattr(s3, question)(**which))
    except ClientError as error:
        return f"{_REFUSED}{error.response['Error']['Code']}"
    answer.pop("ResponseMetadata")
    return _text(answer)


def _text(value: Any) -> str:
    return _digest(repr(value).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
