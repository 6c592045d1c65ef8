"""Case 27: a task does not outlive its supervisor, and stops when it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

TASK = """
import os, sys, time
from lifecycle.orchestration.process import task_process
pid = os.fork()
if pid == 0:
    with task_process():
        print(os.getpid(), flush=True)
        time.sleep(60)
os.waitpid(pid, 0)
"""
STOPPED = """
import time
from lifecycle.orchestration.process import TaskStoppedError, task_process
try:
    with task_process():
        try:
            print("ready", flush=True)
            time.sleep(60)
        finally:
            print("rolled back", flush=True)
except TaskStoppedError:
    print("stopped", flush=True)
"""


def _start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _soon(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_case_27_the_task_dies_with_its_supervisor() -> None:
    supervisor = _start(TASK)
    task = int(_line(supervisor))
    assert not _gone(task)
    supervisor.kill()
    supervisor.wait(10)
    assert _soon(lambda: _gone(task)), "the zombie twin goes on"


def test_case_27_sigterm_raises_inside_the_task() -> None:
    process = _start(STOPPED)
    assert _line(process) == "ready"
    os.kill(process.pid, signal.SIGTERM)
    assert (_line(process), _line(process)) == ("rolled back", "stopped")
    assert process.wait(10) == 0
