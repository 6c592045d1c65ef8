"""Moves that the tests of coverage share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from lifecycle.config import load_configuration
from lifecycle.coverage.check import check_coverage
from lifecycle.coverage.differences import Coverage, Difference
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from support.store import Store

AS_OF = datetime(2026, 7, 1, tzinfo=UTC)
REASON = 'reason: "a price list, no row is about a person"'


def cover(store: Store, datasets: Path | None = None, as_of: datetime = AS_OF) -> Coverage:
    with store.connect() as conn:
        return check_coverage(conn, store.s3, load_configuration(None, datasets), as_of)


def only(found: Coverage) -> Difference:
    assert [item.name for item in found.differences] == [found.differences[0].name]
    return found.differences[0]


def with_text(folder: Path, *edits: tuple[str, str], more: str = "") -> Path:
    """The shipped dataset file, edited."""
    text = shipped(SHIPPED_DATASETS).read_text(encoding="utf-8")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    file = folder / "datasets.yaml"
    file.write_text(text + more, encoding="utf-8")
    return file
