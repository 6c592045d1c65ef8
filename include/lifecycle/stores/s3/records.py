"""Records inside objects that hold many: which fields name them, and the tally of what becomes of them."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

from lifecycle.errors import LifecycleError
from lifecycle.stores.s3.arrays import text_array
from lifecycle.stores.s3.outline import Known, Outline

if TYPE_CHECKING:
    import pyarrow as pa

    from lifecycle.stores.s3.contents import Contents

# (record, subject, tier, clock or None) -> the id of the rule under which the record goes now, or None to keep it.
Decide = Callable[[str, str, str, datetime | None], str | None]


# 16 bytes each. Beyond, what goes is judged again instead of remembered.
MOST_GONE = 1 << 20


_LEFT = "; it was left in place"
_MEND = "write it again under the same key as it should be, or destroy it if no hold is on anything it may hold"


class UnreadableObjectError(LifecycleError):
    """An object that is not what its name says; it is left in place and counted as unclassified (hard case 23).

    ``fault`` says what is wrong with it, ``remedy`` what a person can do.
    """

    def __init__(self, fault: str, remedy: str = _MEND) -> None:
        super().__init__(fault + _LEFT)
        self.fault, self.remedy = fault, remedy


@dataclass(frozen=True)
class LogFields:
    """The names of a record's fields: its id, its account, its product tier and the instant its periods count from.

    ``clear``: fields (see `emptying`) that are emptied where a record is due, which stays. Without it the record goes.
    """

    record: str
    subject: str
    tier: str
    clock: str
    clear: tuple[str, ...] = ()

    def names(self) -> tuple[str, str, str, str]:
        """In the order in which `Tally.keeps` expects their values."""
        return (self.record, self.subject, self.tier, self.clock)


Values = tuple[object, object, object, object]
# Whether a record holds content that could be emptied; None if nobody can tell.
Content = Callable[[], bool | None]


@dataclass(frozen=True)
class Ordinary:
    """What decides of a record that no exception names, so that whole columns can be judged at once.

    For a record with id, account, a tier of ``cutoffs`` and a clock, whose id is not in ``records`` and whose account
    is not in ``subjects`` (both lower case), the decision must be: the tier's rule before the tier's instant, else it
    stays. Every other record is put to the decision itself, and so is one of a tier of ``unsure`` whose clock lies
    between the instant given there and the tier's: months do not tell to the instant.
    """

    cutoffs: Mapping[str, tuple[datetime, str]]
    records: Set[str]
    subjects: Set[str]
    unsure: Mapping[str, datetime] = field(default_factory=dict)

    @cached_property
    def named(self) -> tuple[pa.Array, pa.Array]:
        """Records and subjects as columns to look up in."""
        return text_array(self.records), text_array(self.subjects)


@dataclass(frozen=True)
class Judge:
    """A decision that also tells what is ordinary; ``None`` if nothing is. Asked by several threads at once."""

    decide: Decide
    ordinary: Ordinary | None

    def __call__(self, record: str, subject: str, tier: str, clock: datetime | None) -> str | None:
        return self.decide(record, subject, tier, clock)


@dataclass
class Tally:
    """Counts over one object. With ``kept_ids`` it also notes which records are kept, at 8 bytes each.

    With ``gone`` it notes which stretches of the unpacked bytes go, as begins and ends by turns, neighbours as one;
    None again once there are more than `MOST_GONE` of them. With ``outline`` it gathers what may be remembered, with
    ``contents`` a checksum of what stays, for which a file has to be read whole. With ``empties`` what is due is
    content: the record stays.
    """

    decide: Decide
    before: int = 0
    kept: int = 0
    unclassified: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    kept_ids: array[int] | None = None
    gone: array[int] | None = None
    outline: Outline | None = None
    contents: Contents | None = None
    empties: bool = False

    @property
    def due(self) -> int:
        """Records that go now, or lose content."""
        return self.removed.total()

    @property
    def left(self) -> int:
        """Records that are there afterwards."""
        return self.before if self.empties else self.kept

    @property
    def ordinary(self) -> Ordinary | None:
        """What may be judged by column; nothing while the ids of what is kept are to be noted one by one."""
        return self.decide.ordinary if isinstance(self.decide, Judge) and self.kept_ids is None else None

    def beside(self) -> Tally:
        """An empty one, to count a part in that may have to be counted again; see `add`."""
        return Tally(
            self.decide,
            kept_ids=None if self.kept_ids is None else array("Q"),
            outline=None if self.outline is None else Outline(),
            empties=self.empties,
        )

    def add(self, part: Tally) -> None:
        """Take over the counts of a part."""
        self.before += part.before
        self.kept += part.kept
        self.unclassified += part.unclassified
        self.removed.update(part.removed)
        if self.kept_ids is not None and part.kept_ids is not None:
            self.kept_ids.extend(part.kept_ids)
        if self.outline is not None and part.outline is not None:
            self.outline.add(part.outline)

    @property
    def known(self) -> Known | None:
        """What may be remembered of an object: nothing, unless each of its records is outlined and none goes."""
        if self.outline is None or self.due or self.unclassified:
            return None
        return self.outline.known(self.before)

    def note(self, offset: int, stretches: Iterable[tuple[int, int]]) -> None:
        """Stretches of a part that begins at ``offset`` go."""
        for begin, end in stretches:
            if self.gone is None:
                return
            if self.gone and self.gone[-1] == offset + begin:
                self.gone[-1] = offset + end
            else:
                self.gone.extend((offset + begin, offset + end))
                if len(self.gone) > 2 * MOST_GONE:
                    self.gone = None

    def keeps(self, values: Values | None, content: Content | None = None) -> bool:
        """Count one record and say whether it stays as it is. ``None``: it could not be parsed.

        What is missing is passed on as "" or None. Without id or account the tier is withheld too, since no exception
        of the record can be looked up: it is unclassified, under the strictest deadline, and counted (hard case 23).

        Args:
            content: asked where the decision says due; if it finds nothing, or cannot tell, the record stays as it is.
        """
        self.before += 1
        record, subject, tier = (text_of(value) for value in values[:3]) if values else (None, None, None)
        clock = instant_of(values[3]) if values else None
        named = record is not None and subject is not None
        rule = self.decide(record or "", subject or "", (tier or "") if named else "", clock)
        there = content() if content is not None and rule is not None else True
        if not named or tier is None or clock is None or there is None:
            self.unclassified += 1
        going = rule if there else None
        if going is None or self.empties:
            self._note_id(record or repr(values))
        if going is not None:
            self.removed[going] += 1
            return False
        self.kept += 1
        return True

    def _note_id(self, identity: str) -> None:
        if self.kept_ids is not None:
            digest = hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=8).digest()
            self.kept_ids.append(int.from_bytes(digest, "big"))


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
        parsed = _loaded(line)
    except ValueError:
        return None
    except RecursionError:
        return _deep(line, fields)
    if not isinstance(parsed, dict):
        return None
    record, subject, tier, clock = (parsed.get(name) for name in fields.names())
    return (record, subject, tier, clock)


def _loaded(line: bytes) -> object:
    try:
        return json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError:
        # Python refuses numbers of more than 4,300 digits; as a field of no interest one is no fault of the line.
        return json.loads(line, parse_int=float)


def _deep(line: bytes, fields: LogFields) -> Values | None:
    """Nested too deep for Python; Arrow does not mind, and which parser is asked must not decide a record's fate."""
    table = parsed_by_arrow(line, fields)
    if table is None or table.num_rows != 1:
        return None
    record, subject, tier, clock = (table.column(name)[0].as_py() for name in fields.names())
    return (record, subject, tier, clock)


def parsed_by_arrow(block: bytes, fields: LogFields) -> pa.Table | None:
    """The four fields of JSON lines, as text; None where one is no JSON, or a field no text."""
    import pyarrow as pa
    import pyarrow.json as pj

    schema = pa.schema([(name, pa.string()) for name in fields.names()])
    try:
        return pj.read_json(
            pa.BufferReader(block),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None
