"""Pages of ListObjectVersions, read leanly: the client signs, sends, retries and names errors; the entries are ours.

The client's own reader takes a tenth of a second for a page of a thousand, nearly all of it for dates and for shapes
that nobody asked for. So the entries are taken out of an answer before the client reads what is left of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from lifecycle.stores.s3.entries import ObjectVersion
from lifecycle.stores.s3.errors import StoreError
from lifecycle.stores.s3.legible import made_legible, restored

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from mypy_boto3_s3 import S3Client

# Under this name a handler is called before those of "before-parse.s3.*", of which one parses the whole answer, too.
_EVENT = "before-parse.*.ListObjectVersions"
_HANDLER = "lifecycle-lean-listing"
_ENTRIES = "LifecycleEntries"
# Others list versions with the same client, and expect what the client's own reader gives.
_wanted: ContextVar[bool] = ContextVar("lean_listing", default=False)


def lean_pages(s3: S3Client, request: dict[str, Any], *, ahead: bool = False) -> Iterator[list[ObjectVersion]]:
    """Versions and markers of each page, in the order of the answer.

    Args:
        ahead: ask for the next page while this one is worked on; one page too many for who stops in the middle.

    Raises:
        StoreError: an answer holds entries that are none. One that ends too early is asked for again by the client.
    """
    s3.meta.events.register_first(_EVENT, _take_entries, unique_id=_HANDLER)
    pages = iter(s3.get_paginator("list_object_versions").paginate(**request))
    with ThreadPoolExecutor(1, thread_name_prefix="s3-list") as other:
        page = _next(pages)
        while page is not None:
            coming = other.submit(_next, pages) if ahead and page.get("IsTruncated") else None
            entries: list[ObjectVersion] | None = page.get(_ENTRIES)
            if entries is None:
                raise StoreError("ListObjectVersions", "MalformedAnswer")
            yield entries
            page = coming.result() if coming is not None else _next(pages)


def _next(pages: Iterator[Any]) -> dict[str, Any] | None:
    token = _wanted.set(True)
    try:
        return next(pages, None)
    finally:
        _wanted.reset(token)


def _take_entries(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Handles the client's event: move the entries from the body to the parsed answer."""
    if not _wanted.get() or response_dict["status_code"] != 200:
        return
    try:
        root = ElementTree.fromstring(made_legible(response_dict["body"]))
    except ElementTree.ParseError:
        return  # the client finds it broken too, and asks again
    try:
        customized_response_dict[_ENTRIES], rest = _split(root)
    except (KeyError, ValueError):
        rest = ElementTree.Element(root.tag)  # nothing for the client to stumble over; refused above
    response_dict["body"] = ElementTree.tostring(rest)


def _split(root: Element) -> tuple[list[ObjectVersion], Element]:
    """The entries of an answer, and the answer without them."""
    space = root.tag[: root.tag.find("}") + 1]
    encoded = root.findtext(f"{space}EncodingType") == "url"
    names = [f"{space}{name}" for name in ("Key", "VersionId", "IsLatest", "Size", "ETag", "LastModified")]
    kinds = {f"{space}Version": False, f"{space}DeleteMarker": True}
    entries: list[ObjectVersion] = []
    rest = ElementTree.Element(root.tag)
    for element in root:
        is_marker = kinds.get(element.tag)
        if is_marker is None:
            if element.tag == f"{space}NextKeyMarker" and restored(element.text or "") != (element.text or ""):
                raise ValueError("a server that does not encode the marker of the next page")
            rest.append(element)
        else:
            entries.append(_entry(element, names, is_marker, encoded))
    return entries, rest


def _entry(element: Element, names: list[str], is_marker: bool, encoded: bool) -> ObjectVersion:
    found = {field.tag: field.text or "" for field in element}
    key, version_id, is_latest, size, etag, last_modified = names
    return ObjectVersion(
        key=_decoded(found[key]) if encoded else restored(found[key]),
        version_id=found.get(version_id) or "null",
        is_marker=is_marker,
        is_latest=found.get(is_latest, "").lower() == "true",
        size=0 if is_marker else int(found.get(size) or 0),
        etag="" if is_marker else found.get(etag, ""),
        last_modified=_instant(found[last_modified]),
    )


def _decoded(key: str) -> str:
    return unquote_plus(key) if "%" in key or "+" in key else key


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
