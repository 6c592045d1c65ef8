"""Taking most of a large ordinary table out under live traffic: ours beside batched DELETE, on copies of the same data.

    python tests/benchmarks/unpartitioned.py [--rows 1000000] [--only ours,batch_1000] [--repeat 1] [--dir FOLDER]

Rows are about 600 bytes with four indexes; four fifths are due, one account in a hundred is held. While each contestant
works one session inserts, reads and updates as fast as it can, and its statements are timed. Every contestant has the
same rows to take out, and what it left is counted; one that is not done after ``--patience`` seconds is stopped, and
told by what it had taken out until then (ours goes on to its end). ``processor`` is that of PostgreSQL's backend. All
end with VACUUM, which is in the time. Durable server; the files of one copy at a time lie beside the original (10
million rows: twice 8 GB, and the log). How far it is, and what ours waits for, is told on stderr; ``--repeat`` goes
through all contestants as often, in turn.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psutil
import psycopg
from psycopg import sql

from lifecycle.config import load_configuration
from lifecycle.demo.servers import Postgres, embedded_postgres
from lifecycle.dispositions.context import RECORDS_SCOPE, RunContext
from lifecycle.dispositions.plan_store import freeze
from lifecycle.dispositions.records import expire_records
from lifecycle.ledger import runs
from lifecycle.planning.units import Method, Tally, Unit
from reference_store.create import create_schemas

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
# Scores go after seven calendar years: exactly what every contestant takes out.
DUE = AS_OF.replace(year=AS_OF.year - 7)
UNIT = "safety_scores"
ROWS_OF_AN_ACCOUNT = 200
Conn = psycopg.Connection[Any]
_BYTES_A_ROW = 2_600  # the original, a copy and the log
# Takes the due rows out until an instant of the monotonic clock. False: that came first.
Contestant = Callable[[Conn, float], bool]


def tell(*cells: object) -> None:
    sys.stdout.write("  ".join(str(cell).rjust(14) for cell in cells) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


def accounts_of(rows: int) -> int:
    return max(rows // ROWS_OF_AN_ACCOUNT, 100)


def fill(conn: Conn, rows: int) -> None:
    """Rows first, then the indexes: random keys written one by one would take hours."""
    conn.execute("SET synchronous_commit = off")
    conn.execute("SET maintenance_work_mem = '1GB'")
    indexes = _without_indexes(conn)
    accounts = accounts_of(rows)
    conn.execute(
        sql.SQL(
            "INSERT INTO app.safety_scores SELECT gen_random_uuid(), gen_random_uuid(),"
            " ('00000000-0000-0000-0000-' || lpad((n % {accounts})::text, 12, '0'))::uuid, 'consumer',"
            " repeat(md5(n::text), 15), 0.5, {start} + n * interval '1 second' FROM generate_series(1, {rows}) n"
        ).format(
            accounts=sql.Literal(accounts),
            start=sql.Literal(DUE - timedelta(seconds=rows * 4 // 5)),
            rows=sql.Literal(rows),
        )
    )
    for statement in indexes:
        conn.execute(statement.encode())
    conn.execute(
        "INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) SELECT 'account',"
        " '00000000-0000-0000-0000-' || lpad((n * 100)::text, 12, '0'), 'a case', 'somebody'"
        " FROM generate_series(0, %s) n",
        (accounts // 100 - 1,),
    )
    conn.execute("VACUUM (ANALYZE)")
    conn.execute("CHECKPOINT")


def _without_indexes(conn: Conn) -> list[str]:
    """Takes them from the table. Returns the statements that make them again."""
    key = conn.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'app.safety_scores'::regclass AND contype = 'p'"
    ).fetchall()
    statements = [f"ALTER TABLE app.safety_scores ADD CONSTRAINT {name} {what}" for name, what in key]
    for name, _ in key:
        conn.execute(f"ALTER TABLE app.safety_scores DROP CONSTRAINT {name}".encode())
    rest = conn.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = 'app.safety_scores'::regclass"
    ).fetchall()
    for name, _ in rest:
        conn.execute(f"DROP INDEX {name}".encode())
    return [*statements, *(what for _, what in rest)]


# -- the contestants ----------------------------------------------------------------------------------------------


def ours(conn: Conn, _: float) -> bool:
    config = load_configuration()
    run = runs.begin(
        conn,
        scope=RECORDS_SCOPE,
        as_of=AS_OF,
        run_key="benchmark",
        hashes=(config.policy_hash, config.catalog_hash),
        dry_run=False,
        owner=None,
    )
    tally = Tally("delete:safety_scores", 1)
    freeze(conn, run.run_id, [Unit(UNIT, UNIT, Method.RECORDS, (tally,))])
    expire_records(RunContext(conn, cast(Any, None), config.policy, config.catalog, run), UNIT)
    return True


_HELD = (
    " AND account_id::text NOT IN (SELECT target FROM lifecycle.legal_holds WHERE scope = 'account'"
    " AND released_at IS NULL)"
)


def batched(size: int, *, keyset: bool) -> Contestant:
    """Look for some ids, delete them by key, look again from the start; or, at its best, from where the last ended."""

    def work(conn: Conn, gives_up: float) -> bool:
        after = datetime(1970, 1, 1, tzinfo=UTC)
        while time.monotonic() < gives_up:
            found = conn.execute(
                "SELECT score_id, scored_at FROM app.safety_scores WHERE scored_at < %s AND scored_at > %s"
                + _HELD
                + (" ORDER BY scored_at" if keyset else "")
                + " LIMIT %s",
                (DUE, after, size),
            ).fetchall()
            if not found:
                conn.execute("VACUUM app.safety_scores")
                return True
            conn.execute("DELETE FROM app.safety_scores WHERE score_id = ANY (%s)", ([row[0] for row in found],))
            after = found[-1][1] if keyset else after
        return False

    return work


def at_once(conn: Conn, _: float) -> bool:
    conn.execute("DELETE FROM app.safety_scores WHERE scored_at < %s" + _HELD, (DUE,))
    conn.execute("VACUUM app.safety_scores")
    return True


CONTESTANTS: dict[str, Contestant] = {
    "ours": ours,
    "batch_1000": batched(1_000, keyset=False),
    "batch_10000": batched(10_000, keyset=False),
    "keyset_10000": batched(10_000, keyset=True),
    "at_once": at_once,
}


# -- the traffic --------------------------------------------------------------------------------------------------


@dataclass
class Traffic:
    """One session of the application; milliseconds per statement."""

    conninfo: str
    accounts: int
    taken: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        dice = random.Random(1)
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            while not self.stop.is_set():
                began = time.monotonic()
                self._statement(conn, dice.random())
                self.taken.append((time.monotonic() - began) * 1000)
                time.sleep(0.002)

    def _statement(self, conn: Conn, die: float) -> None:
        if die < 0.4:
            conn.execute(
                "INSERT INTO app.safety_scores VALUES (%s, %s, %s, 'beta', repeat('x', 480), 0.1, %s)",
                (uuid4(), uuid4(), uuid4(), AS_OF),
            )
        elif die < 0.8:
            conn.execute(
                "SELECT count(*) FROM app.safety_scores WHERE account_id = %s",
                (f"00000000-0000-0000-0000-{int(die * self.accounts):012}",),
            )
        else:
            conn.execute(
                "UPDATE app.safety_scores SET score = %s WHERE score_id = (SELECT score_id FROM app.safety_scores"
                " ORDER BY scored_at DESC LIMIT 1)",
                (die,),
            )

    def at(self, share: float) -> float:
        return sorted(self.taken)[min(int(len(self.taken) * share), len(self.taken) - 1)]


@dataclass
class Progress:
    """Tells every so often how many rows a contestant has deleted, as the server's statistics count them."""

    conninfo: str
    name: str
    every: float = 30.0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        began = time.monotonic()
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            while not self.stop.wait(self.every):
                row = conn.execute(
                    "SELECT n_tup_del FROM pg_stat_user_tables WHERE relid = 'app.safety_scores'::regclass"
                ).fetchone()
                say(f"{self.name}: {time.monotonic() - began:.0f} s, {row[0] if row else 0:,} rows deleted")


