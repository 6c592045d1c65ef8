"""What a plan found in objects that a cluster prepares, and what became of the rests: rows of lifecycle.log_rests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from lifecycle.prepared.notes import Proof
from lifecycle.stores.postgres.connect import Connection

if TYPE_CHECKING:
    from lifecycle.stores.s3.entries import ObjectVersion
    from lifecycle.stores.s3.records import Tally

TAKEN_OVER = "taken over"


@dataclass(frozen=True)
class LogRests:
    """The rows of one run and bucket."""

    conn: Connection
    run_id: int
    bucket: str

    def begin(self, dataset: str) -> None:
        """Forget what other runs noted of a dataset, and what this one did before it was interrupted."""
        self.conn.execute("DELETE FROM lifecycle.log_rests WHERE dataset = %s", (dataset,))

    def note(self, dataset: str, digest: str, version: ObjectVersion, tally: Tally, contents: str) -> None:
        self.conn.execute(
            "INSERT INTO lifecycle.log_rests (run_id, bucket, key_sha256, dataset, digest, version_id, etag, before,"
            " kept, unclassified, removed, contents) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                *self._place(version.key),
                dataset,
                digest,
                version.version_id,
                version.etag,
                tally.before,
                tally.kept,
                tally.unclassified,
                Jsonb(dict(tally.removed)),
                contents,
            ),
        )

    def proof(self, key: str) -> Proof | None:
        """None where the plan found nothing due in the object, could not tell, or its rest was looked at already."""
        with self.conn.cursor(row_factory=class_row(Proof)) as cursor:
            return cursor.execute(
                "SELECT digest, version_id, etag, before, kept, unclassified, removed, contents"
                " FROM lifecycle.log_rests WHERE run_id = %s AND bucket = %s AND key_sha256 = %s"
                " AND contents IS NOT NULL",
                self._place(key),
            ).fetchone()

    def noted(self, versions: Iterable[ObjectVersion]) -> list[ObjectVersion]:
        """Those of which the plan noted what stays, in their order."""
        told = {(_hash(version.key), version.version_id, version.etag): version for version in versions}
        found = self.conn.execute(
            "SELECT n.key_sha256, n.version_id, n.etag FROM lifecycle.log_rests n"
            " WHERE n.run_id = %s AND n.bucket = %s AND n.key_sha256 = ANY(%s) AND n.contents IS NOT NULL",
            (self.run_id, self.bucket, [name for name, _, _ in told]),
        ).fetchall()
        there = set(found)
        return [version for place, version in told.items() if place in there]

    def close(self, key: str, outcome: str) -> None:
        """Say what became of a rest, in the transaction that used it or did not."""
        self.conn.execute(
            "UPDATE lifecycle.log_rests SET outcome = %s, contents = NULL"
            " WHERE run_id = %s AND bucket = %s AND key_sha256 = %s",
            (outcome, *self._place(key)),
        )

    def _place(self, key: str) -> tuple[int, str, str]:
        return self.run_id, self.bucket, _hash(key)


def outcomes(conn: Connection, run_id: int) -> dict[str, int]:
    """How many rests of a run were taken over, and how many refused, by why."""
    found = conn.execute(
        "SELECT outcome, count(*) FROM lifecycle.log_rests WHERE run_id = %s AND outcome IS NOT NULL"
        " GROUP BY 1 ORDER BY 1",
        (run_id,),
    ).fetchall()
    return dict(found)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
