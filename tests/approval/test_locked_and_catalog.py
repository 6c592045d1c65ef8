"""A locked policy is refused at begin; a dataset file that binds differently makes its datasets wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lifecycle.shipped import SHIPPED_DATASETS, shipped
from oracle.facts import Score, World, ident
from oracle.named import AS_OF, DAY, message
from oracle.stores import Servers, at, run
from support.edits import locked, period, put, write_policy
from support.scopes import carry_out
from support.store import Store

TOMORROW = AS_OF + DAY


@pytest.fixture
def store(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store with a disputed and an undisputed record of two datasets."""
    disputed = message("disputed", age=DAY * 50)
    world = World(
        messages=(disputed,),
        scores=(Score(ident("score"), disputed.message_id, disputed.account_id, "consumer", AS_OF - DAY * 2500),),
    )
    with servers.store(world) as made:
        for name, value in made.env.items():
            monkeypatch.setenv(name, value)
        yield made


def load(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("LIFECYCLE_POLICY", str(file))


def test_a_locked_policy_refuses_a_longer_period_and_nothing_runs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(monkeypatch, write_policy(tmp_path, locked))
    assert carry_out(AS_OF, "beta", validated=False).code == 0
    file = write_policy(tmp_path / "new", locked, period("consumer_default", "P91D"))
    load(monkeypatch, file)
    before = store.sql("SELECT run_id FROM lifecycle.runs")
    done = run(store, TOMORROW, "--tier", "beta")
    assert done.code == 2
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "P91D" in text)
    assert (
        f"{file}:{line}: rules[6].period: rule consumer_default: a locked maximum can only be shortened" in done.stderr
    )
    assert "Write period: P90D or less" in done.stderr
    assert store.sql("SELECT run_id FROM lifecycle.runs") == before
    assert run(store, TOMORROW, "--tier", "beta", "--dry-run").code == 2
    refused = store.cli("policy", "approve", "policy", "--by", "boss", "--yes", check=False)
    assert refused.returncode != 0


def test_a_lock_cannot_be_approved_away(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lifecycle.config import load_configuration

    load(monkeypatch, write_policy(tmp_path, locked))
    assert carry_out(AS_OF, "beta", validated=False).code == 0
    load(monkeypatch, write_policy(tmp_path / "new"))
    done = store.cli("policy", "approve", load_configuration().policy_hash, "--by", "boss", "--yes", check=False)
    assert (done.returncode, "a lock is never removed" in done.stderr) == (2, True)


def _datasets(tmp_path: Path, **changes: object) -> Path:
    document = yaml.safe_load(shipped(SHIPPED_DATASETS).read_text(encoding="utf-8"))
    next(item for item in document["datasets"] if item["id"] == "safety_scores").update(changes)
    file = tmp_path / "datasets.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


def test_a_dataset_that_is_bound_differently_waits_as_a_whole(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores count from another column now: none goes before somebody has agreed. Everything else goes on."""
    assert carry_out(AS_OF - DAY * 9, "beta", validated=False).code == 0
    store.sql("ALTER TABLE app.safety_scores ADD COLUMN judged_at timestamptz NOT NULL DEFAULT '2001-01-01Z'")
    store.insert_message(message_id=ident("due"), received_at=AS_OF - DAY * 100)
    monkeypatch.setenv("LIFECYCLE_DATASETS", str(_datasets(tmp_path, clock="judged_at")))
    done = carry_out(TOMORROW, "consumer", "records")
    assert done.code == 0, str(done)
    assert store.value("SELECT count(*) FROM app.safety_scores") == 1
    assert not store.sql("SELECT 1 FROM app.messages WHERE message_id = %s", ident("due"))
    waits = store.value("SELECT shown FROM lifecycle.approvals WHERE status = 'pending'")
    assert waits["waiting"] == ["safety_scores"]
    audit = json.loads(store.cli("audit", "--as-of", at(TOMORROW), "--json", check=False).stdout)
    late = {check["name"]: check["violations"] for check in audit["checks"]}
    assert (late["safety_scores_past_deadline"], late["late_awaiting_approval.records"]) == (0, 1)
    from lifecycle.config import load_configuration

    store.cli("policy", "approve", load_configuration().catalog_hash, "--by", "counsel", "--yes")
    assert carry_out(TOMORROW + DAY, "records", validated=False).code == 0
    assert store.value("SELECT count(*) FROM app.safety_scores") == 0


def test_comments_and_words_change_nothing_and_approve_themselves(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_policy(tmp_path, put("approval", records=0, share=0.0))
    load(monkeypatch, file)
    assert carry_out(AS_OF, "beta", validated=False).code == 0
    file.write_text("# a remark\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    assert carry_out(TOMORROW, "beta", validated=False).code == 0
    assert store.sql("SELECT status FROM lifecycle.approvals ORDER BY approval_id") == [("automatic",), ("automatic",)]
    status = json.loads(store.cli("policy", "status", "--json").stdout)
    assert (status["approved"], status["waiting"]) == (True, [])


def test_an_approval_that_nobody_gave_is_found_by_the_auditor(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes a yes into the table without the ledger, or changes who said it, breaks a promise."""
    load(monkeypatch, write_policy(tmp_path))
    assert carry_out(AS_OF, "beta", validated=False).code == 0

    def found() -> int:
        audit = json.loads(store.cli("audit", "--as-of", at(AS_OF), "--json", check=False).stdout)
        return next(int(c["violations"]) for c in audit["checks"] if c["name"] == "approvals_not_in_ledger")

    assert found() == 0
    store.sql("UPDATE lifecycle.approvals SET decided_by = 'somebody'")
    assert found() == 1