def contest(server: Postgres, name: str, accounts: int, patience: int) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE product STRATEGY file_copy".encode())
        admin.execute("CHECKPOINT")
    conninfo = server.conninfo(name)
    traffic = Traffic(conninfo, accounts)
    progress = Progress(conninfo, name)
    threads = [threading.Thread(target=beside.run, daemon=True) for beside in (traffic, progress)]
    with psycopg.connect(conninfo, autocommit=True) as conn:
        conn.execute("SET timezone = 'UTC'")
        before, log_before, rows = _size(conn), _log(conn), _old(conn)
        backend = psutil.Process(conn.info.backend_pid)
        for thread in threads:
            thread.start()
        began, worked = time.monotonic(), _processor(backend)
        done = CONTESTANTS[name](conn, began + patience)
        seconds = time.monotonic() - began
        log, worked = _log(conn) - log_before, _processor(backend) - worked
        traffic.stop.set()
        progress.stop.set()
        for thread in threads:
            thread.join()
        left = _old(conn)
        tell(
            name if done else f"{name}, stopped",
            f"{seconds:.1f} s",
            f"{worked:.1f} s",
            f"{(rows - left) / seconds:,.0f}/s",
            f"{log / 1e6:,.0f} MB",
            f"{log / max(rows - left, 1):,.0f} B",
            f"{before / 1e6:,.0f} MB",
            f"{_size(conn) / 1e6:,.0f} MB",
            *(f"{traffic.at(share):.1f} ms" for share in (0.5, 0.99, 1.0)),
            f"{len(traffic.taken):,}",
            f"{left:,}",
        )
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        admin.execute("CHECKPOINT")  # so that the next one does not pay for this one's pages


