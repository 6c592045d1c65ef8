"""Generated worlds for the tests of the generator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from reference_store.request_logs import LogWriter
from reference_store.rows import Batch
from reference_store.world import Size, World

AS_OF = datetime(2026, 9, 1, 6, 30, tzinfo=UTC)
SEED = 7
TIERS = ("consumer", "beta", "evaluation", "business")
SMALL = Size(accounts=140, days=100, messages=4000, objects=400)


def fingerprint(size: Size, seed: int) -> str:
    """A digest of everything a world writes, in order."""
    digest, logs = hashlib.sha256(), LogWriter()
    for batch in World(size, AS_OF, seed).batches():
        digest.update(repr((batch.rows, batch.objects)).encode())
        for part in logs.add(batch.log_lines):
            digest.update(repr(part).encode())
    for part in logs.rest():
        digest.update(repr(part).encode())
    return digest.hexdigest()


def batches(size: Size = SMALL, seed: int = SEED) -> Iterator[Batch]:
    return World(size, AS_OF, seed).batches()


class Kind(NamedTuple):
    """A rule or exception that every world must have: a query that counts it. Times are parameters of the query."""

    name: str
    query: str


_MESSAGE = "SELECT count(*) FROM app.messages m "
_DEFAULTS = "(m.tier = 'business' AND m.received_at < %(as_of)s - interval '28 days'" \
    " OR m.tier <> 'business' AND m.received_at < %(as_of)s - interval '90 days')"  # fmt: skip
_FLAG = "JOIN app.safety_flags f USING (message_id) "
_FEEDBACK = "JOIN app.feedback f ON f.conversation_id = m.conversation_id "
_HOLD = "SELECT count(*) FROM lifecycle.legal_holds h "
_ERASURE = "SELECT count(*) FROM lifecycle.erasure_requests e "
_AGREEMENT = "SELECT count(*) FROM app.agreements a JOIN app.messages m USING (account_id) WHERE m.tier = 'business' "
_IN_FORCE = "AND a.category = 'prompts_and_outputs' AND a.effective_to IS NULL "
_SCORE = "SELECT count(*) FROM app.safety_scores "
_TRAINING = "SELECT count(*) FROM app.training_examples t "
_ACCOUNT = "SELECT count(*) FROM app.accounts a "
_INACTIVE = "last_interaction_at < %(as_of)s - interval '3 years'"
_OPEN_AND_OLD = "WHERE released_at IS NULL AND " + _DEFAULTS
_CASE = "SELECT count(*) FROM app.enforcement_cases c JOIN app.messages m USING (account_id) WHERE m.tier = 'business' "

KINDS = (
    *(Kind(f"tier {tier}", _MESSAGE + f"WHERE tier = '{tier}'") for tier in TIERS),
    Kind("unknown tier", "SELECT count(*) FROM app.messages_default"),
    Kind("past the default", _MESSAGE + f"WHERE {_DEFAULTS}"),
    Kind("inside the default", _MESSAGE + f"WHERE NOT {_DEFAULTS}"),
    Kind("inline body", _MESSAGE + "WHERE body IS NOT NULL AND object_key IS NULL"),
    Kind("object in landing", _MESSAGE + "WHERE body IS NULL AND object_key LIKE 'landing/%%'"),
    Kind("object of a partition", _MESSAGE + "WHERE body IS NULL AND object_key LIKE 'tier=%%/date=%%'"),
    Kind("prompt", _MESSAGE + "WHERE role = 'prompt'"),
    Kind("output", _MESSAGE + "WHERE role = 'output'"),
    Kind("conversation of several", _MESSAGE + "GROUP BY conversation_id HAVING count(DISTINCT role) = 2 LIMIT 1"),
    Kind("tools", _MESSAGE + "JOIN app.message_tools USING (message_id)"),
    Kind("late arrival, recent", _MESSAGE + "WHERE tableoid = 'app.messages_consumer_default'::regclass"
         " AND received_at > %(as_of)s - interval '2 days'"),
    Kind("late arrival, old", _MESSAGE + "WHERE tableoid = 'app.messages_consumer_default'::regclass"
         " AND received_at < %(as_of)s - interval '100 days'"),
    Kind("late arrival of business", "SELECT count(*) FROM app.messages_business_default"),
    Kind("flagged lately", _MESSAGE + _FLAG + "WHERE cleared_at IS NULL AND tier <> 'business' AND NOT " + _DEFAULTS),
    Kind("flagged, past the default", _MESSAGE + _FLAG + "WHERE cleared_at IS NULL AND tier <> 'business' AND "
         + _DEFAULTS + " AND received_at > %(as_of)s - interval '2 years'"),
    Kind("flagged over two years ago", _MESSAGE + _FLAG + "WHERE cleared_at IS NULL AND tier <> 'business'"
         " AND received_at < %(as_of)s - interval '2 years'"),
    Kind("flag cleared, not due", _MESSAGE + _FLAG + "WHERE cleared_at < %(as_of)s AND NOT " + _DEFAULTS),
    Kind("flag cleared, due", _MESSAGE + _FLAG + "WHERE cleared_at < %(as_of)s AND " + _DEFAULTS),
    Kind("flagged and held", _MESSAGE + _FLAG + "JOIN lifecycle.legal_holds h ON h.target = m.message_id::text"
         " WHERE h.released_at IS NULL AND f.cleared_at IS NULL"),
    Kind("business flagged", _MESSAGE + _FLAG + "WHERE tier = 'business'"),
    Kind("score", _SCORE + "WHERE scored_at > %(as_of)s - interval '7 years'"),
    Kind("score over seven years", _SCORE + "WHERE scored_at < %(as_of)s - interval '7 years'"),
    Kind("feedback keeps a conversation", _MESSAGE + _FEEDBACK + "WHERE withdrawn_at IS NULL AND " + _DEFAULTS),
    Kind("feedback withdrawn", _MESSAGE + _FEEDBACK + "WHERE withdrawn_at < %(as_of)s AND " + _DEFAULTS),
    Kind("feedback over ten years", _MESSAGE + _FEEDBACK + "WHERE submitted_at < %(as_of)s - interval '10 years'"),
    Kind("feedback on a message", "SELECT count(*) FROM app.feedback WHERE message_id IS NOT NULL"),
    Kind("feedback on a conversation", "SELECT count(*) FROM app.feedback WHERE message_id IS NULL"),
    *(Kind(f"agreement of {days} days", _AGREEMENT + _IN_FORCE + f"AND retain = interval '{days} days'"
           f" AND m.received_at < %(as_of)s - interval '29 days'") for days in (0, 7, 365)),
    Kind("agreement beyond its year", _AGREEMENT + _IN_FORCE + "AND retain = interval '365 days'"
         " AND m.received_at < %(as_of)s - interval '365 days'"),
    Kind("agreement expired", _AGREEMENT + "AND a.effective_to < %(as_of)s"),
    Kind("agreement of another category", _AGREEMENT + "AND a.category <> 'prompts_and_outputs'"),
    Kind("case open", _CASE + "AND c.closed_at IS NULL AND " + _DEFAULTS),
    Kind("case closed", _CASE + "AND c.closed_at < %(as_of)s AND " + _DEFAULTS),
    *(Kind(f"hold on {scope}, {state}", _HOLD + f"WHERE scope = '{scope}' AND {condition}")
      for scope in ("account", "conversation", "message", "dataset")
      for state, condition in (("open", "released_at IS NULL"), ("released", "released_at < %(as_of)s"))),
    Kind("held account", _HOLD + "JOIN app.messages m ON m.account_id::text = h.target " + _OPEN_AND_OLD),
    Kind("held conversation", _HOLD + "JOIN app.messages m ON m.conversation_id::text = h.target " + _OPEN_AND_OLD),
    Kind("held message", _HOLD + "JOIN app.messages m ON m.message_id::text = h.target " + _OPEN_AND_OLD),
    *(Kind(f"erasure of {scope}", _ERASURE + f"JOIN app.messages m ON m.{scope}_id::text = e.target"
           f" WHERE scope = '{scope}' AND completed_at IS NULL") for scope in ("account", "conversation", "message")),
    Kind("erasure, but flagged", _ERASURE + "JOIN app.messages m ON m.account_id::text = e.target " + _FLAG
         + "WHERE f.cleared_at IS NULL AND tier <> 'business' AND completed_at IS NULL"),
    Kind("erasure, but held", _ERASURE + "JOIN app.messages m ON m.account_id::text = e.target"
         " JOIN lifecycle.legal_holds h ON h.target = m.conversation_id::text WHERE h.released_at IS NULL"),
    Kind("erasure, though consented", _ERASURE + "JOIN app.feedback f ON f.conversation_id::text = e.target"
         " WHERE f.withdrawn_at IS NULL"),
    Kind("erasure, but under a case", _ERASURE + "JOIN app.enforcement_cases c ON c.account_id::text = e.target"
         " WHERE c.closed_at IS NULL"),
    Kind("erasure done before", _ERASURE + "JOIN app.messages m ON m.account_id::text = e.target"
         " WHERE m.received_at <= e.completed_at AND outcome = 'done'"),
    Kind("received after an erasure", _ERASURE + "JOIN app.messages m ON m.account_id::text = e.target"
         " WHERE m.received_at > e.completed_at"),
    Kind("training by permission", _TRAINING + "WHERE basis = 'permission'"),
    Kind("training for safety", _TRAINING + _FLAG + "WHERE basis = 'safety_review' AND f.cleared_at IS NULL"),
    Kind("training without a flag", _TRAINING + "WHERE basis = 'safety_review'"
         " AND NOT EXISTS (SELECT FROM app.safety_flags f WHERE f.message_id = t.message_id)"),
    Kind("training after clearing", _TRAINING + _FLAG + "WHERE basis = 'safety_review' AND f.cleared_at < %(as_of)s"),
    Kind("inactive, nothing refers", _ACCOUNT + "WHERE " + _INACTIVE
         + " AND NOT EXISTS (SELECT FROM app.messages m WHERE m.account_id = a.account_id)"
         " AND NOT EXISTS (SELECT FROM app.safety_scores s WHERE s.account_id = a.account_id)"
         " AND NOT EXISTS (SELECT FROM app.feedback f WHERE f.account_id = a.account_id)"
         " AND NOT EXISTS (SELECT FROM lifecycle.legal_holds h WHERE h.target = a.account_id::text)"),
    Kind("inactive, scores refer", _ACCOUNT + "JOIN app.safety_scores s USING (account_id) WHERE " + _INACTIVE
         + " AND s.scored_at > %(as_of)s - interval '7 years'"),
    Kind("inactive, held", _ACCOUNT + "JOIN lifecycle.legal_holds h ON h.target = a.account_id::text WHERE "
         + _INACTIVE),
    Kind("account not known", _MESSAGE + "WHERE account_id NOT IN (SELECT account_id FROM app.accounts)"),
)  # fmt: skip
