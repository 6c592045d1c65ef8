"""What must exist in any world: one short story per rule and exception, told by the accounts that come first.

Ages are in days and chosen around the shipped policy (28 and 90 days, two, three, seven and ten years); the store
itself knows no policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from reference_store.conversations import Subject, Talk, Writer, add_feedback, add_flag, add_score
from reference_store.prose import CLASSIFIERS, COMMENTS, identifier
from reference_store.rows import (
    Agreement,
    Batch,
    Case,
    Erasure,
    Feedback,
    Hold,
    Row,
    Score,
    StoredObject,
    Training,
)

YEAR = 365.25
_OVERDUE = {"business": 29.0}
_OVERDUE_ELSEWHERE = 91.0


@dataclass(frozen=True)
class Stage:
    """What a story may use: the writer, the account, its own randomness."""

    writer: Writer
    rng: Random
    subject: Subject

    def ago(self, days: float) -> datetime:
        return self.writer.timeline.as_of - timedelta(days=days)

    def old(self, *, at_least: float = 0, at_most: float = 100_000, versions: tuple[str, ...] = ()) -> Talk:
        """A conversation past its tier's default, with an object where the world has objects."""
        floor = max(_OVERDUE.get(self.subject.tier, _OVERDUE_ELSEWHERE), at_least)
        start = self.writer.timeline.aged(self.rng, floor, at_most)
        return self.writer.talk(self.rng, self.subject, start, size=4, with_object=True, versions=versions)

    def recent(self, within: float = 20) -> Talk:
        start = self.writer.timeline.recent(self.rng, within)
        return self.writer.talk(self.rng, self.subject, start, size=2, with_object=True)

    def hold(self, scope: str, target: str, *, released: datetime | None = None) -> Hold:
        placed = self.ago(self.rng.uniform(15, 30))
        reason = f"matter {self.rng.randrange(1000):03d}"
        return Hold(identifier(self.rng), scope, target, reason, "legal", placed, released)

    def erasure(self, scope: str, target: str) -> Erasure:
        return Erasure(identifier(self.rng), scope, target, self.ago(self.rng.uniform(0.1, 3)), None, None)

    def feedback_alone(self, submitted: datetime) -> Feedback:
        """A submission whose conversation has long gone."""
        return Feedback(
            identifier(self.rng), self.subject.account_id, identifier(self.rng), None, 1, COMMENTS[0], submitted, None
        )

    def score_alone(self, scored: datetime) -> Score:
        """A score whose message has long gone."""
        subject = self.subject
        return Score(
            identifier(self.rng), identifier(self.rng), subject.account_id, subject.tier, CLASSIFIERS[0], 0.91, scored
        )

    def example(self, talk: Talk, basis: str) -> Training:
        first = talk.messages[0]
        return Training(identifier(self.rng), first.message_id, self.subject.account_id, basis, talk.last)


Batches = Iterator[Batch]


@dataclass(frozen=True)
class Story:
    """``active``: the account also has ordinary traffic; ``silent_years``: or when it last interacted instead."""

    tell: Callable[[Stage], Batches]
    active: bool = True
    silent_years: float = 0


def _with(talk: Talk, *rows: Row) -> Batch:
    talk.batch.rows.extend(rows)
    return talk.batch


# -- legal holds


def _account_held(stage: Stage) -> Batches:
    yield _with(stage.old(), stage.hold("account", stage.subject.account_id))


def _account_hold_released(stage: Stage) -> Batches:
    yield _with(stage.old(), stage.hold("account", stage.subject.account_id, released=stage.ago(2)))


def _conversation_held(stage: Stage) -> Batches:
    talk = stage.old()
    yield _with(talk, stage.hold("conversation", talk.conversation_id))
    released = stage.old()
    yield _with(released, stage.hold("conversation", released.conversation_id, released=stage.ago(1)))


def _message_held(stage: Stage) -> Batches:
    talk = stage.old()
    first, second = talk.messages[0].message_id, talk.messages[1].message_id
    yield _with(talk, stage.hold("message", first), stage.hold("message", second, released=stage.ago(1)))


def _held_where_flagged(stage: Stage) -> Batches:
    talk = stage.old(at_least=2 * YEAR + 5, at_most=3 * YEAR)
    add_flag(stage.rng, talk, talk.messages[0])
    add_flag(stage.rng, talk, talk.messages[1])
    yield _with(talk, stage.hold("message", talk.messages[0].message_id))


# -- safety flags


def _flagged_lately(stage: Stage) -> Batches:
    talk = stage.recent()
    add_flag(stage.rng, talk, talk.messages[0])
    yield talk.batch


