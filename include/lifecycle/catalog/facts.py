"""The tables of exceptions, as objects: whom they name, from when to when, and of which types their columns are."""

from __future__ import annotations

from typing import Literal

from lifecycle.catalog.clocks import ClockForm
from lifecycle.catalog.identifiers import Identifier, TableName
from lifecycle.policy.models import Frozen


class _Facts(Frozen):
    """A table of exceptions. ``ids``: what the column is that names records, groups or accounts. ``clocks``: what all
    of its times are; ``timestamptz`` if not given."""

    table: TableName
    ids: Literal["uuid", "text", "bigint"] = "uuid"
    clocks: ClockForm | None = None


class Flags(_Facts):
    record: Identifier
    flagged: Identifier
    cleared: Identifier

    @property
    def named(self) -> str:
        """The column of ids."""
        return self.record

    @property
    def times(self) -> tuple[str, ...]:
        """The columns of times."""
        return (self.flagged, self.cleared)

    @property
    def ends(self) -> str:
        """The time that ends it."""
        return self.cleared

    @property
    def others(self) -> tuple[str, ...]:
        """What else is read."""
        return ()


class Consents(_Facts):
    group: Identifier
    given: Identifier
    withdrawn: Identifier

    @property
    def named(self) -> str:
        return self.group

    @property
    def times(self) -> tuple[str, ...]:
        return (self.given, self.withdrawn)

    @property
    def ends(self) -> str:
        return self.withdrawn

    @property
    def others(self) -> tuple[str, ...]:
        return ()


class Cases(_Facts):
    subject: Identifier
    opened: Identifier
    closed: Identifier

    @property
    def named(self) -> str:
        return self.subject

    @property
    def times(self) -> tuple[str, ...]:
        return (self.opened, self.closed)

    @property
    def ends(self) -> str:
        return self.closed

    @property
    def others(self) -> tuple[str, ...]:
        return ()


class Agreements(_Facts):
    subject: Identifier
    category: Identifier
    retain: Identifier
    effective_from: Identifier
    effective_to: Identifier

    @property
    def named(self) -> str:
        return self.subject

    @property
    def times(self) -> tuple[str, ...]:
        return (self.effective_from, self.effective_to)

    @property
    def ends(self) -> str:
        return self.effective_to

    @property
    def others(self) -> tuple[str, ...]:
        return (self.category, self.retain)


FactTable = Flags | Consents | Cases | Agreements


class Exceptions(Frozen):
    """Where the facts are that make a record's fate differ. Holds and erasure requests are the project's own tables."""

    flags: Flags | None = None
    consents: Consents | None = None
    cases: Cases | None = None
    agreements: Agreements | None = None

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables of those that there are, each once."""
        found = (self.flags, self.consents, self.cases, self.agreements)
        return tuple(dict.fromkeys(item.table for item in found if item is not None))
