"""What every task process does before it touches a store: die with its parent, stop on SIGTERM, leak nothing.

Airflow starts a second try while the first may still be running: when a supervisor or a scheduler is killed, its task
process goes on with user code (hard case 27). And on SIGTERM Airflow only calls `on_kill`, which a @task does not have.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lifecycle.deployment import using
from lifecycle.errors import LifecycleError
from lifecycle.orchestration.redaction import withhold_values

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class TaskStoppedError(LifecycleError):
    """Airflow asked this task to stop; the open transaction is rolled back and the task may be retried."""

    def __init__(self) -> None:
        super().__init__("stopped by SIGTERM; nothing is half done, run again to resume")


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its supervisor dies. Does nothing where the kernel cannot do that."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_PDEATHSIG): {os.strerror(error)}")
    if os.getppid() != parent:
        # The parent died between the two calls, so the signal will never come.
        os.kill(os.getpid(), signal.SIGKILL)


def raise_on_sigterm() -> None:
    """Turn SIGTERM into TaskStoppedError, so that transactions roll back and locks are released."""
    if threading.current_thread() is not threading.main_thread():
        return  # Python delivers signals to the main thread only

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TaskStoppedError

    signal.signal(signal.SIGTERM, stop)


@contextmanager
def task_process(store: str | None = None) -> Iterator[None]:
    """The frame of every task body.

    Args:
        store: whose task it is; None in a deployment without a file of stores.

    Raises:
        TaskStoppedError: Airflow sent SIGTERM.
        Exception: what the body raised, without the values its message may have held.
    """
    die_with_parent()
    raise_on_sigterm()
    try:
        with using(store):
            yield
    except Exception as error:  # noqa: BLE001  (raised again, without its values)
        raise withhold_values(error) from None