def _flagged_past_default(stage: Stage) -> Batches:
    talk = stage.old(at_most=600)
    add_flag(stage.rng, talk, talk.messages[0])
    yield talk.batch


def _flagged_two_years_ago(stage: Stage) -> Batches:
    talk = stage.old(at_least=2 * YEAR - 2, at_most=3 * YEAR)
    add_flag(stage.rng, talk, talk.messages[0])
    add_flag(stage.rng, talk, talk.messages[1])
    yield talk.batch


def _flag_cleared(stage: Stage) -> Batches:
    recent, old = stage.recent(), stage.old()
    for talk in (recent, old):
        add_flag(stage.rng, talk, talk.messages[0], cleared=talk.last + (stage.ago(0.01) - talk.last) / 2)
        yield talk.batch


# -- feedback


def _feedback_keeps_conversation(stage: Stage) -> Batches:
    overdue, old = stage.old(at_most=400), stage.old(at_least=5 * YEAR, at_most=9 * YEAR)
    for talk in (overdue, old):
        add_feedback(stage.rng, talk, talk.last + timedelta(minutes=5), about_message=talk is overdue)
        yield talk.batch


def _feedback_withdrawn(stage: Stage) -> Batches:
    for about_message in (True, False):
        talk = stage.old(at_most=400)
        add_feedback(stage.rng, talk, talk.last, withdrawn=stage.ago(2), about_message=about_message)
        yield talk.batch


def _feedback_of_ten_years(stage: Stage) -> Batches:
    talk = stage.old(at_least=10 * YEAR + 5)
    add_feedback(stage.rng, talk, stage.ago(10 * YEAR + 3), about_message=False)
    yield _with(talk, stage.feedback_alone(stage.ago(10 * YEAR + 20)), stage.feedback_alone(stage.ago(9.5 * YEAR)))


# -- scores and training


def _scores_of_seven_years(stage: Stage) -> Batches:
    ages = (7 * YEAR + 2, 7.5 * YEAR, 6.9 * YEAR)
    yield Batch(rows=[stage.score_alone(stage.ago(age)) for age in ages])


def _training_permitted(stage: Stage) -> Batches:
    recent = stage.recent()
    yield _with(recent, stage.example(recent, "permission"))
    flagged = stage.recent()
    add_flag(stage.rng, flagged, flagged.messages[0])
    yield _with(flagged, stage.example(flagged, "safety_review"))


def _training_without_basis(stage: Stage) -> Batches:
    never = stage.recent()
    yield _with(never, stage.example(never, "safety_review"))
    cleared = stage.recent()
    add_flag(stage.rng, cleared, cleared.messages[0], cleared=cleared.last + (stage.ago(0.01) - cleared.last) / 2)
    yield _with(cleared, stage.example(cleared, "safety_review"))


# -- erasure requests


def _account_erased(stage: Stage) -> Batches:
    talk = stage.recent()
    add_feedback(stage.rng, talk, talk.last)
    add_score(stage.rng, talk, talk.messages[0])
    yield _with(talk, stage.erasure("account", stage.subject.account_id))


def _conversation_erased(stage: Stage) -> Batches:
    talk = stage.recent()
    yield _with(talk, stage.erasure("conversation", talk.conversation_id))


def _message_erased(stage: Stage) -> Batches:
    talk = stage.recent()
    yield _with(talk, stage.erasure("message", talk.messages[0].message_id))


def _erased_but_flagged(stage: Stage) -> Batches:
    talk = stage.recent()
    add_flag(stage.rng, talk, talk.messages[0])
    yield _with(talk, stage.erasure("account", stage.subject.account_id))


def _erased_but_held(stage: Stage) -> Batches:
    talk = stage.recent()
    yield _with(
        talk,
        stage.erasure("account", stage.subject.account_id),
        stage.hold("conversation", talk.conversation_id),
    )


def _erased_though_consented(stage: Stage) -> Batches:
    talk = stage.old(at_most=400)
    add_feedback(stage.rng, talk, talk.last, about_message=False)
    yield _with(talk, stage.erasure("conversation", talk.conversation_id))


def _erased_before(stage: Stage) -> Batches:
    """A request that was done: what came later stays, what was received before but arrived late goes."""
    asked, done = stage.ago(12), stage.ago(11.9)
    request = Erasure(identifier(stage.rng), "account", stage.subject.account_id, asked, done, "done")
    yield _with(stage.recent(within=10), request)
    yield stage.writer.talk(stage.rng, stage.subject, stage.ago(13), size=2).batch


# -- business


