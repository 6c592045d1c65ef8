"""``lifecycle policy``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lifecycle.cli.main import app
from lifecycle.shipped import SHIPPED_DATASETS, SHIPPED_POLICY, shipped


@pytest.fixture(autouse=True)
def no_files_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIFECYCLE_POLICY", raising=False)
    monkeypatch.delenv("LIFECYCLE_DATASETS", raising=False)


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    file = tmp_path / "wrong.yaml"
    file.write_text(
        shipped(SHIPPED_POLICY).read_text(encoding="utf-8").replace("period: P28D", "period: 28", 1), encoding="utf-8"
    )
    return file


def test_validate_accepts_the_shipped_files() -> None:
    result = CliRunner().invoke(app, ["policy", "validate"])
    assert result.exit_code == 0
    assert "retention.yaml: sound, 12 rules" in result.stdout
    assert "reference_store.yaml: sound, 6 datasets" in result.stdout


def test_validate_json() -> None:
    result = CliRunner().invoke(app, ["policy", "validate", "--json"])
    found = json.loads(result.stdout)
    assert (result.exit_code, found["valid"], found["problems"]) == (0, True, [])
    assert len(found["policy"]["sha256"]) == 64


def test_validate_names_file_line_field_and_remedy(wrong: Path) -> None:
    result = CliRunner().invoke(app, ["policy", "validate", "--policy", str(wrong)])
    assert result.exit_code == 2
    line = next(n for n, text in enumerate(wrong.read_text(encoding="utf-8").splitlines(), 1) if "period: 28" in text)
    assert result.stderr.startswith(f"{wrong}:{line}: rules[7].period: '28' has no unit. Write P28D")
    assert "1 problem in the configuration" in result.stderr


def test_validate_json_lists_problems(wrong: Path) -> None:
    result = CliRunner().invoke(
        app, ["policy", "validate", "--policy", str(wrong), "--datasets", "missing.yaml", "--json"]
    )
    found = json.loads(result.stdout)
    assert result.exit_code == 2
    assert found["valid"] is False
    assert [problem["field"] for problem in found["problems"]] == ["rules[7].period", "file"]
    assert set(found["problems"][0]) == {"file", "line", "field", "message", "remedy"}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(["policy", "schema"], SHIPPED_POLICY), (["policy", "schema", "--datasets"], SHIPPED_DATASETS)],
)
def test_the_schema_accepts_what_is_shipped_and_refuses_what_is_not(
    arguments: list[str], name: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, arguments)
    schema = tmp_path / "schema.json"
    schema.write_text(result.stdout, encoding="utf-8")
    check = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(schema)]
    done = subprocess.run([*check, str(shipped(name))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(shipped(name).read_text(encoding="utf-8").replace("P7D", "7 days", 1), encoding="utf-8")
    assert subprocess.run([*check, str(wrong)], capture_output=True, check=False).returncode == 1
    unknown = tmp_path / "unknown.yaml"
    unknown.write_text(shipped(name).read_text(encoding="utf-8") + "\nowner: me\n", encoding="utf-8")
    assert subprocess.run([*check, str(unknown)], capture_output=True, check=False).returncode == 1


def test_show_tells_every_rule_and_every_term_of_the_lead() -> None:
    result = CliRunner().invoke(app, ["policy", "show"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for text in ("safety_flagged", "P2Y", "quarantine", "consumer_default", "P90D", "failed_runs", "total", "P3D"):
        assert text in result.stdout
    assert "Precedence, highest first: hold, case, flag, erasure, consent, agreement, default" in result.stdout


def test_show_json() -> None:
    found = json.loads(CliRunner().invoke(app, ["policy", "show", "--json"]).stdout)
    assert found["lead"]["total"] == "P3D"
    assert found["lead"]["longest_run"] == "PT12H"
    rule = next(rule for rule in found["rules"] if rule["id"] == "business_default")
    assert (rule["period"], rule["kind"], rule["disposition"], rule["tiers"]) == (
        "P28D",
        "maximum",
        "delete",
        ["business"],
    )
    assert found["precedence"][0] == "hold"
