"""The pace of a dataset: defaults, refusals with file, line, field and remedy, and the JSON Schema."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.catalog.load import load_catalog, read_catalog
from lifecycle.catalog.models import Catalog
from lifecycle.catalog.pace import Pace, iso_duration
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from lifecycle.stores.postgres.guard import differs

AT = "    clock: scored_at\n"


def paced(folder: Path, pace: str) -> tuple[Path, int]:
    """The shipped file with a pace for the scores, and the line at which it stands."""
    text = shipped(SHIPPED_DATASETS).read_text(encoding="utf-8")
    before, found, after = text.partition(AT)
    assert found
    file = folder / "datasets.yaml"
    file.write_text(before + found + "    pace:\n      " + pace + "\n" + after, encoding="utf-8")
    return file, (before + found).count("\n") + 2


@pytest.mark.parametrize(
    ("pace", "field", "says", "remedy"),
    [
        ("transaction: 0.5", "transaction", "not an ISO 8601 duration", "`transaction: PT0.5S`"),
        ("transaction: PT0S", "transaction", "lies outside PT0.02S to PT30S", "`transaction: PT0.5S`"),
        ("statement_timeout: 30s", "statement_timeout", "not an ISO 8601 duration", "`statement_timeout: PT30S`"),
        ("budget: P1M", "budget", "not an ISO 8601 duration", "`budget: PT4H`"),
        ("budget: P8D", "budget", "lies outside PT1S to P7D", "`budget: PT4H`"),
        ("patience: -PT1S", "patience", "not an ISO 8601 duration", "`patience: PT1M`"),
        ("locked_share: 0", "locked_share", "should be greater than or equal to 0.0001", "`locked_share: 0.01`"),
        ("replication_lag: null", "replication_lag", "has no value", "replication_lag: "),
        ("rows: 0", "rows", "should be greater than or equal to 1", "`rows: 50000000`"),
        ("wal_mb_per_second: '200'", "wal_mb_per_second", "should be a valid integer", "`wal_mb_per_second: 200`"),
        ("canary_factor: 1", "canary_factor", "should be greater than or equal to 1.5", "`canary_factor: 5.0`"),
        ("canary: SELECT 1", "canary", "is not a known key", "canary_factor"),
    ],
)
def test_a_wrong_pace_is_refused_with_its_place_and_a_remedy(
    pace: str, field: str, says: str, remedy: str, tmp_path: Path
) -> None:
    file, line = paced(tmp_path, pace)
    (problem,) = read_catalog(file).problems
    assert (problem.file, problem.line, problem.field) == (str(file), line, f"datasets[1].pace.{field}")
    assert says in problem.message
    assert remedy in problem.remedy


def test_a_pace_has_defaults_and_may_be_given_in_part(tmp_path: Path) -> None:
    file, _ = paced(tmp_path, "transaction: PT1.25S")
    scores = next(item for item in load_catalog(file).records if item.id == "safety_scores")
    assert scores.pace == Pace(transaction=timedelta(seconds=1.25))
    assert scores.pace.budget == timedelta(hours=4)


def test_a_change_of_pace_decides_nobodys_fate_and_waits_for_no_approval(tmp_path: Path) -> None:
    file, _ = paced(tmp_path, "rows: 1000")
    changed, before = load_catalog(file), load_catalog(shipped(SHIPPED_DATASETS))
    assert changed != before
    assert not any(differs(dataset, before) for dataset in changed.datasets)


def test_how_many_log_objects_are_read_at_once_is_bounded_and_waits_for_no_approval(tmp_path: Path) -> None:
    text = shipped(SHIPPED_DATASETS).read_text(encoding="utf-8")
    file, before = tmp_path / "datasets.yaml", load_catalog(shipped(SHIPPED_DATASETS))
    assert {dataset.read_ahead for dataset in before.logs} == {8}
    file.write_text(text.replace("    type: logs\n", "    type: logs\n    read_ahead: 32\n"), encoding="utf-8")
    changed = load_catalog(file)
    assert {dataset.read_ahead for dataset in changed.logs} == {32}
    assert not any(differs(dataset, before) for dataset in changed.datasets)
    for wrong in ("0", "33", "1.5", "many"):
        file.write_text(
            text.replace("    type: logs\n", f"    type: logs\n    read_ahead: {wrong}\n"), encoding="utf-8"
        )
        (problem,) = read_catalog(file).problems
        assert problem.field.endswith(".read_ahead")
        assert problem.remedy


@given(
    st.timedeltas(timedelta(milliseconds=20), timedelta(seconds=30)).map(
        lambda t: timedelta(milliseconds=t // timedelta(milliseconds=1))
    )
)
def test_what_is_written_is_read_again(length: timedelta) -> None:
    assert Pace.model_validate({"transaction": iso_duration(length)}).transaction == length
    assert Pace.model_validate(Pace(transaction=length).model_dump(mode="json")).transaction == length


def test_the_json_schema_says_what_a_pace_may_be() -> None:
    import re

    described = Catalog.model_json_schema()["$defs"]["Pace"]["properties"]
    assert described.keys() == Pace.model_fields.keys()
    pattern = described["transaction"]["pattern"]
    assert all(re.fullmatch(pattern, text) for text in ("PT0.5S", "PT4H", "P1DT2H"))
    assert not any(re.fullmatch(pattern, text) for text in ("P", "PT", "P1M", "0.5", "PT0.5"))
