"""Where the data of each category lives: the dataset bindings as frozen objects (parsed by catalog/load.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from lifecycle.catalog.buckets import Bucket, Expire, Objects, Prefix, Quarantine, ReadAhead, Research, Shards, Staging
from lifecycle.catalog.clocks import ClockField
from lifecycle.catalog.excluded import Exclusion as Exclusion
from lifecycle.catalog.facts import Agreements, Cases, Consents, Exceptions, Flags
from lifecycle.catalog.identifiers import Identifier, KeyField, TableName, parts_of
from lifecycle.catalog.pace import Pace
from lifecycle.catalog.stages import Copy, Descendant, LogStage, OrphanPart, Stage, StagePart
from lifecycle.catalog.tiers import Tiers, TierShare
from lifecycle.contradiction import refuse
from lifecycle.errors import NotBoundError
from lifecycle.policy.models import Category, Frozen, PeriodField, Tier, Trigger, Version

if TYPE_CHECKING:
    from lifecycle.catalog.log_parts import StagedLogs

DatasetId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")]
Ids = Literal["uuid", "text", "bigint"]


class Child(Frozen):
    """A table whose rows belong to a record. ``moves``: its rows travel with the record into quarantine and back.
    ``ids``: what the key is; text names a uuid in lower case."""

    table: TableName
    key: Identifier
    ids: Literal["uuid", "text"] = "uuid"
    moves: Annotated[bool, Field(strict=True)] = False


class Messages(Frozen):
    """Records in a PostgreSQL table partitioned by tier and UTC day."""

    id: DatasetId
    type: Literal["partitioned_table"]
    category: Category
    table: TableName
    tier: Identifier
    subject: Identifier
    subject_ids: Ids = "uuid"
    """What the subject is; records and groups are uuids."""
    record: Identifier
    group: Identifier
    clock: ClockField
    role: Identifier
    model: Identifier
    body: Identifier
    create_ahead: PeriodField
    objects: Objects
    children: tuple[Child, ...] = ()
    quarantine: Quarantine
    research: Research
    pace: Pace = Pace()


class Records(Frozen):
    """Records in an ordinary PostgreSQL table, disposed of row by row (scores, feedback, training examples).

    ``tier_is``: the tier of all of them, where rules differ by tier; ``tiers``: what tells each row's own.
    ``stages``: what of a row goes before the row.
    ``children``, ``copies``: what goes with a row. ``refresh``: materialized views to refresh after rows went.
    """

    id: DatasetId
    type: Literal["table"]
    category: Category
    table: TableName
    key: KeyField
    subject: Identifier
    clock: ClockField
    tier: Identifier | None = None
    tier_is: Tier | None = None
    tiers: Annotated[Tiers | None, Field(examples=["{column: tier}"])] = None
    record: Identifier | None = None
    group: Identifier | None = None
    basis: Identifier | None = None
    stages: tuple[Stage, ...] = ()
    children: tuple[Descendant, ...] = ()
    copies: tuple[Copy, ...] = ()
    refresh: tuple[TableName, ...] = ()
    ids: Ids = "uuid"
    """What subject, record and group are; an id that is text is one only letter by letter."""
    subject_ids: Ids | None = None
    """What the subject is, where it is not what record and group are."""
    create_ahead: PeriodField | None = None
    """How far partitions are made ahead, where its clock divides the table; without it another tool makes them."""
    pace: Pace = Pace()

    @property
    def names(self) -> tuple[str, ...]:
        """What a hold on all of it may name."""
        return (self.id, self.table)

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns that together are the key."""
        return parts_of(self.key)

    @property
    def referred_key(self) -> str:
        """The column that children and copies refer to unless they name another; "" where the key is several."""
        return self.key if isinstance(self.key, str) else ""

    @property
    def binding(self) -> str:
        """The id of the dataset of the file that this is, or is a part of."""
        return self.id

    @property
    def share_of(self) -> TierShare | None:
        """Which tier's share of a table of several tiers this is, if it is one."""
        return None

    @property
    def ruled_as(self) -> Tier | None:
        """The tier whose rules decide; where rules do not differ by tier, any of them. None: an unknown one."""
        share = self.share_of
        return share.tier if share is not None else self.tier_is or Tier.CONSUMER

    @property
    def by_partition(self) -> bool:
        """Whether its rows share one rule, so that a partition of them may go as a whole. No part of a table does."""
        return type(self) is Records and any(each is self for each in self.unfolded)

    @property
    def parts(self) -> tuple[StagedRecords, ...]:
        """Its stages, each as a dataset of its own: with its own category, and so its own rule, fate and cut-off."""
        return tuple(_part(self, stage) for stage in self.stages)

    @property
    def swept(self) -> tuple[OrphanRecords, ...]:
        """Rows of its children that no record has any more, where they are to go, each as a dataset of its own."""
        return tuple(_swept(self, self.children, self.table, self.referred_key))

    @property
    def unfolded(self) -> tuple[Records, ...]:
        """What has a fate of its own in it: its stages, the rows, then what lost its row; tier by tier where told."""
        from lifecycle.catalog.shares import shares_of

        return tuple(share for each in (*self.parts, self, *self.swept) for share in shares_of(self, each))


