"""The session's servers, for tests that make their own stores; their runs are judged without Great Expectations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lifecycle.dispositions import census
from oracle.stores import servers
from support.judges import sql_judges

__all__ = ["servers", "sql_judges"]


@pytest.fixture(scope="session", autouse=True)
def every_partition_is_large() -> Iterator[None]:
    """So that the promises are held where partitions are judged from their exceptions; other tests have small ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(census, "LARGE", 0)
        yield
