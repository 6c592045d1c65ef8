"""Server processes of the demo and the tests: ports, waiting with a deadline, pid files, no orphans."""

from __future__ import annotations

import ctypes
import errno
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.errors import LifecycleError

if TYPE_CHECKING:
    import psutil

LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.02
_KILL_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


class ServerError(LifecycleError):
    """A server could not be started or stopped; says what to change."""


class PortTakenError(ServerError):
    """Somebody else listens on the port."""

    def __init__(self, port: int, server: str) -> None:
        self.port, self.server = port, server
        super().__init__(
            f"port {port} on {LOOPBACK} is taken by another process, so {server} cannot use it; "
            "stop that process or choose another port"
        )


def free_port() -> int:
    """A TCP port on the loopback address that nobody uses at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def require_free_port(port: int, server: str) -> None:
    """Refuse a port that is in use before a server fails on it with a message of its own.

    Raises:
        PortTakenError: the port is in use.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # as servers do: a connection of an earlier server that lingers in TIME_WAIT does not make the port taken
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise PortTakenError(port, server) from None


def wait_until(ready: Callable[[], bool], *, alive: Callable[[], bool], what: str, log: Path, seconds: float) -> None:
    """Poll until ``ready()``; give up at once when the process has gone, and after ``seconds`` in any case.

    Raises:
        ServerError: with the end of the server's log.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if not alive():
            raise ServerError(f"{what} stopped while starting; the end of its log {log}:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise ServerError(f"{what} did not answer within {seconds:.0f} s; the end of its log {log}:\n{tail(log)}")
        time.sleep(_POLL_SECONDS)


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, or a word that there is none."""
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log was written)"


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A Popen ``preexec_fn`` that has the kernel signal the child when its parent dies, however it dies (Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)

    return ask_kernel


@dataclass(frozen=True)
class PidFile:
    """Who runs a server. The start time tells the process from a later one that got the same pid."""

    pid: int
    started: float
    port: int

    @classmethod
    def of(cls, pid: int, port: int) -> PidFile:
        import psutil

        return cls(pid, psutil.Process(pid).create_time(), port)

    @classmethod
    def read(cls, path: Path) -> PidFile | None:
        """The process a pid file names, or None when there is no file or that process has gone."""
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        return found if found.alive() else None

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def alive(self) -> bool:
        import psutil

        try:
            process = psutil.Process(self.pid)
            return bool(abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


def stop_process(pid: int, *, with_signal: signal.Signals, seconds: float, what: str) -> None:
    """Signal a process and wait until it has gone; kill it when it has not after ``seconds``.

    Raises:
        ServerError: it is still there after being killed.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        process.send_signal(with_signal)
    except psutil.NoSuchProcess:
        return
    if not _ends_within(process, seconds):
        process.kill()
        if not _ends_within(process, _KILL_SECONDS):
            raise ServerError(f"{what} (pid {pid}) could not be stopped")


def _ends_within(process: psutil.Process, seconds: float) -> bool:
    """Whether a process ends in time. A zombie has ended: in a container its new parent may never reap it."""
    import psutil

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            process.wait(timeout=_POLL_SECONDS)  # reaps a child of ours
            return True
        except psutil.TimeoutExpired:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
    return False


def running(process: subprocess.Popen[bytes]) -> Callable[[], bool]:
    """Whether a child has not ended yet; reaps it when it has."""
    return lambda: process.poll() is None
