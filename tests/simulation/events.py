"""What befalls a product's data. Each event looks at the world as it is, and says what changes.

Instants lie where they hurt: at the run's instant, a microsecond to either side, a little in the future (a clock that
is ahead), and long ago (entered late).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from oracle.dates import TICK, months_before
from oracle.facts import (
    TIERS,
    Account,
    Agreement,
    Case,
    Erasure,
    Feedback,
    Flag,
    Hold,
    LogRecord,
    Message,
    Retain,
    Score,
    StoredObject,
    Training,
    World,
    ident,
)
from oracle.load import app_content

from .change import Change
from .dice import Dice
from .regime import Regime

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
UNKNOWN_TIER = "prototype"
# No two of them are of a length that depends on the calendar month, so that "the shortest" is one.
RETAINS = (Retain(), Retain(days=1), Retain(days=7), Retain(days=60), Retain(days=365), Retain(months=1))
DATASETS = ("feedback", "app.safety_scores", "accounts", "request_logs", "training_examples", "app.messages")


@dataclass
class Scene:
    """What an event works with. ``serial`` numbers what it makes, so that a seed gives the same names."""

    world: World
    now: datetime
    regime: Regime
    dice: Dice
    name: str
    serial: int = 0

    def ident(self, kind: str) -> UUID:
        self.serial += 1
        return ident(self.name, kind, self.serial)

    def lately(self) -> datetime:
        """Some time in the last day; at times at the very instant of the run, or ahead of it."""
        edges = (timedelta(0), TICK, -TICK, timedelta(seconds=-20), DAY, DAY + TICK, DAY - TICK)
        if self.dice.chance(0.3):
            return self.now - self.dice.pick(edges)
        return self.now - timedelta(minutes=self.dice.between(1, 1439))

    def ending(self) -> datetime:
        """When something ended: just now, within a microsecond of the run, or announced for later."""
        return self.now - self.dice.pick((HOUR, HOUR, HOUR, TICK, timedelta(0), -TICK, -2 * DAY))

    @property
    def everyone(self) -> tuple[Message, ...]:
        return self.world.messages + self.world.quarantined


Event = Callable[[Scene], Change]


# Traffic -----------------------------------------------------------------------------------------------------------


def receive(scene: Scene, received: datetime | None = None) -> Change:
    """A conversation of one to three messages, with what is kept about them elsewhere."""
    dice = scene.dice
    account, change = _sender(scene)
    conversation = scene.ident("conversation")
    late = received or (scene.now - DAY * dice.between(1, 130) if dice.chance(0.04) else scene.lately())
    for n in range(dice.pick((1, 1, 2, 3))):
        message = _message(scene, account, conversation, late - timedelta(minutes=n))
        change += Change(World(messages=(message,))) + _about(scene, message)
    return change


def _sender(scene: Scene) -> tuple[Account, Change]:
    """Somebody who is active, or somebody new; the account notes the interaction."""
    active = [a for a in scene.world.accounts if a.email is not None and scene.now - a.last_interaction_at < 200 * DAY]
    if active and not scene.dice.chance(0.06):
        account = replace(scene.dice.pick(active[-12:]), last_interaction_at=scene.now - HOUR)
        return account, Change(revised=(("accounts", account),))
    tier = UNKNOWN_TIER if scene.dice.chance(0.05) else scene.dice.pick((*TIERS, "consumer", "business"))
    key = scene.ident("account")
    account = Account(key, tier, f"{key}@example.org", "A. Person", scene.now - 2 * HOUR, scene.now - HOUR)
    return account, Change(World(accounts=(account,)))


def _message(scene: Scene, account: Account, conversation: UUID, received: datetime) -> Message:
    dice = scene.dice
    message = Message(
        message_id=scene.ident("message"),
        conversation_id=conversation,
        account_id=account.account_id,
        tier=account.tier,
        role=dice.pick(("prompt", "output")),
        received_at=received,
        model=dice.pick(("m-1", "m-2", None)),
        body="text" * dice.between(0, 4),
        tools=dice.pick(((), (), (), ("search",), ("browse", "search"))),
    )
    if dice.chance(0.6):
        return message
    key = dice.pick((message.landing_key, message.landing_key, message.partitioned_key))
    content = app_content(message, "object" * dice.between(0, 4))
    versions = (app_content(message, "earlier"), content) if dice.chance(0.2) else (content,)
    return replace(message, body=None, stored=StoredObject(key, versions))


def _about(scene: Scene, m: Message) -> Change:
    """Scores, training examples and log lines that come with a message."""
    dice, made = scene.dice, World()
    if dice.chance(0.12):
        scored = dice.pick((scene.now - HOUR, scene.now - HOUR, _edge(scene, scene.regime.terms.score_months)))
        made += World(scores=(Score(scene.ident("score"), m.message_id, m.account_id, m.tier, scored),))
    if dice.chance(0.1):
        basis = dice.pick(("permission", "permission", "safety_review"))
        example = Training(scene.ident("training"), m.message_id, m.account_id, basis, min(m.received_at, scene.now))
        made += World(training=(example,))
    if dice.chance(0.2):
        ending = dice.pick(("jsonl.gz", "parquet"))
        part = f"requests/date={m.received_at.date().isoformat()}/part-{scene.ident('part')}.{ending}"
        made += World(logs=(LogRecord(part, m.message_id, m.account_id, m.tier, m.received_at),))
    return Change(made)


def _edge(scene: Scene, months: int) -> datetime:
    """A start, entered late, whose period of so many months is over today or in the next days."""
    over = scene.now + DAY * scene.dice.between(0, 5)
    return months_before(over, months) + scene.dice.pick((-TICK, timedelta(0), TICK))


def unearth(scene: Scene) -> Change:
    """Data that was entered late, of just the age at which an exception stops to keep it, or a request to reach it."""
    dice, terms = scene.dice, scene.regime.terms
    settled = [e for e in scene.world.erasures if e.completed_at is not None and e.scope == "account"]
    what = dice.pick(("flag", "consent", "erasure"))
    if what == "erasure" and settled:
        request = dice.pick(settled[-10:])
        account = next((a for a in scene.world.accounts if str(a.account_id) == request.target), None)
        if account is None or request.completed_at is None:
            return Change()
        received = request.completed_at + dice.pick((-TICK, timedelta(0), timedelta(0), TICK))
        return Change(World(messages=(_message(scene, account, scene.ident("conversation"), received),)))
    account, change = _sender(scene)
    over = scene.now + terms.lead + DAY * dice.between(0, 3)
    received = months_before(over, terms.flag_months) + dice.pick((-TICK, timedelta(0), timedelta(0), TICK))
    message = _message(scene, account, scene.ident("conversation"), received)
    if what == "flag":
        change += Change(World(flags=(Flag(message.message_id, account.account_id, scene.lately()),)))
    else:
        at = _edge(scene, terms.consent_months)
        given = Feedback(scene.ident("feedback"), account.account_id, message.conversation_id, None, at)
        change += Change(World(feedback=(given,)))
    return change + Change(World(messages=(message,)))


# Exceptions --------------------------------------------------------------------------------------------------------


def flag(scene: Scene) -> Change:
    """A classifier flags a message, wherever it is; or flags one again whose flag was cleared."""
    known = {f.message_id: f for f in scene.world.flags}
    candidates = scene.everyone if scene.dice.chance(0.3) else scene.everyone[-20:]
    if not candidates:
        return Change()
    m = scene.dice.pick(candidates)
    old = known.get(m.message_id)
    if old is None:
        return Change(World(flags=(Flag(m.message_id, m.account_id, scene.lately()),)))
    return Change(revised=(("flags", replace(old, cleared_at=None)),))


def _end(scene: Scene, kind: str, column: str) -> Change:
    """End one open exception of a kind."""
    running: Sequence[Any] = [fact for fact in getattr(scene.world, kind) if getattr(fact, column) is None]
    if not running:
        return Change()
    return Change(revised=((kind, replace(scene.dice.pick(running), **{column: scene.ending()})),))


def clear(scene: Scene) -> Change:
    return _end(scene, "flags", "cleared_at")


def withdraw(scene: Scene) -> Change:
    return _end(scene, "feedback", "withdrawn_at")


def release(scene: Scene) -> Change:
    return _end(scene, "holds", "released_at")


def close(scene: Scene) -> Change:
    return _end(scene, "cases", "closed_at")


def terminate(scene: Scene) -> Change:
    return _end(scene, "agreements", "effective_to")


def rate(scene: Scene) -> Change:
    """Somebody submits feedback on a conversation; now and then it is entered years late."""
    if not scene.everyone:
        return Change()
    about = scene.dice.pick(scene.everyone)
    at = scene.lately()
    if scene.dice.chance(0.25):
        at = _edge(scene, scene.regime.terms.consent_months)
    message = scene.dice.pick((None, about.message_id))
    given = Feedback(scene.ident("feedback"), about.account_id, about.conversation_id, message, at)
    return Change(World(feedback=(given,)))


def hold(scene: Scene) -> Change:
    """Counsel places a hold, dated before, at or after the instant at which it is written."""
    at = scene.now + scene.dice.pick((-300 * DAY, -HOUR, -HOUR, TICK, 2 * DAY))
    if scene.dice.chance(0.06) or not scene.everyone:
        scope, target = "dataset", scene.dice.pick(DATASETS)
    else:
        scope, target = _target(scene)
    return Change(World(holds=(Hold(scene.ident("hold"), scope, target, at),)))


def _target(scene: Scene) -> tuple[str, str]:
    m = scene.dice.pick(scene.everyone)
    scope, key = scene.dice.pick(
        (("account", m.account_id), ("conversation", m.conversation_id), ("message", m.message_id))
    )
    return scope, str(key)


def accuse(scene: Scene) -> Change:
    """A usage-policy case is opened against a business account."""
    accounts = [a for a in scene.world.accounts if a.tier == "business"]
    if not accounts:
        return Change()
    account = scene.dice.pick(accounts[-8:])
    return Change(World(cases=(Case(scene.ident("case"), account.account_id, scene.lately()),)))


def agree(scene: Scene) -> Change:
    """A business account gets other terms: at once, in a few days, or as if they had always been."""
    accounts = [a for a in scene.world.accounts if a.tier == "business"]
    if not accounts or scene.dice.chance(0.1):
        accounts = list(scene.world.accounts)
    if not accounts:
        return Change()
    account = scene.dice.pick(accounts[-5:])
    starts = scene.now + scene.dice.pick((-HOUR, -300 * DAY, timedelta(0), TICK, 3 * DAY))
    category = "feedback" if scene.dice.chance(0.1) else "prompts_and_outputs"
    terms = Agreement(scene.ident("agreement"), account.account_id, scene.dice.pick(RETAINS), starts, category=category)
    return Change(World(agreements=(terms,)))


def erase(scene: Scene) -> Change:
    """Somebody asks for an account, a conversation or a message to be erased."""
    if not scene.everyone:
        return Change()
    scope, target = _target(scene)
    at = scene.now + scene.dice.pick((-HOUR, -HOUR, timedelta(0), TICK, DAY))
    return Change(World(erasures=(Erasure(scene.ident("erasure"), scope, target, at),)))