class StagedRecords(Records):
    """One stage of the rows of an ordinary table: what goes is content, in columns that are emptied. In no file."""

    id: str
    part: StagePart

    @property
    def names(self) -> tuple[str, ...]:
        return (self.id, self.part.of, self.table)

    @property
    def binding(self) -> str:
        return self.part.of


def _part(dataset: Records, stage: Stage) -> StagedRecords:
    own = {name: getattr(dataset, name) for name in Records.model_fields}
    changed = {"stages": (), "children": (), "copies": stage.copies, "category": stage.category}
    part = StagePart(of=dataset.id, name=stage.name, clear=stage.clear)
    return StagedRecords(**(own | changed | {"id": f"{dataset.id}.{stage.name}"}), part=part)


class OrphanRecords(Records):
    """Rows of a child whose parent is gone, counted from their own clock under the dataset's rule. In no file."""

    id: str
    orphan: OrphanPart

    @property
    def names(self) -> tuple[str, ...]:
        return (self.id, self.orphan.of, self.table)

    @property
    def binding(self) -> str:
        return self.orphan.of


def _swept(dataset: Records, children: tuple[Descendant, ...], parent: str, parent_key: str) -> Iterator[OrphanRecords]:
    for child in children:
        above = child.parent_key or parent_key
        if (how := child.orphans) is not None:
            changed = {
                "id": f"{dataset.id}.{how.name}",
                "table": child.table,
                "key": how.rows,
                "clock": how.clock,
                # Directly below the record the child's key is the record's id, which a hold may name.
                "record": child.key if parent == dataset.table and above == dataset.record else None,
                "subject": how.subject or child.key,
                "ids": how.ids or dataset.ids,
                "children": child.children,
                **dict.fromkeys(("stages", "copies", "refresh"), ()),
                **dict.fromkeys(("group", "basis")),
            }
            own = {name: getattr(dataset, name) for name in Records.model_fields}
            part = OrphanPart(of=dataset.id, parent=parent, parent_key=above, key=child.key)
            yield OrphanRecords(**(own | changed), orphan=part)
        yield from _swept(dataset, child.children, child.table, "")


class Accounts(Frozen):
    """Account rows: personal columns are nulled, the row stays while anything refers to it."""

    id: DatasetId
    type: Literal["accounts"]
    category: Category
    table: TableName
    key: Identifier
    ids: Ids = "uuid"
    tier: Identifier
    clock: ClockField
    personal: Annotated[tuple[Identifier, ...], Field(min_length=1)]
    referenced_by: tuple[Child, ...] = ()
    """Of lifecycle.quarantine, whatever its key is called: where accounts are no uuids, the column of their text."""
    pace: Pace = Pace()

    @property
    def key_columns(self) -> tuple[str, ...]:
        """As of `Records`."""
        return (self.key,)


