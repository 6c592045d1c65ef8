"""What a listing of versions consists of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version or delete marker; "null" is the id of one written without versioning. Size in bytes."""

    key: str
    version_id: str
    is_marker: bool
    is_latest: bool
    size: int
    etag: str
    last_modified: datetime
