"""Records inside objects that hold many: which fields name them, and the tally of what becomes of them."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from uuid import UUID

from lifecycle.errors import LifecycleError

# (record, subject, tier, clock or None) -> the id of the rule under which the record goes now, or None to keep it.
Decide = Callable[[str, str, str, datetime | None], str | None]


class UnreadableObjectError(LifecycleError):
    """An object that is not what its name says; it is left in place and counted as unclassified (hard case 23)."""


@dataclass(frozen=True)
class LogFields:
    """The names of a record's fields: its id, its account, its product tier and the instant its periods count from."""

    record: str
    subject: str
    tier: str
    clock: str

    def names(self) -> tuple[str, str, str, str]:
        """In the order in which `Tally.keeps` expects their values."""
        return (self.record, self.subject, self.tier, self.clock)


Values = tuple[object, object, object, object]


@dataclass
class Tally:
    """Counts over one object. With ``kept_ids`` it also notes which records are kept, at 8 bytes each."""

    decide: Decide
    before: int = 0
    kept: int = 0
    unclassified: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    kept_ids: array[int] | None = None

    @property
    def due(self) -> int:
        """Records that go now."""
        return self.removed.total()

    def keeps(self, values: Values | None) -> bool:
        """Count one record and say whether it stays. ``None``: it could not be parsed.

        What is missing is passed on as "" or None. Without id or account the tier is withheld too, since no exception
        of the record can be looked up: it is unclassified, under the strictest deadline, and counted (hard case 23).
        """
        self.before += 1
        record, subject, tier = (text_of(value) for value in values[:3]) if values else (None, None, None)
        clock = instant_of(values[3]) if values else None
        named = record is not None and subject is not None
        rule = self.decide(record or "", subject or "", (tier or "") if named else "", clock)
        if not named or tier is None or clock is None:
            self.unclassified += 1
        if rule is not None:
            self.removed[rule] += 1
            return False
        return self._keep(record or repr(values))

    def _keep(self, identity: str) -> bool:
        self.kept += 1
        if self.kept_ids is not None:
            digest = hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            self.kept_ids.append(int.from_bytes(digest, "big"))
        return True


def text_of(value: object) -> str | None:
    """An identifier or tier as text; None for what is missing, empty or not a scalar."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str | int | UUID):
        return str(value) or None
    if isinstance(value, bytes):
        return str(UUID(bytes=value)) if len(value) == 16 else None
    return None


def instant_of(value: object) -> datetime | None:
    """An aware UTC instant from a datetime, a date or ISO 8601 text; naive means UTC. None if it is none of these."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().upper())
        except ValueError:
            return None
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time.min)
    if not isinstance(value, datetime):
        return None
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        return None


def values_of_line(line: bytes, fields: LogFields) -> Values | None:
    """The four values of a JSON line; None if it is no JSON object."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    record, subject, tier, clock = (parsed.get(name) for name in fields.names())
    return (record, subject, tier, clock)
