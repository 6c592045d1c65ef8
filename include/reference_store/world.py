"""A world, account by account: everything a store of that size holds, in a stream and from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from reference_store.conversations import Quota, Subject, Writer
from reference_store.prose import Prose, identifier, person
from reference_store.rows import Account, Batch, Feedback, Hold, Message
from reference_store.stories import ORDINARY, Stage, Story, stories_of
from reference_store.timeline import Timeline

# Shares of the tiers among twenty accounts; the first four are one of each, so that the smallest world has all.
_TIER_PATTERN = (
    "consumer", "business", "evaluation", "beta", "consumer",
    "consumer", "business", "consumer", "evaluation", "consumer",
    "consumer", "business", "consumer", "beta", "business",
    "consumer", "evaluation", "consumer", "business", "consumer",
)  # fmt: skip
# Beyond the accounts that must tell a story, so many of all do.
_STORY_SHARE = 0.05
UNKNOWN_TIER = "legacy"
_WORLD, _STRAYS = -1, -2


@dataclass(frozen=True)
class Size:
    """How much to make. The stories come first, so a very small world has somewhat more messages than asked for."""

    accounts: int
    days: int
    messages: int
    objects: int


class World:
    """``batches()`` is the whole world in order; the same seed, size and as-of give the same one."""

    def __init__(self, size: Size, as_of: datetime, seed: int) -> None:
        self.size, self.seed = size, seed
        self.timeline = Timeline(as_of, size.days)
        self._quota = Quota(size.messages, size.objects)
        self._writer = Writer(self.timeline, Prose(self._rng(_WORLD)), self._quota)

    def first_account(self) -> str:
        """The identifier of the first account: where it is, this world has been written before."""
        return identifier(self._rng(0))

    def batches(self) -> Iterator[Batch]:
        ranks = dict.fromkeys(_TIER_PATTERN, 0)
        yield self._strays()
        for number in range(self.size.accounts):
            tier = _TIER_PATTERN[number % len(_TIER_PATTERN)]
            yield from self._account(number, tier, ranks[tier])
            ranks[tier] += 1

    def _rng(self, stream: int) -> Random:
        """Randomness of its own for each account, so that one account's share does not shift the next one's story."""
        return Random(f"{self.seed}/{stream}")

    def _account(self, number: int, tier: str, rank: int) -> Iterator[Batch]:
        rng = self._rng(number)
        subject = Subject(identifier(rng), tier, f"198.51.{rng.randrange(100, 104)}.{rng.randrange(1, 255)}")
        story = self._story(rng, tier, rank)
        if number == self.size.accounts - 1 and not story.active:
            story = ORDINARY  # the last account has to take the messages that are left
        silent = self.timeline.as_of - timedelta(days=story.silent_years * 365.25)
        earliest = latest = silent if story.silent_years else self.timeline.recent(rng, self.size.days)
        for batch in self._life(rng, subject, story, number):
            for moment in _interactions(batch):
                earliest, latest = min(earliest, moment), latest if story.silent_years else max(latest, moment)
            yield batch
        created = earliest - timedelta(days=rng.uniform(1, 200))
        yield Batch(rows=[Account(subject.account_id, tier, *person(rng, number), created, latest)])

    def _life(self, rng: Random, subject: Subject, story: Story, number: int) -> Iterator[Batch]:
        """The account's story, then ordinary traffic up to its share of the messages that are still to come."""
        share = self._share(rng, number) if story.active else 0
        limit = self._quota.messages - share
        yield from story.tell(Stage(self._writer, rng, subject))
        while self._quota.messages > max(limit, 0):
            room = self._quota.messages - max(limit, 0)
            yield self._writer.ordinary(rng, subject, size=room if room < 8 else None).batch

    def _share(self, rng: Random, number: int) -> int:
        """How many messages this account gets of those left; the last account gets the rest."""
        left, accounts_left = self._quota.messages, self.size.accounts - number
        if accounts_left == 1:
            return left
        return min(left, round(left / accounts_left * rng.expovariate(1.0)))

    def _story(self, rng: Random, tier: str, rank: int) -> Story:
        stories = stories_of(tier)
        if rank < len(stories):
            return stories[rank]
        return rng.choice(stories) if rng.random() < _STORY_SHARE else ORDINARY

    def _strays(self) -> Batch:
        """What no rule expects: an unknown tier, messages without an account; and holds on whole datasets."""
        rng = self._rng(_STRAYS)
        as_of, batch = self.timeline.as_of, Batch()
        for age, tier in ((60.0, UNKNOWN_TIER), (26.0, UNKNOWN_TIER), (2.5, UNKNOWN_TIER), (95.0, "consumer")):
            subject = Subject(identifier(rng), tier, "203.0.113.9")
            talk = self._writer.talk(rng, subject, as_of - timedelta(days=age), size=2)
            batch.rows.extend(talk.batch.rows)
            batch.objects.extend(talk.batch.objects)
            batch.log_lines.extend(talk.batch.log_lines)
        released, placed = as_of - timedelta(days=4), as_of - timedelta(days=30)
        batch.rows.append(Hold(identifier(rng), "dataset", "messages", "matter 900", "legal", placed, released))
        # a table that nothing is ever deleted from: an open hold of this scope that does not stop the whole project
        batch.rows.append(
            Hold(identifier(rng), "dataset", "app.enforcement_cases", "matter 901", "legal", placed, None)
        )
        return batch


def _interactions(batch: Batch) -> Iterator[datetime]:
    for row in batch.rows:
        if isinstance(row, Message):
            yield row.received_at
        elif isinstance(row, Feedback):
            yield row.submitted_at
