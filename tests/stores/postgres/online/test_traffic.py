"""The application goes on writing and reading: nothing is lost, nothing is seen twice, whatever its isolation."""

from __future__ import annotations

from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.convert import advance
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.online.state import Phase
from lifecycle.stores.postgres.online.switch import finish, revert
from support.online import begin, convert, layout_of, work_on
from support.online_traffic import Traffic


def test_writers_and_readers_notice_nothing(conn: Connection, conninfo: str, table: Name) -> None:
    traffic = Traffic(conninfo, table)
    traffic.fill()
    with traffic.running():
        done = convert(work_on(conn, batch_target=0.01), layout_of(table))
        assert done.phase is Phase.SWITCHED
        finish(work_on(conn), done)
    traffic.check()


def test_the_way_back_is_as_quiet(conn: Connection, conninfo: str, table: Name) -> None:
    traffic = Traffic(conninfo, table)
    traffic.fill()
    with traffic.running():
        revert(work_on(conn), convert(work_on(conn), layout_of(table)))
        half = advance(work_on(conn), begin(work_on(conn), layout_of(table)), upto=Phase.COPIED)
        revert(work_on(conn), half)
    traffic.check()
