"""``lifecycle audit``: exit code, counts per broken promise, JSON, and a start without heavy libraries."""

from __future__ import annotations

import json
import subprocess
import sys

from support.store import Store
from validation.healthy import AS_OF, ago, build, put_message

WHEN = AS_OF.isoformat().replace("+00:00", "Z")


def test_a_healthy_store_ends_with_0(store: Store) -> None:
    build(store)
    done = store.cli("audit", "--as-of", WHEN)
    assert "Every promise holds." in done.stdout


def test_a_broken_promise_ends_with_1_and_counts(store: Store) -> None:
    build(store)
    late = [put_message(store, tier="beta", received_at=ago(days=99), body="late") for _ in range(3)]
    done = store.cli("audit", "--as-of", WHEN, check=False)
    assert done.returncode == 1
    assert "messages_past_deadline.beta: 3" in done.stderr
    as_json = store.cli("audit", "--as-of", WHEN, "--json", check=False)
    assert as_json.returncode == 1
    data = json.loads(as_json.stdout)
    assert (data["as_of"], data["passed"]) == (WHEN, False)
    assert data["broken"] == {"messages_past_deadline.beta": 3}
    wanted = {"name", "promise", "severity", "violations", "success", "description"}
    assert all(set(check) == wanted for check in data["checks"])
    assert not any(str(message) in done.stdout + as_json.stdout for message in late)


def test_an_instant_is_required(store: Store) -> None:
    assert store.cli("audit", check=False).returncode == 2
    assert store.cli("audit", "--as-of", "2026-11-01T00:00:00", check=False).returncode == 2


def test_auditing_loads_neither_airflow_nor_great_expectations(store: Store) -> None:
    script = (
        "import sys; from lifecycle.cli.main import app\n"
        f"try: app(['audit', '--as-of', '{WHEN}'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'airflow', 'great_expectations', 'pandas', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
