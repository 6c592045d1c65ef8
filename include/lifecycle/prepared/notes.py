"""Where the rest of an object and the note about it lie in staging: both found from the object's key alone. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any


@dataclass(frozen=True)
class Item:
    """One version of an object to look at, and the day it is filed under."""

    key: str
    version_id: str
    etag: str
    day: date

    def to_line(self) -> str:
        return json.dumps([self.key, self.version_id, self.etag, self.day.isoformat()])

    @classmethod
    def of_line(cls, line: str | bytes) -> Item:
        key, version_id, etag, day = json.loads(line)
        return cls(key, version_id, etag, date.fromisoformat(day))


@dataclass(frozen=True)
class Note:
    """What a cluster says it found in a version and made of it. None of it is believed: see `Proof`.

    ``digest``: by which facts and code; ``sha256``: of the rest.
    """

    digest: str
    version_id: str
    etag: str
    before: int
    kept: int
    unclassified: int
    removed: dict[str, int]
    sha256: str

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def of_json(cls, text: str | bytes) -> Note:
        """Raises:
        ValueError: it is no note.
        """
        told: Any = json.loads(text)
        if not isinstance(told, dict) or {name: type(value) for name, value in told.items()} != _TYPES:
            raise ValueError("not a note")
        return cls(**told)


_TYPES = {
    "digest": str,
    "version_id": str,
    "etag": str,
    "before": int,
    "kept": int,
    "unclassified": int,
    "removed": dict,
    "sha256": str,
}


@dataclass(frozen=True)
class Proof:
    """What the plan found in a version, by which a rest of it is judged. ``digest``: by which facts and code it was
    found; ``contents``: of what stays (`lifecycle.stores.s3.contents`)."""

    digest: str
    version_id: str
    etag: str
    before: int
    kept: int
    unclassified: int
    removed: dict[str, int]
    contents: str


def rest_key(prefix: str, key: str) -> str:
    """The rest keeps the object's ending, which tells its form."""
    return f"{prefix}rests/{_name(key)}"


def note_key(prefix: str, key: str) -> str:
    return f"{prefix}notes/{hashlib.sha256(key.encode()).hexdigest()}.json"


def _name(key: str) -> str:
    _, dot, ending = key.rpartition("/")[2].partition(".")
    return f"{hashlib.sha256(key.encode()).hexdigest()}{dot}{ending}"


def run_prefix(prefix: str, run_id: int, dataset: str) -> str:
    return f"{prefix}run-{run_id}/{dataset}/"
