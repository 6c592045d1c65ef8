"""What is compiled: places in buckets, the rules that S3 may carry out there, and why it may not. Frozen, no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# By this beginning of an ID our rules are told from those of others.
OWN = "lifecycle-backstop-"
# And by this one the rules that runs put there for a day at a time (``expire: native``).
NATIVE = "lifecycle-native-"


@dataclass(frozen=True)
class Ticket:
    """The tag an object must carry to be expired: by which rule somebody judged it to be an ordinary one."""

    key: str
    value: str


@dataclass(frozen=True)
class NativeRule:
    """One rule of ours, in whole days as S3 counts them.

    Without a ticket a rule removes no version: only delete markers with nothing below them, and unfinished uploads.
    """

    id: str
    prefix: str
    ticket: Ticket | None = None
    expire_days: int | None = None
    noncurrent_days: int | None = None
    drop_markers: bool = False
    abort_days: int | None = None

    def as_s3(self) -> dict[str, Any]:
        """The rule as PutBucketLifecycleConfiguration wants it."""
        found: dict[str, Any] = {"ID": self.id, "Status": "Enabled", "Filter": self._filter()}
        if self.expire_days is not None:
            found["Expiration"] = {"Days": self.expire_days}
        elif self.drop_markers:
            found["Expiration"] = {"ExpiredObjectDeleteMarker": True}
        if self.noncurrent_days is not None:
            found["NoncurrentVersionExpiration"] = {"NoncurrentDays": self.noncurrent_days}
        if self.abort_days is not None:
            found["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": self.abort_days}
        return found

    def _filter(self) -> dict[str, Any]:
        if self.ticket is None:
            return {"Prefix": self.prefix}
        return {"And": {"Prefix": self.prefix, "Tags": [{"Key": self.ticket.key, "Value": self.ticket.value}]}}


@dataclass(frozen=True)
class Place:
    """A prefix that belongs to something of ours.

    ``expires``: S3 may remove versions there, those with a ticket. ``because``: why not, where it may not.
    ``keeps``: what lies there is promised to stay for some time, so that nobody else's rule may expire it.
    """

    bucket: str
    prefix: str
    name: str
    rules: tuple[NativeRule, ...] = ()
    because: tuple[str, ...] = ()
    remedy: str | None = None
    keeps: bool = True

    @property
    def expires(self) -> bool:
        return any(rule.expire_days is not None for rule in self.rules)


@dataclass(frozen=True)
class Backstop:
    """Every place, in the order of the dataset file."""

    places: tuple[Place, ...]

    @property
    def buckets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(place.bucket for place in self.places))

    def of(self, bucket: str) -> tuple[Place, ...]:
        return tuple(place for place in self.places if place.bucket == bucket)

    def rules(self, bucket: str) -> tuple[NativeRule, ...]:
        """The rules of one bucket, by ID."""
        return tuple(sorted((rule for place in self.of(bucket) for rule in place.rules), key=lambda rule: rule.id))


def digest(rules: Sequence[dict[str, Any]]) -> str:
    """SHA-256, hex, of rules in their normal form (see `normal`), whatever their order."""
    texts = sorted(json.dumps(rule, sort_keys=True, separators=(",", ":")) for rule in rules)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def shown(place: Place) -> dict[str, Any]:
    """A place as the command line prints it."""
    return {
        "prefix": place.prefix,
        "name": place.name,
        "expires": place.expires,
        "because": list(place.because),
        "remedy": place.remedy,
        "rules": [asdict(rule) for rule in place.rules],
    }
