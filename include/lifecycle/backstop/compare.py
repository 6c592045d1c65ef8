"""What a bucket has against what is compiled: our changes, other people's rules, drift. Pure.

Rules are dictionaries as S3 gives them. Those of others are carried over as they are; to compare, servers' spellings of
the same thing are brought into one normal form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from lifecycle.backstop.models import NATIVE, OWN, Backstop, NativeRule, digest

Rules = Sequence[Mapping[str, Any]]
# S3 takes no more in one bucket.
MOST_RULES = 1_000
_REMOVING = ("Expiration", "NoncurrentVersionExpiration")
_MOVING = ("Transitions", "NoncurrentVersionTransitions")


@dataclass(frozen=True)
class Change:
    """What applying would do to one rule of ours: add, change or remove it. Both forms are normal ones."""

    bucket: str
    id: str
    kind: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be: of which bucket and rule, what, and what to do about it."""

    bucket: str
    rule: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Approved:
    """What the ledger says of one bucket: the digest of the rules that somebody approved last; None when withdrawn."""

    rules_sha256: str | None


def is_ours(rule: Mapping[str, Any]) -> bool:
    return str(rule.get("ID", "")).startswith(OWN)


def _of_ours(rule: Mapping[str, Any]) -> bool:
    """Also those for a day at a time, of which backstop/native.py says whether they may stand."""
    return is_ours(rule) or str(rule.get("ID", "")).startswith(NATIVE)


def normal(rule: Mapping[str, Any]) -> dict[str, Any]:
    """One form for what servers spell differently: where the prefix stands, order of tags, zeros and dates."""
    found: dict[str, Any] = {
        name: _plain(value)
        for name, value in rule.items()
        if name not in ("Filter", "Prefix", "Expiration") and value not in (None, {}, [])
    }
    scope = _scope(rule)
    found["Filter"] = {name: value for name, value in scope.items() if value or name == "Prefix"}
    ends = {name: _plain(value) for name, value in (rule.get("Expiration") or {}).items() if value}
    return found | ({"Expiration": ends} if ends else {})


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _scope(rule: Mapping[str, Any]) -> dict[str, Any]:
    """What a rule is about: prefix, tags and sizes."""
    given = rule.get("Filter") or {}
    both = {**given, **(given.get("And") or {})}
    tags = [*both.get("Tags", []), *([both["Tag"]] if both.get("Tag") else [])]
    return {
        "Prefix": both.get("Prefix") or rule.get("Prefix") or "",
        "Tags": sorted([tag["Key"], tag["Value"]] for tag in tags),
        "ObjectSizeGreaterThan": both.get("ObjectSizeGreaterThan"),
        "ObjectSizeLessThan": both.get("ObjectSizeLessThan"),
    }


def merged(current: Rules, wanted: Iterable[NativeRule]) -> list[dict[str, Any]]:
    """The rules of others as they are and in their order, then ours."""
    return [*(dict(rule) for rule in current if not is_ours(rule)), *(rule.as_s3() for rule in wanted)]


def own_digest(rules: Rules) -> str | None:
    """The digest of our rules among these; None where there are none."""
    ours = [normal(rule) for rule in rules if is_ours(rule)]
    return digest(ours) if ours else None


def wanted_digest(wanted: Iterable[NativeRule]) -> str | None:
    return own_digest([rule.as_s3() for rule in wanted])


def changes(bucket: str, current: Rules, wanted: Iterable[NativeRule]) -> list[Change]:
    """What applying would do, by ID. Empty when the bucket has exactly our rules."""
    before = {str(rule["ID"]): normal(rule) for rule in current if is_ours(rule)}
    after = {rule.id: normal(rule.as_s3()) for rule in wanted}
    found = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            kind = "add" if old is None else "remove" if new is None else "change"
            found.append(Change(bucket, name, kind, old, new))
    return found


def foreign(backstop: Backstop, bucket: str, current: Rules) -> Iterator[Finding]:
    """Rules of others that would remove what some rule of the policy keeps."""
    for rule in current:
        if _of_ours(rule) or rule.get("Status") != "Enabled" or not _removes(rule):
            continue
        for place in backstop.of(bucket):
            if place.keeps and _meet(_scope(rule)["Prefix"], place.prefix):
                yield Finding(
                    bucket,
                    str(rule.get("ID", "without an ID")),
                    f"somebody else's rule removes {_when(rule)} what lies in {place.name}, whatever keeps it",
                    "Disable it, or narrow it to a prefix of its own",
                )


def _meet(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _removes(rule: Mapping[str, Any]) -> bool:
    ends = rule.get("Expiration") or {}
    return bool(ends.get("Days") or ends.get("Date") or rule.get("NoncurrentVersionExpiration"))


def _when(rule: Mapping[str, Any]) -> str:
    ends = rule.get("Expiration") or {}
    if ends.get("Days"):
        return f"after {ends['Days']} days"
    if ends.get("Date"):
        return f"from {_plain(ends['Date'])} on"
    return "once it is replaced or deleted"


def notes(backstop: Backstop, bucket: str, current: Rules) -> list[str]:
    """Rules of others that break nothing and are worth knowing."""
    found = []
    for rule in current:
        if _of_ours(rule) or rule.get("Status") != "Enabled":
            continue
        name, near = str(rule.get("ID", "without an ID")), _scope(rule)["Prefix"]
        places = [place for place in backstop.of(bucket) if _meet(near, place.prefix)]
        if places and any(rule.get(action) for action in _MOVING):
            found.append(f"{name} moves objects to another storage class; runs read and copy them from there")
        if any(not place.keeps for place in places) and _removes(rule):
            found.append(f"{name} removes {_when(rule)} what the policy sets no limit for")
    return found


def drift(backstop: Backstop, bucket: str, current: Rules, approved: Approved | None) -> Iterator[Finding]:
    """Whether our rules are those that somebody approved, and those that policy and datasets ask for."""
    there, wanted = own_digest(current), wanted_digest(backstop.rules(bucket))
    said = approved.rules_sha256 if approved is not None else None
    again = "`lifecycle s3 backstop` shows the difference, --apply makes it good, --remove takes our rules away"
    if there != said:
        what = "rules of ours that nobody approved" if said is None else "our rules are not those that were approved"
        yield Finding(bucket, OWN, what, again)
    elif said is not None and said != wanted:
        yield Finding(bucket, OWN, "policy or dataset file ask for other rules than those that were approved", again)


def too_early(rule: Mapping[str, Any], wanted: Iterable[NativeRule]) -> bool:
    """Whether a rule of ours that stands in a bucket removes versions that a configuration does not let go by then."""
    found = normal(rule)
    days = found.get("Expiration", {}).get("Days")
    noncurrent = found.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays")
    if not is_ours(rule) or found.get("Status") != "Enabled" or days is noncurrent is None:
        return False
    same = next((each for each in wanted if each.id == found["ID"]), None)
    if same is None or same.expire_days is None or same.noncurrent_days is None:
        return True
    sooner = (days or 0) < same.expire_days or (noncurrent is not None and noncurrent < same.noncurrent_days)
    return sooner or found["Filter"] != normal(same.as_s3())["Filter"]


def findings(backstop: Backstop, bucket: str, current: Rules, approved: Approved | None) -> list[Finding]:
    """Everything that must not be so in one bucket."""
    return [*drift(backstop, bucket, current, approved), *foreign(backstop, bucket, current)]
