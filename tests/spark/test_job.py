"""The Spark job in local mode: two executors' worth of Python processes, judging by the product's own definition."""

from __future__ import annotations

import sys

import pytest

from lifecycle.prepared.job import run
from prepared.conftest import Planned
from prepared.test_prepared import assert_only_what_is_due_went

pytestmark = pytest.mark.timeout(300)


def test_what_spark_prepared_is_taken_over(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, as a job that is tried again; then the run carries on, and the end is the oracle's."""
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--master local[2] --conf spark.ui.enabled=false pyspark-shell")
    assert run(planned.place) == {"prepared": 4}
    assert run(planned.place) == {"already": 4}
    planned.expire()
    assert [done.action for done in planned.adopted if done] == ["rewritten", "rewritten", "removed", "removed"]
    assert_only_what_is_due_went(planned)


def test_nothing_exported_is_nothing_to_do(planned: Planned) -> None:
    assert run(f"{planned.place}of-another-run/") == {}
