"""Conversations: messages with their tools, objects and log lines, and the ordinary exceptions that traffic brings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from reference_store.prose import CLASSIFIERS, COMMENTS, MODELS, PATHS, TOOLS, Prose, identifier
from reference_store.rows import Batch, Feedback, Flag, LogLine, Message, Score, StoredObject, Tool, Training
from reference_store.timeline import Timeline

# Shares of ordinary traffic; the stories (stories.py) add what must exist in any world.
_TOOL_SHARE = 0.08
_SCORE_SHARE = 0.15
_FLAG_SHARE = 0.002
_CLEARED_SHARE = 0.3
_FEEDBACK_SHARE = 0.02
_WITHDRAWN_SHARE = 0.15
_TRAINING_SHARE = 0.003
_VERSIONS_SHARE = 0.01
# Objects this recent are still in landing/ half of the time.
_LANDING_DAYS = timedelta(days=14)
# A conversation has up to so many exchanges of prompt and output.
_MOST_EXCHANGES = 4
_LONGEST_PAUSE_SECONDS = 600


@dataclass
class Quota:
    """How many messages and objects are still to come. Selection sampling: exactly so many are chosen, in one pass."""

    messages: int
    objects: int

    def take_message(self) -> None:
        self.messages -= 1

    def take_object(self, rng: Random, wanted: bool) -> bool:
        chosen = self.objects > 0 and (wanted or rng.random() * max(self.messages, 1) < self.objects)
        self.objects -= chosen
        return chosen


@dataclass(frozen=True)
class Subject:
    """The account that a conversation belongs to."""

    account_id: str
    tier: str
    client_ip: str


@dataclass(frozen=True)
class Talk:
    """A conversation as it was written, for the stories that attach exceptions to it."""

    subject: Subject
    conversation_id: str
    messages: tuple[Message, ...]
    batch: Batch

    @property
    def last(self) -> datetime:
        return self.messages[-1].received_at


class Writer:
    """Writes conversations of one world. Everything random comes from the ``rng`` given to each call."""

    def __init__(self, timeline: Timeline, prose: Prose, quota: Quota) -> None:
        self.timeline, self.prose, self.quota = timeline, prose, quota

    def talk(
        self,
        rng: Random,
        subject: Subject,
        start: datetime,
        *,
        size: int | None = None,
        with_object: bool = False,
        versions: Sequence[str] = (),
    ) -> Talk:
        """A conversation of prompts and outputs.

        Args:
            size: number of messages; drawn when None.
            with_object: the first message's body is in S3, if the world has objects at all.
            versions: what happened to the first object's key before: earlier bodies, "" for a plain delete.
        """
        count = size or 2 * (1 + int(rng.random() * _MOST_EXCHANGES))
        pauses = [timedelta(seconds=1 + int(rng.random() * _LONGEST_PAUSE_SECONDS)) for _ in range(count)]
        moment = self.timeline.fit(start, sum(pauses, timedelta()))
        conversation, model, batch = identifier(rng), MODELS[int(rng.random() * len(MODELS))], Batch()
        messages = []
        for position, pause in enumerate(pauses):
            moment += pause
            role = "output" if position % 2 else "prompt"
            forced = with_object and position == 0
            message = self._message(rng, subject, conversation, role, moment, model, batch, forced, versions)
            messages.append(message)
        return Talk(subject, conversation, tuple(messages), batch)

    def ordinary(self, rng: Random, subject: Subject, size: int | None) -> Talk:
        """A conversation of everyday traffic, with the flags, scores, feedback and training use that come with it."""
        talk = self.talk(rng, subject, self.timeline.window_start(rng), size=size)
        for message in talk.messages:
            if message.role == "prompt" and rng.random() < _SCORE_SHARE:
                add_score(rng, talk, message)
            if rng.random() < _FLAG_SHARE:
                cleared = self._after(rng, message.received_at) if rng.random() < _CLEARED_SHARE else None
                add_flag(rng, talk, message, cleared)
            if rng.random() < _TRAINING_SHARE:
                talk.batch.rows.append(
                    Training(identifier(rng), message.message_id, subject.account_id, "permission", talk.last)
                )
        if rng.random() < _FEEDBACK_SHARE:
            withdrawn = self._after(rng, talk.last) if rng.random() < _WITHDRAWN_SHARE else None
            add_feedback(rng, talk, talk.last, withdrawn=withdrawn, about_message=rng.random() < 0.5)
        return talk

    def _after(self, rng: Random, moment: datetime) -> datetime:
        """An instant between a moment and as-of."""
        return moment + rng.random() * (self.timeline.as_of - moment)

    def _message(
        self,
        rng: Random,
        subject: Subject,
        conversation: str,
        role: str,
        moment: datetime,
        model: str,
        batch: Batch,
        with_object: bool,
        versions: Sequence[str],
    ) -> Message:
        message_id, body, key = identifier(rng), self.prose.body(rng, role), None
        if self.quota.take_object(rng, with_object):
            key = self._object_key(rng, subject.tier, message_id, moment)
        self.quota.take_message()
        message = Message(
            message_id, conversation, subject.account_id, subject.tier, role, moment, model, subject.client_ip,
            None if key else body, key,
        )  # fmt: skip
        batch.rows.append(message)
        if key:
            earlier = tuple(versions) if with_object else ("draft",) if rng.random() < _VERSIONS_SHARE else ()
            history = tuple(object_body(message, f"{text}: {body}") if text else None for text in earlier)
            batch.objects.append(StoredObject(key, object_body(message, body), history))
        if role == "output":
            if rng.random() < _TOOL_SHARE:
                batch.rows.extend(Tool(message_id, name) for name in rng.sample(TOOLS, 1 + int(rng.random() * 2)))
        else:
            batch.log_lines.append(log_line(rng, message))
        return message

    def _object_key(self, rng: Random, tier: str, message_id: str, moment: datetime) -> str:
        """Where the object lies: recent ones half of the time where the application wrote them."""
        undated = moment.date() in self.timeline.days_without_partition
        recent = moment > self.timeline.as_of - _LANDING_DAYS
        if undated or (recent and rng.random() < 0.5):
            return f"landing/{message_id}.json"
        return f"tier={tier}/date={moment.date().isoformat()}/{message_id}.json"


def object_body(message: Message, body: str) -> bytes:
    """An object as the application writes it."""
    return json.dumps(
        {
            "message_id": message.message_id,
            "conversation_id": message.conversation_id,
            "account_id": message.account_id,
            "role": message.role,
            "received_at": message.received_at.isoformat(),
            "body": body,
        }
    ).encode()


def log_line(rng: Random, message: Message) -> LogLine:
    """The request that brought a prompt."""
    return LogLine(
        message.message_id, message.account_id, message.tier, message.received_at,
        PATHS[int(rng.random() * len(PATHS))], 200 if rng.random() < 0.98 else 529, 200 + int(rng.random() * 4000),
    )  # fmt: skip


def add_flag(rng: Random, talk: Talk, message: Message, cleared: datetime | None = None) -> None:
    flagged = message.received_at + timedelta(seconds=1 + int(rng.random() * 5))
    talk.batch.rows.append(Flag(message.message_id, talk.subject.account_id, rng.choice(CLASSIFIERS), flagged, cleared))


def add_score(rng: Random, talk: Talk, message: Message) -> None:
    moment = message.received_at + timedelta(seconds=1)
    subject, classifier, score = talk.subject, rng.choice(CLASSIFIERS), round(rng.random(), 4)
    talk.batch.rows.append(
        Score(identifier(rng), message.message_id, subject.account_id, subject.tier, classifier, score, moment)
    )


def add_feedback(
    rng: Random, talk: Talk, submitted: datetime, *, withdrawn: datetime | None = None, about_message: bool = True
) -> Feedback:
    """A submission about the conversation, or about one message of it."""
    feedback = Feedback(
        identifier(rng), talk.subject.account_id, talk.conversation_id,
        talk.messages[-1].message_id if about_message else None,
        rng.choice((-1, 1)), rng.choice(COMMENTS), submitted, withdrawn,
    )  # fmt: skip
    talk.batch.rows.append(feedback)
    return feedback
