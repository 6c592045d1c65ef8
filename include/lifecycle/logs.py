"""Logging of the command line. In Airflow, Airflow's own set-up stands; modules only use their loggers."""

from __future__ import annotations

import logging
import sys

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def configure_cli_logging(verbosity: int = 0) -> None:
    """Send this project's logs to stderr: warnings, with 1 also progress, with 2 also details.

    Other libraries stay at warnings whatever the verbosity: botocore logs keys and bodies below that (hard case 25).
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("lifecycle").setLevel(_LEVELS[min(max(verbosity, 0), 2)])
