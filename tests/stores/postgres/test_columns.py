"""A column of a type that would be compared wrongly stops a run before anything is planned (cases 4 and 10)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from lifecycle.cli.main import app
from lifecycle.config import load_configuration
from lifecycle.errors import PreconditionError
from lifecycle.orchestration import steps
from lifecycle.stores.postgres.columns import misfits
from support.store import Store

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)


def test_the_reference_store_fits(store: Store) -> None:
    with store.connect() as conn:
        assert misfits(conn, load_configuration().catalog) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE app.safety_scores ALTER account_id TYPE text", "app.safety_scores.account_id (subject of "),
        ("ALTER TABLE app.feedback ALTER submitted_at TYPE timestamp", "(clock of feedback) is timestamp without"),
        ("ALTER TABLE app.training_examples RENAME message_id TO m", "(record of training_examples) does not exist"),
        ("ALTER TABLE app.safety_flags ALTER cleared_at TYPE timestamp", "app.safety_flags.cleared_at (exceptions of "),
        ("ALTER TABLE app.enforcement_cases ALTER account_id TYPE text", "(exceptions of cases) is text, not uuid"),
    ],
)
def test_a_hold_that_might_not_be_found_stops_the_run(store: Store, change: str, said: str) -> None:
    """A hold on an id with capitals is written in lower case for uuids, and would miss a text."""
    store.sql(change)
    with pytest.raises(PreconditionError) as caught:
        steps.begin("records", AS_OF, run_key="test")
    assert said in str(caught.value)
    assert store.value("SELECT count(*) FROM lifecycle.plan_units") == 0


def test_a_domain_over_the_right_type_is_that_type(store: Store) -> None:
    store.sql("CREATE DOMAIN app.account AS uuid")
    store.sql("ALTER TABLE app.safety_scores ALTER account_id TYPE app.account")
    with store.connect() as conn:
        assert misfits(conn, load_configuration().catalog) == []


def test_validate_with_connect_tells_all_of_them(store: Store) -> None:
    store.sql("ALTER TABLE app.safety_scores ALTER account_id TYPE text, ALTER scored_at TYPE timestamp")
    result = CliRunner().invoke(app, ["policy", "validate", "--connect", "--json"])
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert not found["valid"]
    assert [problem["field"] for problem in found["problems"]] == [
        "safety_scores.clock",
        "safety_scores.subject",
        "accounts.referenced_by",
    ]
    assert all(problem["remedy"] for problem in found["problems"])
