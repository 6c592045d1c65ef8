"""The worked examples of docs/explain.md. In tests/: `python -m explain.examples` writes the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lifecycle.config import load_configuration
from lifecycle.explain.sentences import Case, tell
from lifecycle.policy.decide import Fact
from lifecycle.policy.models import Category, Trigger
from lifecycle.policy.periods import Period

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "explain.md"
AS_OF = datetime(2026, 11, 3, 6, tzinfo=UTC)
DAY = timedelta(days=1)


def utc(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


@dataclass(frozen=True)
class Example:
    """One record in words, and as facts."""

    title: str
    tier: str
    clock: datetime
    facts: Sequence[Fact] = ()
    category: Category = Category.PROMPTS_AND_OUTPUTS
    location: str = "app"

    def text(self) -> str:
        policy = load_configuration().policy
        return tell(Case(self.category, self.tier, self.clock, self.facts, policy, AS_OF, self.location))


EXAMPLES = (
    Example("An ordinary consumer message", "consumer", utc(2026, 10, 1)),
    Example("The same, of a business account", "business", utc(2026, 10, 8)),
    Example(
        "A flagged message that somebody asked to delete",
        "consumer",
        utc(2026, 3, 1),
        [Fact(Trigger.FLAG, utc(2026, 3, 2)), Fact(Trigger.ERASURE, utc(2026, 11, 2))],
        location="quarantine",
    ),
    Example(
        "A message under legal hold, long past its deadline",
        "business",
        utc(2026, 5, 1),
        [Fact(Trigger.HOLD, utc(2026, 5, 20)), Fact(Trigger.ERASURE, utc(2026, 11, 2))],
    ),
    Example(
        "The same message once the hold is released",
        "business",
        utc(2026, 5, 1),
        [Fact(Trigger.HOLD, utc(2026, 5, 20), utc(2026, 11, 3))],
    ),
    Example(
        "A business account under enforcement, with an agreement",
        "business",
        utc(2026, 10, 1),
        [Fact(Trigger.CASE, utc(2026, 10, 5)), Fact(Trigger.AGREEMENT, utc(2026, 1, 1), None, Period(days=365))],
    ),
    Example(
        "An agreement of zero days",
        "business",
        utc(2026, 11, 2),
        [Fact(Trigger.AGREEMENT, utc(2026, 1, 1), None, Period())],
    ),
    Example(
        "A conversation that was rated",
        "consumer",
        utc(2026, 2, 1),
        [Fact(Trigger.CONSENT, utc(2026, 2, 3))],
    ),
    Example(
        "The same, once the consent is withdrawn",
        "consumer",
        utc(2026, 2, 1),
        [Fact(Trigger.CONSENT, utc(2026, 2, 3), utc(2026, 11, 2))],
    ),
    Example(
        "A message that somebody asked to delete",
        "beta",
        utc(2026, 10, 20),
        [Fact(Trigger.ERASURE, utc(2026, 11, 2))],
    ),
    Example("An evaluation message that falls due", "evaluation", utc(2026, 8, 6)),
    Example("A message of a tier nobody declared", "prototype", utc(2026, 10, 30)),
    Example("A safety score", "consumer", utc(2024, 2, 29), category=Category.SAFETY_SCORES, location="scores"),
    Example("An account", "consumer", utc(2026, 11, 1), category=Category.ACCOUNT_DATA),
)  # fmt: skip

HEAD = f"""# Explanations

`lifecycle explain`, the page "Explain" of the console and this page use the same sentences (`include/lifecycle/explain/sentences.py`), from the same
`decide` that the planner's SQL is compiled from. The examples below are what the code says under the shipped policy, as of {AS_OF:%Y-%m-%d %H:%M} UTC; a test
compares them.

    lifecycle explain message ID
    lifecycle explain account ID
    lifecycle explain object BUCKET/KEY                          # product-data, quarantine, product-logs
    lifecycle explain partition messages/consumer/2026-08-01     # any unit, as plans and the ledger write it
    lifecycle explain partition request_logs.content/2026-08-01  # a stage of log objects: what of the records is emptied
    lifecycle explain partition usage_logs/2026-08-01            # a partition of a table that its clock alone divides
    lifecycle explain record feedback/ID                         # scores, submissions, training examples
    lifecycle explain record logs.content/ID                     # one stage of a row ("content": false once it is gone)

How to read one:
- **Kept until** is the deadline of the rule that decides: for a maximum the last instant, for "both" the first at which it may go.
- **because** is the fact that brought the rule into play, then the rule's id and what it promises.
- **is outranked** names every exception that applies, too, and loses by the policy's precedence.
- **The run of** is the day on which a run takes it if nothing changes: ahead of the deadline by the lead, whose terms are in the policy file.
- **When that ends** is what the next rule in precedence would do at once.
- **no longer counts** is what used to concern it.
- **is not approved** or **waits for approval**, at the end: somebody has to say yes before a run acts on this (docs/operators.md).

What is printed is for whoever asked. It is never logged; on the page the name travels in the body of the request, not in its address.
"""  # noqa: E501


def document() -> str:
    """The whole page."""
    parts = [HEAD]
    for example in EXAMPLES:
        quoted = "\n".join(f"> {line}  " for line in example.text().splitlines())
        parts.append(f"## {example.title}\n\n{quoted}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
