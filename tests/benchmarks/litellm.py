"""The spend logs of a LiteLLM proxy, in its real database: ours beside its own clean-up, on copies of the same data.

    python tests/benchmarks/litellm.py [--rows 1000000] [--tools 2]

The migrations are those of the package litellm-proxy-extras, installed into a folder of its own. Rows lie evenly over
400 days, with prompts and answers of about 1.5 KB; each has rows in the index of tools. `ours` empties content after
28 days and ends rows, with theirs in the index tables, after a year (include/datasets/litellm.yaml), then vacuums.
`its own` ends rows after a year as LiteLLM does, a thousand ids at a time; it knows neither content nor index tables.
What LiteLLM's own pages ask is asked before and after: the same answers, and how fast.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg import sql

from lifecycle.config import load_configuration
from lifecycle.demo.servers import Postgres, embedded_postgres
from lifecycle.dispositions.context import RECORDS_SCOPE, RunContext
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.records import expire_records
from lifecycle.dispositions.survey import survey
from lifecycle.ledger import runs
from lifecycle.orchestration.schema import ensure_schema

ROOT = Path(__file__).parents[2]
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
DAYS = 400
LOGS = '"LiteLLM_SpendLogs"'
TOOLS = '"LiteLLM_SpendLogToolIndex"'
OLD = AS_OF - timedelta(days=365)
Conn = psycopg.Connection[Any]


def say(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


def tell(*cells: object) -> None:
    sys.stdout.write("| " + " | ".join(str(cell) for cell in cells) + " |\n")
    sys.stdout.flush()


def scalar(conn: Conn, query: str) -> Any:
    row = conn.execute(query.encode()).fetchone()
    return row[0] if row else None


# -- the data -----------------------------------------------------------------------------------------------------


def migrations(folder: Path) -> list[Path]:
    """The real ones, in their order."""
    installer = Path(sys.executable).parent / "uv"
    command = [str(installer), "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*command, "litellm-proxy-extras"], check=True, stdin=subprocess.DEVNULL)
    return sorted((folder / "litellm_proxy_extras" / "migrations").glob("*/migration.sql"))


def migrate(conn: Conn, files: list[Path]) -> None:
    for file in files:
        conn.execute(file.read_text(encoding="utf-8").encode())


def fill(conn: Conn, rows: int, tools: int) -> None:
    conn.execute("SET synchronous_commit = off")
    words = "repeat(md5(n::text) || ' ', 12)"
    conn.execute(
        f"""INSERT INTO {LOGS} (request_id, call_type, api_key, spend, total_tokens, "startTime", "endTime", model,
            "user", session_id, messages, response, proxy_server_request)
        SELECT 'chatcmpl-' || md5(n::text), 'acompletion', md5((n % 200)::text), 0.001, 500, at, at + interval '2 s',
            'gpt', 'user-' || n % 5000, 'session-' || n / 6,
            jsonb_build_object('role', 'user', 'content', {words}),
            jsonb_build_object('role', 'assistant', 'content', {words}),
            jsonb_build_object('model', 'gpt', 'body', {words})
        FROM (SELECT n, timestamp '{AS_OF:%Y-%m-%d}' - n::float8 * {DAYS * 86400} / {rows} * interval '1 second' AS at
              FROM generate_series(1, {rows}) n) s""".encode()
    )
    conn.execute(
        f"""INSERT INTO {TOOLS} (request_id, tool_name, start_time)
        SELECT request_id, 'tool-' || t, "startTime" FROM {LOGS}, generate_series(1, {tools}) t""".encode()
    )
    conn.execute("VACUUM (ANALYZE)")


# -- the contestants ----------------------------------------------------------------------------------------------


def ours(conn: Conn) -> dict[str, float]:
    """A run of scope records, without its validation. Seconds by part."""
    config = load_configuration(ROOT / "include/policies/litellm.yaml", ROOT / "include/datasets/litellm.yaml")
    conn.execute("SET TimeZone = 'UTC'")
    hashes = (config.policy_hash, config.catalog_hash)
    run = runs.begin(conn, scope=RECORDS_SCOPE, as_of=AS_OF, run_key=f"b{time.monotonic_ns()}", hashes=hashes,
                     dry_run=False, owner=None)  # fmt: skip
    context = RunContext(conn, cast(Any, None), config.policy, config.catalog, run)
    began = time.monotonic()
    units = survey(context)
    freeze(conn, run.run_id, units)
    took = {"plan": time.monotonic() - began}
    for unit in units:
        began = time.monotonic()
        expire_records(context, unit.unit)
        took[unit.unit] = time.monotonic() - began
    runs.finish(conn, run.run_id, "succeeded")
    return took


def its_own(conn: Conn) -> dict[str, float]:
    """As LiteLLM's SpendLogCleanup: ids of expired rows, a thousand at a time, until there are none."""
    statement = sql.SQL(
        "DELETE FROM {logs} WHERE request_id IN (SELECT request_id FROM {logs} WHERE {clock} < %s LIMIT 1000)"
    ).format(logs=sql.SQL(LOGS), clock=sql.Identifier("startTime"))
    began = time.monotonic()
    while conn.execute(statement, (OLD.replace(tzinfo=None),)).rowcount:
        pass
    return {"rows": time.monotonic() - began}


