"""Reads the many-record objects of a day for a plan: several at once, their results in the order of their keys.

Threads read and judge; the connection to the database stays with the thread that asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from lifecycle.catalog.models import Logs
from lifecycle.dispositions.log_index import LogIndex, Suspects, suspects_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from lifecycle.stores.s3.logs import Decide, LogFields, Prove, RewriteResult
    from lifecycle.stores.s3.outline import Known
    from lifecycle.stores.s3.records import Tally
    from lifecycle.stores.s3.versions import ObjectVersion

# What objects that are read at once take together, packed. A larger one is read by itself, with all processors.
ROOM = 64 << 20
# A decision that counts in what it is given the records that wait for an approval.
JudgeOf = Callable[[Counter[str]], "Decide"]


@dataclass(frozen=True)
class Looked:
    """What is in an object, and what the thread that has the connection is to write down of it."""

    key: str
    result: RewriteResult
    waiting: Counter[str] = field(default_factory=Counter)
    known: list[tuple[ObjectVersion, Known]] = field(default_factory=list)
    proven: list[tuple[ObjectVersion, Tally, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Object:
    """A key with its first two versions. ``clean``: how many records it holds, if it need not be read."""

    key: str
    versions: Sequence[ObjectVersion]
    clean: int | None

    @property
    def size(self) -> int:
        return sum(version.size for version in self.versions) if self.clean is None else 0


@dataclass(frozen=True)
class Reading:
    """How the objects of a dataset are read. ``prove`` is told of those with due records what must stay of them."""

    s3: S3Client
    dataset: Logs
    fields: LogFields
    index: LogIndex
    prove: Prove | None

    def day(
        self, day: date, objects: Iterable[tuple[str, Sequence[ObjectVersion]]], judge_of: JudgeOf
    ) -> Iterator[Looked]:
        """Every object of a day, in the order given. What was remembered of one as it stands is not read again.

        Raises:
            StoreError: an object cannot be read; those before it were told.
        """
        from lifecycle.stores.s3.ahead import beside_each_other

        judge = judge_of(Counter())
        suspects = suspects_of(judge)
        found = self._unless_clean(objects, suspects)
        # One that tells what is ordinary counts nothing, and prepares what it looks up only once.
        look = partial(self._look, judge_of if suspects is None else lambda _: judge)
        for seen in beside_each_other(look, found, attrgetter("size"), self.dataset.read_ahead, ROOM):
            for version, known in seen.known:
                self.index.learn(day, version, known)
            for version, tally, checksum in seen.proven:
                assert self.prove is not None  # it was asked for
                self.prove(version, tally, checksum)
            yield seen

    def _unless_clean(
        self, objects: Iterable[tuple[str, Sequence[ObjectVersion]]], suspects: Suspects | None
    ) -> Iterator[_Object]:
        for key, versions in objects:
            clean = self.index.rows_if_clean(versions, suspects)
            if clean is None:
                self.index.unlearn(key)
            yield _Object(key, versions, clean)

    def _look(self, judge_of: JudgeOf, found: _Object) -> Looked:
        """In a thread of its own, beside others: with a decision of its own, since it counts."""
        from lifecycle.stores.s3.logs import RewriteResult, inspect_object

        if found.clean is not None:
            return Looked(found.key, RewriteResult("unchanged", found.clean, found.clean))
        seen = Looked(found.key, RewriteResult("unchanged"))
        result = inspect_object(
            self.s3,
            self.dataset.bucket,
            found.key,
            self.fields,
            judge_of(seen.waiting),
            lambda *told: seen.known.append(told),
            (lambda *told: seen.proven.append(told)) if self.prove is not None else None,
        )
        return replace(seen, result=result)
