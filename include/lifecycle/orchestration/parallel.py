"""How many shards of one run are expired at once, told by the environment of whoever parses DAG files.

    LIFECYCLE_EXPIRE_AT_ONCE   1 to 128; 4 where it is not set

What all runs together may do at once is bounded by the slots of the pool `retention_s3`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from lifecycle.errors import ConfigurationError, Problem

VARIABLE = "LIFECYCLE_EXPIRE_AT_ONCE"
# More only queue at the same two stores, unless there are workers and cores for them.
DEFAULT, MOST = 4, 128


def expire_at_once(environment: Mapping[str, str] | None = None) -> int:
    """The number that the environment tells.

    Raises:
        ConfigurationError: it is none, or out of bounds.
    """
    told = (os.environ if environment is None else environment).get(VARIABLE, "").strip()
    if not told:
        return DEFAULT
    if not told.isascii() or not told.isdecimal() or not 1 <= int(told[:9]) <= MOST:
        remedy = f"Give a whole number from 1 to {MOST}, or unset it"
        raise ConfigurationError([Problem("environment", 0, VARIABLE, "is not a number of tasks", remedy)])
    return int(told)