def _agreed(days: int, *, ended: bool = False, category: str = "prompts_and_outputs") -> Callable[[Stage], Batches]:
    def tell(stage: Stage) -> Batches:
        agreement = Agreement(
            identifier(stage.rng), stage.subject.account_id, category, timedelta(days=days),
            stage.ago(700), stage.ago(3) if ended else None,
        )  # fmt: skip
        yield _with(stage.recent(), agreement)
        yield stage.old(at_most=340).batch
        if days > 28:
            yield stage.old(at_least=364, at_most=700).batch

    return tell


def _case_open(stage: Stage) -> Batches:
    case = Case(identifier(stage.rng), stage.subject.account_id, stage.ago(10), None)
    yield _with(stage.old(), case)


def _case_closed(stage: Stage) -> Batches:
    case = Case(identifier(stage.rng), stage.subject.account_id, stage.ago(60), stage.ago(2))
    yield _with(stage.old(), case)


def _erased_but_under_case(stage: Stage) -> Batches:
    case = Case(identifier(stage.rng), stage.subject.account_id, stage.ago(5), None)
    yield _with(stage.recent(), case, stage.erasure("account", stage.subject.account_id))


def _business_flagged(stage: Stage) -> Batches:
    """No rule of business accounts knows a flag."""
    talk = stage.old()
    add_flag(stage.rng, talk, talk.messages[0])
    yield talk.batch


# -- accounts


def _nothing_left(stage: Stage) -> Batches:
    yield from ()


def _only_records_left(stage: Stage) -> Batches:
    yield Batch(rows=[stage.score_alone(stage.ago(5 * YEAR)), stage.feedback_alone(stage.ago(4.5 * YEAR))])


def _silent_but_held(stage: Stage) -> Batches:
    yield Batch(rows=[stage.hold("account", stage.subject.account_id)])


# -- where messages and objects lie


def _late_arrivals(stage: Stage) -> Batches:
    """Rows of days that have no partition: some very old, some of the last hours."""
    timeline = stage.writer.timeline
    for start in (timeline.without_partition(stage.rng), timeline.as_of - timedelta(hours=stage.rng.uniform(0.1, 20))):
        yield stage.writer.talk(stage.rng, stage.subject, start, size=2, with_object=True).batch


def _rewritten_objects(stage: Stage) -> Batches:
    """Objects with several versions, one of them deleted and written again."""
    yield stage.old(versions=("first draft", "second draft")).batch
    yield stage.old(versions=("first draft", "")).batch


def _left_in_landing(stage: Stage) -> Batches:
    """An object that was moved by copy and plain delete: its old key hides a version behind a delete marker."""
    talk = stage.old()
    moved = [stored for stored in talk.batch.objects if stored.key.startswith("tier=")]
    for stored in moved[:1]:
        message_id = stored.key.rsplit("/", 1)[1]
        talk.batch.objects.append(StoredObject(f"landing/{message_id}", None, (stored.content,)))
    yield talk.batch


_ANYBODY = (
    Story(_account_held),
    Story(_account_hold_released),
    Story(_conversation_held),
    Story(_message_held),
    Story(_account_erased),
    Story(_conversation_erased),
    Story(_message_erased),
    Story(_erased_but_held),
    Story(_erased_before, active=False),
    Story(_feedback_keeps_conversation),
    Story(_feedback_withdrawn),
    Story(_feedback_of_ten_years),
    Story(_scores_of_seven_years),
    Story(_nothing_left, active=False, silent_years=3.5),
    Story(_only_records_left, active=False, silent_years=4),
    Story(_silent_but_held, active=False, silent_years=3.2),
    Story(_late_arrivals),
    Story(_rewritten_objects),
    Story(_left_in_landing),
)
CONSUMER_STORIES = (
    Story(_flagged_two_years_ago),
    Story(_flagged_past_default),
    Story(_flagged_lately),
    Story(_flag_cleared),
    Story(_held_where_flagged),
    Story(_erased_but_flagged),
    Story(_erased_though_consented),
    Story(_training_permitted),
    Story(_training_without_basis),
    *_ANYBODY,
)
BUSINESS_STORIES = (
    Story(_agreed(0)),
    Story(_agreed(7)),
    Story(_agreed(365)),
    Story(_agreed(365, ended=True)),
    Story(_agreed(365, category="safety_scores")),
    Story(_case_open),
    Story(_case_closed),
    Story(_erased_but_under_case),
    Story(_business_flagged),
    *_ANYBODY,
)
ORDINARY = Story(_nothing_left)


def stories_of(tier: str) -> tuple[Story, ...]:
    return BUSINESS_STORIES if tier == "business" else CONSUMER_STORIES
