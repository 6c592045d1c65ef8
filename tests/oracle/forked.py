"""The command line as a process of its own that starts at once: forked from one that has imported everything already.

A fresh interpreter spends two seconds of processor time on imports before it does anything; tests that kill a run at
fifty points would spend most of their time on that.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory

# What a run imports on its way, as a dozen separate processes would each do again.
PRELOADED = (
    "oracle.quick",
    "lifecycle.cli.main",
    "lifecycle.cli.run",
    "lifecycle.orchestration.whole_run",
    "lifecycle.orchestration.steps",
    "boto3",
    "s3transfer",
    "pyarrow.parquet",
    "great_expectations",
)


class Forked:
    """A running command line, with the part of Popen's interface that tests use."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str], *, quick: bool = True) -> None:
        """Start it. ``quick``: as oracle/quick.py runs it, whose options come first; else as it is."""
        self._folder = TemporaryDirectory(prefix="forked")
        self._outputs = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        self._process = _context().Process(
            target=_run, args=(list(words), dict(env), [str(path) for path in self._outputs], quick)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        found = self._process.pid
        assert found is not None
        return found

    @property
    def returncode(self) -> int | None:
        """Negative: the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait until it has ended, and give what it printed.

        Raises:
            subprocess.TimeoutExpired: it has not, after ``timeout`` seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("lifecycle", timeout or 0)
        stdout, stderr = (path.read_text() if path.exists() else "" for path in self._outputs)
        return stdout, stderr


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _run(words: list[str], env: dict[str, str], outputs: list[str], quick: bool) -> None:
    """In the child: the environment and outputs of a process of its own."""
    for number, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.update(env)
    sys.argv = ["lifecycle", *words]
    from lifecycle.cli.main import app
    from oracle import quick as without_judgement

    try:
        without_judgement.main() if quick else app()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