# -- what LiteLLM itself asks ---------------------------------------------------------------------------------------

# As its proxy sends them: litellm 1.110.2, litellm/proxy/, spend_tracking/spend_management_endpoints.py and
# db/create_views.py; each entry names its function. All ask for what stays (rows of less than a year, content of less
# than 28 days), so their answers must not change; that of `content of an old call` must have become empty.
_LIST = (
    'request_id, call_type, api_key, spend, total_tokens, prompt_tokens, completion_tokens, "startTime", "endTime",'
    ' "completionStartTime", model, model_id, model_group, custom_llm_provider, api_base, "user", metadata, cache_hit,'
    " cache_key, request_tags, team_id, end_user, requester_ip_address, session_id, status"
)
_WITHIN = (
    "\"startTime\" >= (%(start)s::timestamptz AT TIME ZONE 'UTC')"
    " AND \"startTime\" < ((%(end)s::timestamptz + INTERVAL '1 day') AT TIME ZONE 'UTC')"
)
_PAYLOAD = f"SELECT request_id, messages, response, proxy_server_request FROM {LOGS} WHERE request_id = %({{}})s"
CLEARED = "content of an old call"


@dataclass(frozen=True)
class Query:
    """One statement of LiteLLM's, and the function that sends it."""

    name: str
    sent_by: str
    statement: str


QUERIES = (
    Query(
        "requests and tokens per day",
        "get_global_activity_internal_user",
        f"SELECT date_trunc('day', \"startTime\") AS date, COUNT(*), SUM(total_tokens) FROM {LOGS} WHERE {_WITHIN}"
        ' AND "user" = %(user)s GROUP BY date_trunc(\'day\', "startTime")',
    ),
    Query(
        "the same per model",
        "get_global_activity_model_internal_user",
        f"SELECT model_group, date_trunc('day', \"startTime\") AS date, COUNT(*), SUM(total_tokens) FROM {LOGS}"
        f' WHERE {_WITHIN} AND "user" = %(user)s GROUP BY model_group, date_trunc(\'day\', "startTime")',
    ),
    Query(
        "spend of end users",
        "global_spend_end_users",
        f"SELECT end_user, COUNT(*) AS total_count, SUM(spend) AS total_spend FROM {LOGS} WHERE {_WITHIN}"
        " AND (CASE WHEN %(key)s::TEXT IS NULL THEN TRUE ELSE api_key = %(key)s END)"
        " GROUP BY end_user ORDER BY total_spend DESC LIMIT 100",
    ),
    Query(
        "the page of logs",
        "ui_view_spend_logs",
        f'SELECT {_LIST} FROM {LOGS} WHERE {_WITHIN} ORDER BY "startTime" DESC LIMIT 50 OFFSET 100',
    ),
    Query(
        "how many logs",
        "ui_view_spend_logs",
        f"SELECT COUNT(*) FROM (SELECT 1 FROM {LOGS} WHERE {_WITHIN} LIMIT 10001) AS bounded_matches",
    ),
    Query(
        "the logs of a session",
        "ui_view_session_spend_logs",
        f'SELECT {_LIST} FROM {LOGS} WHERE session_id = %(session)s ORDER BY "startTime" DESC LIMIT 50 OFFSET 0',
    ),
    Query("content of a young call", "ui_view_request_response_for_request_id", _PAYLOAD.format("young")),
    Query(CLEARED, "ui_view_request_response_for_request_id", _PAYLOAD.format("old")),
    Query(
        "spend of a month per key",
        'view "Last30dKeysBySpend"',
        f'SELECT L."api_key", V."key_alias", V."key_name", SUM(L."spend") AS total_spend FROM {LOGS} L'
        ' LEFT JOIN "LiteLLM_VerificationToken" V ON L."api_key" = V."token"'
        " WHERE L.\"startTime\" >= (%(end)s::date - INTERVAL '30 days')"
        ' GROUP BY L."api_key", V."key_alias", V."key_name" ORDER BY total_spend DESC',
    ),
)


@dataclass(frozen=True)
class Answer:
    """How long a query took at best, and what it said."""

    seconds: float
    said: str
    rows: int


def parameters(conn: Conn, as_of: datetime) -> dict[str, Any]:
    """Ends within what stays, and one user, one session and two calls out of the data."""
    young = _one(conn, f'SELECT request_id FROM {LOGS} WHERE "startTime" > %s ORDER BY "startTime" LIMIT 1', as_of, 20)
    old = _one(conn, f'SELECT request_id FROM {LOGS} WHERE "startTime" > %s ORDER BY "startTime" LIMIT 1', as_of, 200)
    query = f'SELECT {{}} FROM {LOGS} WHERE "startTime" > %s ORDER BY "startTime" LIMIT 1'
    return {
        "start": as_of - timedelta(days=360),
        "end": as_of,
        "key": None,
        "user": _one(conn, query.format('"user"'), as_of, 100),
        "session": _one(conn, query.format("session_id"), as_of, 100),
        "young": young,
        "old": old,
    }


