"""Names of PostgreSQL's things, as people really have them: mixed case, spaces, other scripts."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

LONG_NAME = "long_name"
# PostgreSQL cuts longer names short without a word, and would then find another thing.
MAX_BYTES = 63
# Quoting makes any name safe; these are refused because no honest name has them, and a mistake in quoting often has.
_PART = r"[^\x00-\x1f\x7f\";%]+"


def _short(name: str) -> str:
    if len(name.encode()) > MAX_BYTES:
        raise PydanticCustomError(LONG_NAME, "is longer than 63 bytes")
    return name


def _short_parts(name: str) -> str:
    for part in name.split(".", 1):
        _short(part)
    return name


_Short, _ShortParts = AfterValidator(_short), AfterValidator(_short_parts)
Identifier = Annotated[str, Field(pattern=rf"^{_PART}$"), _Short]
# One dot, between schema and table: three parts are far more often a database's name before them than a dot in a name.
TableName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f\";%.]+\.[^\x00-\x1f\x7f\";%.]+$"), _ShortParts]
