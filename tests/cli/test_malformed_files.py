"""A malformed file on the command line: one clear error, exit code 2, and nothing runs (issue 3, bad configuration)."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lifecycle.cli.main import app
from lifecycle.shipped import SHIPPED_DATASETS, SHIPPED_POLICY, shipped
from policy.malformed import Malformed
from policy.malformed_datasets import DATASETS
from policy.malformed_fields import FIELDS
from policy.malformed_more import MORE_DATASETS, MORE_POLICIES
from policy.malformed_rules import RULES
from support.store import Store

# Every seventh, so that each kind is among them.
SAMPLE = [(SHIPPED_POLICY, "--policy", case) for case in (*FIELDS, *RULES, *MORE_POLICIES)[::7]] + [
    (SHIPPED_DATASETS, "--datasets", case) for case in (*DATASETS, *MORE_DATASETS)[::7]
]


def write(case: Malformed, name: str, folder: Path) -> tuple[Path, int]:
    text, line = case.apply(shipped(name).read_text(encoding="utf-8"))
    file = folder / "edited.yaml"
    file.write_text(text, encoding="utf-8")
    return file, line


@pytest.mark.parametrize(("name", "option", "case"), SAMPLE, ids=lambda value: getattr(value, "name", ""))
def test_validate_names_the_one_problem(name: str, option: str, case: Malformed, tmp_path: Path) -> None:
    file, line = write(case, name, tmp_path)
    result = CliRunner().invoke(app, ["policy", "validate", option, str(file)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"{file}:{line}: {case.field}: ")
    assert result.stderr.endswith("1 problem in the configuration; nothing was run.\n")


@pytest.mark.parametrize("command", ["run", "plan", "audit", "coverage"])
@pytest.mark.parametrize(
    ("name", "variable", "case"),
    [
        (SHIPPED_POLICY, "LIFECYCLE_POLICY", next(case for case in FIELDS if case.name == "a bare number")),
        (SHIPPED_DATASETS, "LIFECYCLE_DATASETS", next(case for case in MORE_DATASETS if "climbs" in case.name)),
    ],
    ids=["policy", "datasets"],
)
def test_nothing_runs_on_a_malformed_file(
    store: Store,
    command: str,
    name: str,
    variable: str,
    case: Malformed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even a run is registered; the stores are as they were."""
    store.insert_message(tier="beta", received_at=store.value("SELECT now() - interval '2 years'"), object_body="words")
    file, line = write(case, name, tmp_path)
    monkeypatch.setenv(variable, str(file))
    before = _state(store)
    done = store.cli(command, "--as-of", "2026-11-01", check=False)
    assert done.returncode == 2
    assert f"{file}:{line}: {case.field}: " in done.stderr
    assert "nothing was run" in done.stderr
    assert _state(store) == before


def _state(store: Store) -> object:
    rows = store.value(
        "SELECT jsonb_build_array((SELECT jsonb_agg(m) FROM app.messages m),"
        " (SELECT jsonb_agg(r) FROM lifecycle.runs r), (SELECT jsonb_agg(l) FROM lifecycle.ledger l),"
        " (SELECT count(*) FROM pg_class))"
    )
    buckets = ("product-data", "product-logs", "quarantine", "lifecycle-evidence", "research")
    return rows, [(bucket, store.versions(bucket)) for bucket in buckets]
