"""An application that goes on using a table while it is being partitioned, and remembers what it committed."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from lifecycle.stores.postgres.online.facts import Name
from support.online import connected, rows_of

ROWS, EACH = 1_200, 100
START = datetime(2026, 6, 1, tzinfo=UTC)
_TIERS = ("consumer", "beta", "evaluation", "business", "odd")
# What an application repeats: its transaction met another, or a lock that it did not get in time.
_AGAIN = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
Row = tuple[int, str, datetime, int]


@dataclass
class Traffic:
    """Every row has an amount; no transaction changes their number or their sum: every snapshot shows the same."""

    conninfo: str
    table: Name
    committed: dict[int, Row] = field(default_factory=dict)
    writes: int = 0
    reads: int = 0
    repeated: int = 0
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def fill(self) -> None:
        with connected(self.conninfo) as conn:
            name = self.table.identifier.as_string(conn)
            conn.execute(
                f"CREATE TABLE {name} (id bigint PRIMARY KEY, tier text NOT NULL, at timestamptz NOT NULL,"
                f" amount bigint NOT NULL); CREATE INDEX ON {name} (at)".encode()
            )
            rows = [(n, _TIERS[n % 5], START + timedelta(minutes=12 * n), EACH) for n in range(ROWS)]
            with conn.cursor() as cursor:
                cursor.executemany(f"INSERT INTO {name} VALUES (%s, %s, %s, %s)".encode(), rows)
            self.committed = {row[0]: row for row in rows}

    @contextmanager
    def running(self, writers: int = 3) -> Iterator[Traffic]:
        levels = [psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ]
        targets: list[tuple[Any, tuple[Any, ...]]] = [
            (self._write, (n, writers, levels[n % 2])) for n in range(writers)
        ]
        targets += [(self._read, (level,)) for level in levels]
        threads = [threading.Thread(target=self._guarded, args=(target, args)) for target, args in targets]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(timeout=60)

    def _guarded(self, target: Any, args: tuple[Any, ...]) -> None:
        try:
            with connected(self.conninfo) as conn:
                conn.prepare_threshold = 1  # plans made for the ordinary table must not outlive it
                target(conn, self.table.identifier.as_string(conn), *args)
        except Exception as error:  # noqa: BLE001  # a thread's error fails the test, in the test's own thread
            self.errors.append(repr(error))

    def _write(self, conn: Any, name: str, number: int, of: int, level: psycopg.IsolationLevel) -> None:
        """Own rows only (id modulo writers), so that what it committed is certain."""
        luck = random.Random(number)
        mine = {key: row for key, row in self.committed.items() if key % of == number}
        fresh = ROWS * of + number
        conn.isolation_level = level
        while not self._stop.is_set():
            first, second, gone = luck.sample(sorted(mine), 3)
            changed = self._transaction(conn, name, luck, mine, first, second, gone, fresh)
            if changed is None:
                self.repeated += 1
                continue
            fresh += of
            del mine[gone]
            mine.update({row[0]: row for row in changed})
            self.writes += 1
            self._stop.wait(0.002)
        with _LOCK:
            self.committed = {k: r for k, r in self.committed.items() if k % of != number} | mine

    def _transaction(
        self,
        conn: Any,
        name: str,
        luck: random.Random,
        mine: dict[int, Row],
        first: int,
        second: int,
        gone: int,
        fresh: int,
    ) -> list[Row] | None:
        """Move money between two rows, one of which goes to another day and tier; replace a third by a new one."""
        part = luck.randrange(1, 9)
        a, b, c = mine[first], mine[second], mine[gone]
        moved = (first, luck.choice(_TIERS), START + timedelta(minutes=luck.randrange(14_400)), a[3] - part)
        paid = (second, b[1], b[2], b[3] + part)
        made = (fresh, luck.choice(_TIERS), START + timedelta(minutes=luck.randrange(20_000)), c[3])
        try:
            with conn.transaction():
                done = [
                    conn.execute(
                        f"UPDATE {name} SET tier = %s, at = %s, amount = amount - %s WHERE id = %s".encode(),
                        (moved[1], moved[2], part, first),
                    ).rowcount,
                    conn.execute(
                        f"UPDATE {name} SET amount = amount + %s WHERE id = %s".encode(), (part, second)
                    ).rowcount,
                    conn.execute(f"DELETE FROM {name} WHERE id = %s".encode(), (gone,)).rowcount,
                    conn.execute(f"INSERT INTO {name} VALUES (%s, %s, %s, %s)".encode(), made).rowcount,
                ]
        except _AGAIN:
            return None
        if done != [1, 1, 1, 1]:
            self.wrong.append(f"a write of a row that is there touched {done} rows")
        return [moved, paid, made]

    def _read(self, conn: Any, name: str, level: psycopg.IsolationLevel) -> None:
        """In a transaction of one snapshot, two looks with a while between them must be the same."""
        conn.isolation_level = level
        looked = "count(*), count(DISTINCT id), sum(amount), sum(hashtext(id || tier || amount))"
        query = f"SELECT {looked} FROM {name}".encode()
        while not self._stop.is_set():
            with conn.transaction():
                looks = [conn.execute(query).fetchone()]
                self._stop.wait(0.05)
                looks.append(conn.execute(query).fetchone())
            for look in looks:
                if look[:3] != (ROWS, ROWS, ROWS * EACH):
                    self.wrong.append(f"a reader saw {look[:3]}")
            if level is psycopg.IsolationLevel.REPEATABLE_READ and looks[0] != looks[1]:
                self.wrong.append("one snapshot showed two states")
            self.reads += 1

    def check(self) -> None:
        """Every committed write is there exactly once, and no reader saw anything else."""
        assert self.errors == []
        assert self.wrong == []
        assert self.writes > 20 and self.reads > 5
        with connected(self.conninfo) as conn:
            assert rows_of(conn, self.table, "id, tier, at, amount") == sorted(self.committed.values())


_LOCK = threading.Lock()