class Logs(Frozen):
    """Objects that hold many records of many accounts and tiers (JSON lines, plain, gzip or zstd; Parquet).

    ``stages``: what of a record goes before the record.
    """

    id: DatasetId
    type: Literal["logs"]
    category: Category
    bucket: Bucket
    prefix: Prefix
    record: Identifier
    subject: Identifier
    tier: Identifier
    clock: Identifier
    expire: Expire = "requests"
    shards: Shards | None = None
    prepared: Staging | None = None
    read_ahead: ReadAhead = 8
    stages: tuple[LogStage, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """As of `Records`."""
        return (self.id,)

    @property
    def binding(self) -> str:
        """As of `Records`."""
        return self.id

    @property
    def clear(self) -> tuple[str, ...]:
        """The fields that are emptied; none where the records go."""
        return ()

    @property
    def parts(self) -> tuple[StagedLogs, ...]:
        """Its stages, each as a dataset of its own: with its own category, and so its own rule, fate and cut-off."""
        from lifecycle.catalog.log_parts import parts_of_logs

        return parts_of_logs(self)


def subject_ids_of(dataset: Messages | Records | Accounts) -> Ids:
    """What the ids of the accounts are that a table names."""
    if isinstance(dataset, Accounts):
        return dataset.ids
    return dataset.subject_ids or dataset.ids if isinstance(dataset, Records) else dataset.subject_ids


Dataset = Annotated[Messages | Records | Accounts | Logs, Field(discriminator="type")]


Part = TypeVar("Part")


def _configured(part: Part | None, name: str) -> Part:
    if part is None:
        raise NotBoundError(name)
    return part


class Catalog(Frozen):
    """A whole dataset file."""

    version: Version
    evidence_bucket: Bucket
    exceptions: Exceptions = Exceptions()
    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1)]
    exclusions: Annotated[
        tuple[Exclusion, ...],
        Field(examples=["[{table: app.plans, reason: a price list of ours, until: 2027-06-30}]"]),
    ] = ()

    @model_validator(mode="after")
    def _whole(self) -> Catalog:
        from lifecycle.catalog.checks import contradictions

        refuse(contradictions(self))
        return self

    def knows(self, trigger: Trigger, category: Category) -> bool:
        """Whether there can be an exception of a kind. A rule for what a database does not have never applies."""
        match trigger:
            case Trigger.FLAG:
                return self.exceptions.flags is not None
            case Trigger.CASE:
                return self.exceptions.cases is not None
            case Trigger.AGREEMENT:
                return self.exceptions.agreements is not None
            case Trigger.CONSENT:
                # A submission is its own consent.
                return self.exceptions.consents is not None or category is Category.FEEDBACK
            case _:
                return True

    @property
    def flags(self) -> Flags:
        return _configured(self.exceptions.flags, "exceptions.flags")

    @property
    def consents(self) -> Consents:
        return _configured(self.exceptions.consents, "exceptions.consents")

    @property
    def cases(self) -> Cases:
        return _configured(self.exceptions.cases, "exceptions.cases")

    @property
    def agreements(self) -> Agreements:
        return _configured(self.exceptions.agreements, "exceptions.agreements")

    @property
    def has_messages(self) -> bool:
        return any(isinstance(item, Messages) for item in self.datasets)

    @property
    def messages(self) -> Messages:
        found = next((item for item in self.datasets if isinstance(item, Messages)), None)
        return _configured(found, "dataset of type partitioned_table")

    @property
    def tables(self) -> tuple[Records, ...]:
        """The ordinary tables, each once."""
        return tuple(item for item in self.datasets if isinstance(item, Records))

    @property
    def records(self) -> tuple[Records, ...]:
        """What has a fate of its own in ordinary tables: the stages of a table's rows, the rows themselves, then what
        lost its row; each by tier where rows are of several."""
        return tuple(each for item in self.tables for each in item.unfolded)

    @property
    def has_accounts(self) -> bool:
        return any(isinstance(item, Accounts) for item in self.datasets)

    @property
    def accounts(self) -> Accounts:
        found = next((item for item in self.datasets if isinstance(item, Accounts)), None)
        return _configured(found, "dataset of type accounts")

    @property
    def row_by_row(self) -> tuple[Records | Accounts, ...]:
        """What goes from ordinary tables row by row, accounts last."""
        return (*self.records, *(item for item in self.datasets if isinstance(item, Accounts)))

    @property
    def logs(self) -> tuple[Logs, ...]:
        return tuple(item for item in self.datasets if isinstance(item, Logs))

    @property
    def log_records(self) -> tuple[Logs, ...]:
        """What has a fate of its own in objects of many records: the records, then what of them goes earlier."""
        return tuple(each for item in self.logs for each in (item, *item.parts))


TIERS: tuple[Tier, ...] = tuple(Tier)
