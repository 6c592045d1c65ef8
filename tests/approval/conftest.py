"""The session's servers, for tests that make their own stores; their runs are judged without Great Expectations."""

import pytest

from oracle.stores import servers

__all__ = ["servers"]


@pytest.fixture(autouse=True)
def sql_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing Great Expectations costs more than everything else a run does here."""
    monkeypatch.setenv("LIFECYCLE_VALIDATION", "sql")
