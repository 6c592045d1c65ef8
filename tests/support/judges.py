"""Runs judged by the same queries without Great Expectations, whose judgement costs more than everything else they do.

That both judges agree is tested in tests/validation; Great Expectations judges the end-to-end, named and busy worlds.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def sql_judges() -> Iterator[None]:
    """For all runs of a module that imports this, also those of its module fixtures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_VALIDATION", "sql")
        yield
