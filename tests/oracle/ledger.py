"""Promise 5: what the ledger says was done, against what really happened to the stores."""

from __future__ import annotations

from collections import Counter
from typing import Any

from psycopg import Connection

from .compare import place_of
from .endstate import Expected
from .observe import Observed
from .oracle import Place

# (dataset, disposition, rule); the rule is empty where RULES.md leaves open which one is named.
Deed = tuple[str, str, str]


def recorded(conn: Connection[Any], after_seq: int = -1) -> Counter[Deed]:
    """Records per deed in the ledger's outcomes."""
    deeds: Counter[Deed] = Counter()
    with conn.transaction():
        rows = conn.execute(
            """SELECT dataset, disposition, rule, coalesce((counts ->> 'records')::int, 0) FROM lifecycle.ledger
               WHERE entry = 'outcome' AND seq > %s""",
            (after_seq,),
        ).fetchall()
    for dataset, disposition, rule, records in rows:
        if disposition != "move" and dataset in ("messages", "feedback", "safety_scores", "request_logs"):
            deeds[_deed(dataset, disposition, rule)] += records
    return +deeds


def last_seq(conn: Connection[Any]) -> int:
    with conn.transaction():
        row = conn.execute("SELECT coalesce(max(seq), -1) FROM lifecycle.ledger").fetchone()
    assert row is not None
    return int(row[0])


def _deed(dataset: str, disposition: str, rule: str) -> Deed:
    decisive = dataset == "messages" and disposition == "delete"
    return dataset, disposition, rule if decisive else ""


def happened(expected: Expected, observed: Observed) -> Counter[Deed]:
    """What became of the records between the world before and the stores as they were found."""
    deeds: Counter[Deed] = Counter()
    in_app = {m.message_id for m in expected.before.messages}
    for message_id, verdict in expected.verdicts.items():
        seen = place_of(message_id, observed)
        was = Place.APP if message_id in in_app else Place.QUARANTINE
        if seen is Place.GONE:
            fate = "deidentify" if verdict.places == {Place.DEIDENTIFIED} else "delete"
            deeds[_deed("messages", fate, verdict.rule)] += 1
        elif seen is not was:
            deeds["messages", "quarantine" if seen is Place.QUARANTINE else "restore", ""] += 1
    before = expected.before
    deeds["feedback", "delete", ""] = len(before.feedback) - len(observed.feedback)
    deeds["safety_scores", "delete", ""] = len(before.scores) - len(observed.scores)
    deeds["request_logs", "delete", ""] = len(before.logs) - observed.logs.total()
    return +deeds


def mismatch(expected: Expected, observed: Observed, conn: Connection[Any], after_seq: int = -1) -> list[str]:
    """Each deed whose record and reality differ, with both counts."""
    return disagreement(recorded(conn, after_seq), happened(expected, observed))


def disagreement(said: Counter[Deed], real: Counter[Deed]) -> list[str]:
    """Each deed of which more or fewer were recorded than really happened."""
    return [
        f"{'/'.join(filter(None, deed))}: ledger says {said[deed]}, really {real[deed]}"
        for deed in sorted(said.keys() | real.keys())
        if said[deed] != real[deed]
    ]
