"""Starting and stopping the Airflow components: sessions of their own, no orphans, whoever stops them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from lifecycle.demo.server_process import PidFile, stop_process


def spawn(command: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path, port: int) -> PidFile:
    """Start a process that survives this one; output goes to `log`.

    A session of its own keeps the terminal's Ctrl-C from reaching it.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    return PidFile.of(process.pid, port)


def stop_in_order(components: Mapping[str, PidFile], *, grace_s: float) -> None:
    """SIGTERM one after the other in the given order, each with `grace_s` seconds, then SIGKILL; then what they left.

    Task processes live in process groups of their own and survive their scheduler, so descendants are noted first.
    """
    family = [child for component in components.values() for child in _descendants(component.pid)]
    for name, component in components.items():
        stop_process(component.pid, with_signal=signal.SIGTERM, seconds=grace_s, what=f"Airflow's {name}")
    kill(family)


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL what is still running and wait until it is gone."""
    left = [process for process in processes if process.is_running()]
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(left, timeout=5)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found
