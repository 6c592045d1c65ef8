"""What `lifecycle postgres physical` says: "erased" of bytes that are gone, not of rows that only cannot be read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lifecycle.cli.postgres import _outlook, _physical
from lifecycle.config import load_configuration
from lifecycle.planning.physical import Deletion, Holder, Outlook

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
GONE = Outlook(Deletion(AT, 1))
FREED = Outlook(replace(GONE.deletion, free_space=2))


@pytest.mark.parametrize(
    ("found", "unreachable", "erased", "words"),
    [
        (GONE, True, True, "is erased, as far as the server can tell"),
        (FREED, True, False, "free space of 2 table(s)"),
        (None, None, None, "Nothing has been deleted yet"),
    ],
)
def test_what_is_said(found: Outlook | None, unreachable: bool | None, erased: bool | None, words: str) -> None:
    data = _physical(found, load_configuration().policy)
    assert (data["unreachable"], data["erased"]) == (unreachable, erased)
    assert words in str(_outlook(data))


def test_what_holds_is_never_called_unreachable() -> None:
    held = Outlook(GONE.deletion, (Holder("column statistics", None, "from before"),))
    data = _physical(held, load_configuration().policy)
    assert (data["unreachable"], data["erased"], data["tables_with_free_space"]) == (False, False, 0)
