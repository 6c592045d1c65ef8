"""Reads which buckets there are, and what lies in owned ones outside the declared prefixes.

Levels are listed with a delimiter, so a declared prefix costs one entry however many objects it has. A name that may be
an identifier is shown by its shape only (hard case 25).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lifecycle.catalog.models import Catalog
from lifecycle.coverage.facts import Stray

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# What the project itself writes into the evidence bucket.
EVIDENCE_PREFIXES = ("ledger/", "runs/")
# Pages of 1,000: a bucket with more first-level names than that is one stray after the other, and known to be.
MAX_PAGES = 50
# More different names than this are names of somebody or something, not of folders.
MOST_NAMES = 20
_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "403", "NotImplemented", "MethodNotAllowed"})
_MASKS = (
    (re.compile(r"[^/\s=]+@[^/\s=]+"), "<e-mail>"),
    (re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.I), "<id>"),
    (re.compile(r"\d{1,3}(?:\.\d{1,3}){3}"), "<ip>"),
    (re.compile(r"\+?\d[\d ()-]{4,}"), "<number>"),
    (re.compile(r"[A-Za-z0-9_]{24,}"), "<id>"),
)
_PLAIN = re.compile(r"[A-Za-z0-9!_.*'()=-]+/?")


def list_buckets(s3: S3Client) -> tuple[str, ...] | None:
    """Every bucket the key can list; None where it may not."""
    from botocore.exceptions import ClientError

    try:
        return tuple(sorted(bucket["Name"] for bucket in s3.list_buckets().get("Buckets", [])))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _REFUSED:
            return None
        raise


def declared_prefixes(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """Per owned bucket the prefixes that belong to something; a name in braces stands for any text. The research
    bucket is given over to de-identified data as a whole."""
    declared: dict[str, tuple[str, ...]] = {catalog.evidence_bucket: EVIDENCE_PREFIXES}
    if catalog.has_messages:
        messages = catalog.messages
        declared[messages.objects.bucket] = (messages.objects.landing, _folder(messages.objects.partitioned))
        declared[messages.quarantine.bucket] = (_folder(messages.quarantine.prefix),)
    for dataset in catalog.logs:
        declared[dataset.bucket] = (*declared.get(dataset.bucket, ()), dataset.prefix)
    return {bucket: prefixes for bucket, prefixes in declared.items() if "" not in prefixes}


def _folder(layout: str) -> str:
    """A layout up to and with its first part that varies."""
    parts = layout.split("/")
    varying = next((index for index, part in enumerate(parts) if "{" in part), len(parts) - 1)
    return "/".join(parts[: varying + 1]) + "/"


def strays_in(s3: S3Client, bucket: str, declared: Sequence[str]) -> tuple[Stray, ...]:
    """What lies in a bucket outside its declared prefixes, hidden versions and delete markers too."""
    patterns = [_pattern(prefix) for prefix in declared]
    found: Counter[str] = Counter()
    _walk(s3, bucket, "", patterns, found)
    return _folded(found)


def _pattern(prefix: str) -> tuple[re.Pattern[str], ...]:
    """One pattern per level, so that a level above a declared prefix is entered and not reported."""
    parts = prefix.rstrip("/").split("/")
    texts = [re.sub(r"\\\{[^{}]*\\\}", "[^/]*", re.escape(part)) for part in parts]
    return tuple(re.compile("/".join(texts[: depth + 1]) + "/") for depth in range(len(texts)))


def _walk(
    s3: S3Client, bucket: str, prefix: str, patterns: Sequence[tuple[re.Pattern[str], ...]], found: Counter[str]
) -> None:
    inside = []
    for name in _level(s3, bucket, prefix):
        if any(levels[-1].fullmatch(name) for levels in patterns):
            continue
        if any(level.fullmatch(name) for levels in patterns for level in levels[:-1]):
            inside.append(name)
        elif name in found or len(found) < MAX_PAGES * 1_000:
            found[name] += 1
    for name in inside:
        _walk(s3, bucket, name, patterns, found)


def _level(s3: S3Client, bucket: str, prefix: str) -> Iterator[str]:
    """The names of one level, whole: ``a/b/`` for what has more below it, ``a/b`` for an object."""
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    for number, page in enumerate(pages):
        if number == MAX_PAGES:
            return
        yield from (entry["Prefix"] for entry in page.get("CommonPrefixes", []))
        keys = {entry["Key"] for entry in (*page.get("Versions", []), *page.get("DeleteMarkers", []))}
        yield from sorted(keys)


def _folded(found: Counter[str]) -> tuple[Stray, ...]:
    """Names as shapes. Where there are very many they are somebody's, and only their number is told."""
    shapes: Counter[tuple[str, str]] = Counter()
    for name, count in found.items():
        shapes[shape_of(name)] += count
    if len(shapes) > MOST_NAMES:
        return (Stray("<names>", "", sum(shapes.values())),)
    return tuple(Stray(shape, begins, count) for (shape, begins), count in sorted(shapes.items()))


def shape_of(name: str) -> tuple[str, str]:
    """A name without what may identify somebody, and the plain text it begins with."""
    shown = name
    for pattern, mask in _MASKS:
        shown = pattern.sub(mask, shown)
    if "<" not in shown and all(_PLAIN.fullmatch(part) for part in shown.rstrip("/").split("/")):
        return shown, shown
    begins = shown.split("<", 1)[0]
    if "<" not in shown or re.fullmatch(r"[A-Za-z0-9!_.*'()=/-]*", begins) is None:
        return "<name>", ""
    return shown, begins
