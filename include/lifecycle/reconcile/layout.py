"""What a key should say, as a pattern that DuckDB (RE2) understands. Pure."""

from __future__ import annotations

import re

_PARTS = {
    "tier": "(?P<tier>[^/]+)",
    "date": "(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})",
    "record": "(?P<record>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})",
}
_FIELD = re.compile(r"\{([a-z]+)\}")


def pattern_of(layout: str) -> str:
    """A layout such as ``tier={tier}/date={date}/{record}.json`` as an anchored pattern with a group per part."""
    parts = _FIELD.split(layout)
    found = [_PARTS[part] if index % 2 else re.escape(part) for index, part in enumerate(parts)]
    return f"^{''.join(found)}$"


def groups_of(pattern: str) -> list[str]:
    """The names of a pattern's groups, in the order in which they stand."""
    return re.findall(r"\(\?P<([a-z]+)>", pattern)
