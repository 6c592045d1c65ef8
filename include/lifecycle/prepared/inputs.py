"""What a machine elsewhere needs to judge log lines as this one would: policy, instant and exceptions, frozen. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from lifecycle.errors import PreconditionError
from lifecycle.planning import cutoffs, log_decision
from lifecycle.planning.log_decision import Decide, LogFacts
from lifecycle.policy import decide, periods
from lifecycle.policy.decide import Fact
from lifecycle.policy.models import Category, Policy, Trigger
from lifecycle.policy.periods import Period
from lifecycle.stores.s3 import jsonl, judging, parquet, records
from lifecycle.stores.s3.records import LogFields

_DEFINITION = (decide, periods, cutoffs, log_decision, records, judging, jsonl, parquet)


@cache
def definition() -> str:
    """A checksum of the code that judges: a rest that other code made is not taken over."""
    digest = hashlib.sha256()
    for module in _DEFINITION:
        digest.update(Path(module.__file__ or "").read_bytes())
    return digest.hexdigest()


def digest_of(policy_hash: str, as_of: datetime, facts: LogFacts) -> str:
    """The same exactly where every line is judged the same: policy, instant, exceptions and code."""
    told = [definition(), policy_hash, as_of.isoformat(), _facts_out(facts)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Inputs:
    """Everything a worker is told beside its objects. ``policy`` is the policy file's content."""

    policy: Mapping[str, Any]
    policy_hash: str
    category: str
    as_of: datetime
    facts: LogFacts
    fields: LogFields
    bucket: str
    staging: str
    prefix: str

    def judge(self, day: date) -> Decide:
        policy = Policy.model_validate(dict(self.policy))
        return log_decision.log_decision(policy, Category(self.category), self.as_of, self.facts, day)

    @property
    def digest(self) -> str:
        return digest_of(self.policy_hash, self.as_of, self.facts)

    def to_json(self) -> str:
        """With the digest, so that who reads it knows whether its code judges alike."""
        told = {
            "policy": dict(self.policy),
            "policy_hash": self.policy_hash,
            "category": self.category,
            "as_of": self.as_of.isoformat(),
            "facts": _facts_out(self.facts),
            "fields": asdict(self.fields),
            "bucket": self.bucket,
            "staging": self.staging,
            "prefix": self.prefix,
            "digest": self.digest,
        }
        return json.dumps(told, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Inputs:
        """Raises:
        PreconditionError: other code wrote it.
        """
        told = json.loads(text)
        digest = told.pop("digest")
        told["as_of"] = datetime.fromisoformat(told["as_of"])
        told["facts"] = _facts_in(told["facts"])
        told["fields"] = LogFields(**told["fields"] | {"clear": tuple(told["fields"]["clear"])})
        made = cls(**told)
        if made.digest != digest:
            raise PreconditionError(
                "the inputs were written by another version of lifecycle; install the same one on the cluster"
            )
        return made


def _facts_out(facts: LogFacts) -> dict[str, Any]:
    return {
        "by_subject": {name: sorted(map(_fact_out, some)) for name, some in facts.by_subject.items()},
        "by_record": {name: sorted(map(_fact_out, some)) for name, some in facts.by_record.items()},
        "everywhere": sorted(map(_fact_out, facts.everywhere)),
        "exactly": {name: sorted(map(_fact_out, some)) for name, some in facts.exactly.items()},
    }


def _fact_out(fact: Fact) -> list[Any]:
    """As lists of text and numbers that can be sorted: in which order exceptions are read decides nothing."""
    ended = fact.ended.isoformat() if fact.ended else ""
    retain = [fact.retain.months, fact.retain.days, fact.retain.seconds] if fact.retain is not None else []
    return [fact.trigger.value, fact.began.isoformat(), ended, retain]


def _facts_in(told: Mapping[str, Any]) -> LogFacts:
    def each(some: list[list[Any]]) -> tuple[Fact, ...]:
        return tuple(_fact_in(*fact) for fact in some)

    return LogFacts(
        {name: each(some) for name, some in told["by_subject"].items()},
        {name: each(some) for name, some in told["by_record"].items()},
        each(told["everywhere"]),
        {name: each(some) for name, some in told["exactly"].items()},
    )


def _fact_in(trigger: str, began: str, ended: str, retain: list[int]) -> Fact:
    return Fact(
        Trigger(trigger),
        datetime.fromisoformat(began),
        datetime.fromisoformat(ended) if ended else None,
        Period(*retain) if retain else None,
    )
