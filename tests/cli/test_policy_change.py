"""``lifecycle policy diff`` and ``status`` as people and scripts meet them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from lifecycle.shipped import SHIPPED_POLICY, shipped
from support.edits import period, write_policy
from support.store import NOON, Store

AS_OF = "2026-06-01T12:00:00Z"


def test_diff_of_two_files(store: Store, tmp_path: Path) -> None:
    """Records between the two cut-offs, with the oldest and the newest of them; nothing is written."""
    days = (20, 30, 40, 88)
    for days_ago in days:
        store.insert_message(received_at=NOON - timedelta(days=days_ago))
    new = write_policy(tmp_path, period("consumer_default", "P30D"))
    arguments = ("policy", "diff", shipped(SHIPPED_POLICY), new, "--as-of", AS_OF)
    found = json.loads(store.cli(*arguments, "--json").stdout)
    assert (found["newly_expire"], found["expire_later"], found["change_disposition"]) == (2, 0, 0)
    [change] = found["changes"]
    assert change == {
        "dataset": "messages",
        "tier": "consumer",
        "category": "prompts_and_outputs",
        "kind": "newly_expire",
        "rule": "consumer_default",
        "before": "keep:consumer_default",
        "after": "delete:consumer_default",
        "records": 2,
        "oldest": "2026-04-22T12:00:00Z",
        "newest": "2026-05-02T12:00:00Z",
    }
    assert found["needs_approval"].startswith("it touches") and found["needs_approval"].endswith("more than 1.00%")
    back = json.loads(store.cli("policy", "diff", new, shipped(SHIPPED_POLICY), "--as-of", AS_OF, "--json").stdout)
    assert (back["newly_expire"], back["expire_later"]) == (0, 2)
    assert "2 newly expire" in " ".join(store.cli(*arguments).stdout.split())
    assert store.sql("SELECT 1 FROM lifecycle.policies UNION ALL SELECT 1 FROM lifecycle.approvals") == []


def test_diff_names_what_it_cannot_find(store: Store) -> None:
    done = store.cli("policy", "diff", "approved", "0123456789", check=False)
    assert (done.returncode, "no configuration has been approved yet" in done.stderr) == (1, True)
    own = shipped(SHIPPED_POLICY)
    done = store.cli("policy", "diff", own, "0123456789ab", check=False)
    assert (done.returncode, "no configuration of the register" in done.stderr) == (1, True)
    done = store.cli("policy", "diff", own, "missing.yaml", check=False)
    assert done.returncode == 2


def test_status_before_the_first_run(store: Store) -> None:
    found = json.loads(store.cli("policy", "status", "--json").stdout)
    assert (found["in_force"], found["approved"], found["waiting"]) == (None, False, [])
    assert found["thresholds"]["records"] == 100
    assert "none yet" in store.cli("policy", "status").stdout


def test_approving_what_is_not_there(store: Store) -> None:
    done = store.cli("policy", "approve", "0123456789ab", "--by", "counsel", "--yes", check=False)
    assert (done.returncode, "no configuration of the register" in done.stderr) == (1, True)
    done = store.cli("plan", "approve", "12", "--by", "counsel", "--yes", check=False)
    assert (done.returncode, "nothing of the plan of run 12 waits" in done.stderr) == (1, True)


def test_plan_still_asks_for_its_instant(store: Store) -> None:
    done = store.cli("plan", check=False)
    assert (done.returncode, "--as-of" in done.stderr) == (2, True)
    assert json.loads(store.cli("plan", "--as-of", AS_OF, "--json").stdout)["dry_run"] is True
