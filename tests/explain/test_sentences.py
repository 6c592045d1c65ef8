"""The sentences: readable by a lawyer, true to `decide`, the same in docs/explain.md."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest

from explain.examples import AS_OF, DOCUMENT, EXAMPLES, Example, document, utc
from lifecycle.config import load_configuration
from lifecycle.explain.lead import in_words, left, promise
from lifecycle.explain.sentences import Case, taken_after, tell
from lifecycle.policy.decide import Fact, decide
from lifecycle.policy.models import Category, Trigger
from lifecycle.policy.periods import Period

DAY = timedelta(days=1)
PROMPTS = Category.PROMPTS_AND_OUTPUTS


def example(title: str) -> str:
    return next(found for found in EXAMPLES if found.title == title).text()


def test_the_document_says_what_the_code_says() -> None:
    """After a change of words: cd tests && ../.venv/bin/python -m explain.examples"""
    assert DOCUMENT.read_text(encoding="utf-8") == document()


def test_the_sentence_that_was_asked_for() -> None:
    assert example("A flagged message that somebody asked to delete").splitlines()[0] == (
        "Kept until 2028-03-01 because a safety classifier flagged it (rule safety_flagged, 'maximum of 2 years');"
        " an erasure request of 2026-11-02 is outranked."
    )


def test_what_a_released_hold_made_late_is_said(  # case 5
) -> None:
    text = example("The same message once the hold is released")
    assert text.startswith("Overdue since 2026-05-29, to be deleted by the next run,")
    assert (
        "was released on 2026-11-03 and no longer counts; it ended after the deadline, and is why this is late." in text
    )


def test_terms_shorter_than_the_lead_are_not_called_overdue_before_a_run_could_act() -> None:
    assert example("An agreement of zero days").startswith("To be deleted by the next run because")


@pytest.mark.parametrize("shown", EXAMPLES, ids=lambda shown: shown.title)
def test_every_text_names_the_deciding_rule_and_quotes_the_policy(shown: Example) -> None:
    policy = load_configuration().policy
    decision = decide(shown.category, shown.tier, shown.clock, shown.facts, policy, AS_OF)
    text = shown.text()
    assert f"(rule {decision.rule}," in text.splitlines()[0]
    assert "The policy says: '" in text
    assert not re.search(r"\bNone\b|P\d|T\d\d:", text), "no notation of machines"


CLOCKS = [utc(2026, 10, 20), utc(2026, 10, 20) + timedelta(hours=13), utc(2026, 10, 31) - timedelta(microseconds=1)]


@pytest.mark.parametrize("clock", CLOCKS, ids=str)
@pytest.mark.parametrize(
    ("tier", "facts"),
    [
        ("consumer", []),
        ("business", []),
        ("evaluation", []),
        ("prototype", []),
        ("beta", [Fact(Trigger.FLAG, AS_OF - DAY)]),
        ("business", [Fact(Trigger.AGREEMENT, AS_OF - 90 * DAY, None, Period(months=13))]),
    ],
    ids=["consumer", "business", "evaluation", "unknown", "flagged", "agreed"],
)
def test_the_run_that_is_named_is_the_first_that_takes_it(tier: str, facts: list[Fact], clock: datetime) -> None:
    """The day in the text is the one on which the record is due, and not a day before (case 1)."""
    policy = load_configuration().policy
    case = Case(PROMPTS, tier, clock, facts, policy, AS_OF)
    named = re.search(r"The run of (\d{4})-(\d{2})-(\d{2})", tell(case))
    assert named is not None
    run = utc(*(int(part) for part in named.groups()))
    assert decide(PROMPTS, tier, clock, facts, policy, run).due
    assert not decide(PROMPTS, tier, clock, facts, policy, run - DAY).due
    instant = taken_after(case, case.decision)
    assert instant is not None and run - DAY <= instant < run
    deadline = case.decision.deadline
    assert deadline is not None and run < deadline


@pytest.mark.parametrize(
    ("period", "words"),
    [
        (Period(months=24), "2 years"),
        (Period(months=13, days=1), "1 year 1 month 1 day"),
        (Period(seconds=36 * 3600 + 60), "36 hours 1 minute"),
        (Period(), "0 days"),
    ],
    ids=str,
)
def test_periods_in_words(period: Period, words: str) -> None:
    assert in_words(period) == words


def test_promises_in_words() -> None:
    policy = load_configuration().policy
    said = {rule.id: promise(rule) for rule in policy.rules}
    assert said["business_default"] == "maximum of 28 days"
    assert said["feedback"] == "for 10 years, and promptly after"
    assert said["legal_obligation"] == "as long as it lasts"
    assert said["business_agreement"] == "as agreed"


def test_time_left_in_words() -> None:
    spans = [timedelta(days=2, hours=5), timedelta(hours=3, minutes=7), timedelta(minutes=4), -timedelta(hours=5), None]
    assert [left(span) for span in spans] == ["2 d 5 h", "3 h 7 min", "4 min", "5 h 0 min ago", "–"]
