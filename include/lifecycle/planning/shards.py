"""How units are cut and grouped so that several workers carry them out beside each other. Pure."""

from __future__ import annotations

import re

_PART = re.compile(r"^(?P<month>[^/]+/\d{4}-\d{2})-\d{2}/(?P<number>\d+)$")
_DAY_OF_MONTH = re.compile(r"(?<=/\d{4}-\d{2})-\d{2}$")
# Parts of a month's days are spread over so many tasks: their number must stay far below Airflow's max_map_length,
# however large a backlog is.
PARTS_BESIDE = 16


def boundary(last: str, following: str) -> str:
    """A text ``b`` with ``last <= b < following``, as short as it can be: the keys of a cut tell little of themselves.

    Keys are compared by code point, which is the order of their UTF-8 bytes, in which S3 lists them.
    """
    for end in range(1, len(following)):
        if last <= following[:end]:
            return following[:end]
    return last


def part_name(unit: str, number: int) -> str:
    """The name of one key range of a unit; ranges are counted from 1."""
    return f"{unit}/{number:04d}"


def shard_of(unit: str) -> str:
    """The shard in which a unit is carried out: its dataset, tier and month; of key ranges, one of several beside."""
    part = _PART.match(unit)
    if part is not None:
        return f"{part['month']}/part-{int(part['number']) % PARTS_BESIDE:02d}"
    return _DAY_OF_MONTH.sub("", unit)
