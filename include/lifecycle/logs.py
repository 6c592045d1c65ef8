"""Logging of the command line. In Airflow, Airflow's own set-up stands; modules only use their loggers."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]  # not generic at run time
    """Writes to whatever stderr is at the moment, as a stream may be replaced and closed under a long-lived process."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Nothing is kept."""


def configure_cli_logging(verbosity: int = 0) -> None:
    """Send this project's logs to stderr: warnings, with 1 also progress, with 2 also details.

    Other libraries stay at warnings whatever the verbosity: botocore logs keys and bodies below that (hard case 25).
    """
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("lifecycle").setLevel(_LEVELS[min(max(verbosity, 0), 2)])