def _one(conn: Conn, query: str, as_of: datetime, days: int) -> Any:
    row = conn.execute(query.encode(), ((as_of - timedelta(days=days)).replace(tzinfo=None),)).fetchone()
    assert row is not None, "there are rows of every age"
    return row[0]


def ask(conn: Conn, params: dict[str, Any], tries: int = 3) -> dict[str, Answer]:
    """Every query, the best of some tries each."""
    return {query.name: _asked(conn, query, params, tries) for query in QUERIES}


def _asked(conn: Conn, query: Query, params: dict[str, Any], tries: int) -> Answer:
    best, rows = float("inf"), []
    for _ in range(tries):
        began = time.perf_counter()
        rows = conn.execute(query.statement.encode(), params).fetchall()
        best = min(best, time.perf_counter() - began)
    return Answer(best, _digest(rows), len(rows))


def _digest(rows: Sequence[tuple[Any, ...]]) -> str:
    """Of a set: the order among equals is nobody's promise. Sums of floats to what a page shows of them."""
    lines = sorted(repr([round(cell, 6) if isinstance(cell, float) else cell for cell in row]) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def changed(before: dict[str, Answer], after: dict[str, Answer]) -> Iterable[str]:
    """The queries whose answer is another one."""
    return (
        name for name, answer in before.items() if (answer.said, answer.rows) != (after[name].said, after[name].rows)
    )


# -- the measurement ----------------------------------------------------------------------------------------------

_SPEND = f"""SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM (SELECT api_key, date_trunc('day', "startTime"),
    count(*), round(sum(spend)::numeric, 6), sum(total_tokens) FROM {LOGS}
    WHERE "startTime" >= '{AS_OF - timedelta(days=362):%Y-%m-%d}' GROUP BY 1, 2) t"""


Answers = dict[str, Answer]


def contest(server: Postgres, name: str, work: Callable[[Conn], dict[str, float]]) -> tuple[Answers, Answers]:
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE proxy STRATEGY file_copy".encode())
        admin.execute("CHECKPOINT")
    with psycopg.connect(server.conninfo(name), autocommit=True) as conn:
        params = parameters(conn, AS_OF)
        before = ask(conn, params)
        spend = scalar(conn, _SPEND)
        took = work(conn)
        again = work(conn)
        left = scalar(conn, f"""SELECT count(*) FROM {LOGS} WHERE "startTime" < '{AS_OF:%Y-%m-%d}'::timestamp - interval
            '28 days' AND messages <> '{{}}'""")  # fmt: skip
        orphans = scalar(
            conn, f"SELECT count(*) FROM {TOOLS} t WHERE NOT EXISTS"
            f" (SELECT FROM {LOGS} s WHERE s.request_id = t.request_id)"
        )  # fmt: skip
        after = ask(conn, params)
        size = scalar(conn, f"SELECT pg_total_relation_size('{LOGS}')") / 1024**2
        tell(
            name,
            ", ".join(f"{part} {seconds:.1f}" for part, seconds in took.items()),
            f"{sum(again.values()):.1f}",
            f"{left:,}",
            f"{orphans:,}",
            f"{size:,.0f} MB",
            "the same" if scalar(conn, _SPEND) == spend else "**changed**",
        )
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
    return before, after


def tell_queries(answers: dict[str, tuple[Answers, Answers]]) -> None:
    """Per query of LiteLLM's: milliseconds before and after each contestant, and whether it says the same."""
    tell("LiteLLM asks", *(f"{name}: before, after, ms" for name in answers), *(f"{name}: answer" for name in answers))
    tell(*["---"] * (1 + 2 * len(answers)))
    for query in QUERIES:
        times = [f"{b[query.name].seconds * 1e3:.1f}, {a[query.name].seconds * 1e3:.1f}" for b, a in answers.values()]
        verdicts = ["changed" if query.name in set(changed(b, a)) else "the same" for b, a in answers.values()]
        tell(query.name, *times, *verdicts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tools", type=int, default=2, help="rows in the index of tools, for each call")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lifecycle-bench-") as directory:
        Path(directory).chmod(0o755)
        files = migrations(Path(directory) / "extras")
        with embedded_postgres(Path(directory) / "pg", durable=True) as server:
            with psycopg.connect(server.conninfo(), autocommit=True) as conn:
                conn.execute("CREATE DATABASE proxy")
            with psycopg.connect(server.conninfo("proxy"), autocommit=True) as conn:
                migrate(conn, files)
                ensure_schema(conn)
                say(f"{len(files)} migrations; making {chosen.rows:,} rows")
                fill(conn, chosen.rows, chosen.tools)
                size = scalar(conn, f"SELECT pg_total_relation_size('{LOGS}')") / 1024**2
            say(f"{size:,.0f} MB")
            tell("", "seconds", "once more", "old content left", "orphans left", "size after", "spend of a year")
            tell(*["---"] * 7)
            answers = {}
            for name, work in (("ours", ours), ("its_own", its_own)):
                say(name)
                answers[name] = contest(server, name, work)
            tell_queries(answers)


if __name__ == "__main__":
    main()
