"""Case 25 in Airflow: unique strings are planted, DAGs are run, and everything that Airflow keeps is searched."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from e2e.conftest import Stack
from lifecycle.demo.demo import METADATA

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

WORDS = ("rotkehlchen", "zaunkoenig", "gartenspoetter", "wiedehopf")


@pytest.fixture(scope="module")
def planted(stack: Stack) -> frozenset[str]:
    """What was planted: words in bodies, names, tools and comments, and every id, with and without dashes."""
    ids: list[UUID] = []
    for tier in ("consumer", "beta", "evaluation", "business"):
        for cleared in (None, stack.options.as_of):
            account, conversation, message = uuid4(), uuid4(), uuid4()
            ids += [account, conversation, message]
            stack.store.insert_account(account, tier=tier, email=f"{WORDS[0]}@example.org", display_name=WORDS[1])
            stack.store.insert_message(
                tier=tier,
                received_at=stack.due(tier),
                message_id=message,
                account_id=account,
                conversation_id=conversation,
                object_body=f"I am {WORDS[2]}",
                tools=[WORDS[3]],
            )
            stack.store.insert(
                "app.safety_flags",
                message_id=message,
                account_id=account,
                classifier=WORDS[3],
                flagged_at=stack.due(tier),
                cleared_at=cleared,
            )
    for dag in ("consumer", "beta", "evaluation", "business", "records", "erasure", "auditor"):
        assert stack.run(f"retention_{dag}")[1] == "success", dag
    return frozenset({*WORDS, *(form for one in ids for form in (str(one), one.hex))})


def files(stack: Stack) -> dict[str, str]:
    """Logs of tasks, of the components, and of the servers underneath."""
    folders = (stack.airflow_home / "logs", stack.demo.home / "servers")
    found = [path for folder in folders for path in folder.rglob("*.log")]
    return {str(path): path.read_text(encoding="utf-8", errors="replace") for path in found}


def metadata(stack: Stack) -> dict[str, str]:
    """Every row of every table of Airflow's: XComs, rendered fields, event log, asset events and the rest."""
    with psycopg.connect(stack.demo.postgres().conninfo(METADATA)) as conn:
        tables = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {
            name: "\n".join(
                row[0] for row in conn.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(name)))
            )
            for (name,) in tables
        }


def heard(planted: frozenset[str], texts: dict[str, str]) -> list[str]:
    return sorted(place for place, text in texts.items() if any(canary in text.lower() for canary in planted))


def test_case_25_no_log_holds_a_canary(stack: Stack, planted: frozenset[str]) -> None:
    texts = files(stack)
    assert [place for place in texts if "task_id=expire" in place], "no task logs were found; the test saw nothing"
    assert [place for place in texts if Path(place).name == "scheduler.log"]
    assert heard(planted, texts) == []


def test_case_25_airflows_own_database_holds_no_canary(stack: Stack, planted: frozenset[str]) -> None:
    texts = metadata(stack)
    assert "disposed" in texts["xcom"], "no XComs were found; the test saw nothing"
    assert texts["asset_event"]
    assert heard(planted, texts) == []


def test_the_search_hears_a_canary(planted: frozenset[str]) -> None:
    """The test is tested."""
    assert heard(planted, {"here": f"a {WORDS[1].upper()} sang", "there": "nothing"}) == ["here"]


def test_what_airflow_announces_is_a_run_and_an_instant(stack: Stack, planted: frozenset[str]) -> None:
    with psycopg.connect(stack.demo.postgres().conninfo(METADATA)) as conn:
        extras = [row[0] for row in conn.execute("SELECT extra FROM asset_event")]
    assert extras
    assert {name for extra in extras for name in extra} <= {"run", "as_of", "disposed", "kept"}