def _processor(backend: psutil.Process) -> float:
    """Seconds that PostgreSQL has computed for a session: what other work on the machine does not add to."""
    times = backend.cpu_times()
    return float(times.user + times.system)


def _old(conn: Conn) -> int:
    row = conn.execute("SELECT count(*) FROM app.safety_scores WHERE tier = 'consumer'").fetchone()
    return int(row[0]) if row else 0


def _size(conn: Conn) -> int:
    row = conn.execute("SELECT pg_total_relation_size('app.safety_scores')").fetchone()
    return int(row[0]) if row else 0


def _log(conn: Conn) -> int:
    row = conn.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").fetchone()
    return int(row[0]) if row else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", default=",".join(CONTESTANTS))
    parser.add_argument("--repeat", type=int, default=1, help="how often to go through all of them")
    parser.add_argument("--patience", type=int, help="seconds that a contestant has; usually 600 a million rows")
    parser.add_argument("--dir", type=Path, help="where the server's files go")
    chosen = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("lifecycle.dispositions.pacer").setLevel(logging.INFO)  # what it waits for
    with tempfile.TemporaryDirectory(prefix="lifecycle-bench-", dir=chosen.dir) as name:
        Path(name).chmod(0o755)
        free, needed = shutil.disk_usage(name).free, chosen.rows * _BYTES_A_ROW
        if free < needed:
            raise SystemExit(f"{chosen.rows} rows need about {needed >> 30} GiB in {name}; {free >> 30} are free")
        with embedded_postgres(Path(name) / "pg", durable=True) as server:
            with psycopg.connect(server.conninfo(), autocommit=True) as conn:
                conn.execute("CREATE DATABASE product")
            create_schemas(server.conninfo("product"))
            began = time.monotonic()
            with psycopg.connect(server.conninfo("product"), autocommit=True) as conn:
                fill(conn, chosen.rows)
            say(f"{chosen.rows:,} rows made in {time.monotonic() - began:.0f} s")
            tell("", "seconds", "processor", "rows", "log", "log a row", "size before", "after", "p50", "p99", "max",
                 "statements", "old rows left")  # fmt: skip
            patience = chosen.patience or max(chosen.rows * 600 // 1_000_000, 300)
            for contestant in chosen.only.split(",") * chosen.repeat:
                contest(server, contestant, accounts_of(chosen.rows), patience)


if __name__ == "__main__":
    main()
