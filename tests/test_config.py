"""Which files make up the configuration, and that both are told about at once."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from lifecycle.config import load_configuration
from lifecycle.errors import ConfigurationError
from lifecycle.policy.models import Tier
from lifecycle.shipped import SHIPPED_DATASETS, SHIPPED_POLICY, shipped


@pytest.fixture(autouse=True)
def no_files_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIFECYCLE_POLICY", raising=False)
    monkeypatch.delenv("LIFECYCLE_DATASETS", raising=False)


def edited(name: str, old: str, new: str, folder: Path) -> Path:
    text = shipped(name).read_text(encoding="utf-8")
    assert old in text
    file = folder / Path(name).name
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    return file


def test_the_shipped_files_are_sound_and_fit_together() -> None:
    config = load_configuration()
    assert str(config.policy.lead.total) == "P3D"
    assert config.policy.rule("consumer_default").tiers == (Tier.CONSUMER, Tier.BETA, Tier.EVALUATION)
    assert config.catalog.messages.table == "app.messages"
    assert (config.policy_path, config.catalog_path) == (shipped(SHIPPED_POLICY), shipped(SHIPPED_DATASETS))


def test_hashes_are_of_the_bytes_of_the_files(tmp_path: Path) -> None:
    policy = edited(SHIPPED_POLICY, "# The shipped policy.", "# The policy.", tmp_path)
    config = load_configuration(policy)
    assert config.policy_hash == hashlib.sha256(policy.read_bytes()).hexdigest()
    assert config.policy_hash != load_configuration().policy_hash
    assert config.policy == load_configuration().policy
    assert config.catalog_hash == load_configuration().catalog_hash


def test_the_environment_names_other_files_and_arguments_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = edited(SHIPPED_POLICY, "period: P28D", "period: P14D", tmp_path)
    datasets = edited(SHIPPED_DATASETS, "prefix: requests/", "prefix: lines/", tmp_path)
    monkeypatch.setenv("LIFECYCLE_POLICY", str(policy))
    monkeypatch.setenv("LIFECYCLE_DATASETS", str(datasets))
    config = load_configuration()
    assert str(config.policy.rule("business_default").period) == "P14D"
    assert config.catalog.logs[0].prefix == "lines/"
    assert str(load_configuration(shipped(SHIPPED_POLICY)).policy.rule("business_default").period) == "P28D"


def test_problems_of_both_files_are_told_at_once(tmp_path: Path) -> None:
    policy = edited(SHIPPED_POLICY, "period: P28D", "period: 28", tmp_path)
    datasets = edited(SHIPPED_DATASETS, "type: logs", "type: log", tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(policy, datasets)
    assert [(Path(problem.file).name, problem.field) for problem in caught.value.problems] == [
        ("retention.yaml", "rules[7].period"),
        ("reference_store.yaml", "datasets[5].type"),
    ]
    assert len(str(caught.value).splitlines()) == 2


def test_a_dataset_that_no_rule_ends_is_refused(tmp_path: Path) -> None:
    """Its data would stay for ever without anybody noticing."""
    text = shipped(SHIPPED_POLICY).read_text(encoding="utf-8")
    start = text.index("  - id: safety_scores")
    policy = tmp_path / "policy.yaml"
    policy.write_text(text[:start] + text[text.index("  - id: account_data") :], encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(policy)
    (problem,) = caught.value.problems
    assert (Path(problem.file).name, problem.field) == ("reference_store.yaml", "datasets[1].category")
    assert "no rule of trigger 'default' for 'safety_scores'" in problem.message


def test_a_configuration_cannot_be_changed() -> None:
    config = load_configuration()
    with pytest.raises(FrozenInstanceError):
        config.policy_hash = "x"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.policy.name = "x"  # type: ignore[misc]


def test_the_wheel_takes_the_shipped_files_along() -> None:
    """In a wheel they lie below the package, where `shipped` looks first."""
    root = Path(__file__).resolve().parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    taken = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for name in (SHIPPED_POLICY, SHIPPED_DATASETS):
        folder = Path(name).parent
        assert taken[f"include/{folder}"] == f"lifecycle/shipped/{folder}"
        assert (root / "include" / name).is_file()
