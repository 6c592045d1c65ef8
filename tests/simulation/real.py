"""The product itself behind the simulation's interface: real planner, real SQL, real disposal, on small real servers.

Runs go through lifecycle.orchestration step by step, as the command line and the DAGs take them. A run that is dropped
between two steps loses the connection that is its life, as a killed process does. Great Expectations judges runs on
sampled days only, for it costs more than the run of a small store; the oracle judges every one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from psycopg import Connection, sql

from lifecycle.config import POLICY_VARIABLE, load_configuration
from lifecycle.dispositions.context import SCOPES
from lifecycle.errors import ValidationFailedError
from lifecycle.ledger import approvals
from lifecycle.orchestration import steps
from lifecycle.orchestration.approval import key_of
from lifecycle.orchestration.decisions import answer_policy, propose
from lifecycle.orchestration.explain import explain_message
from lifecycle.orchestration.standing import QUARANTINE, standings
from lifecycle.planning.risk import alarming
from lifecycle.policy.decide import UNCLASSIFIED
from lifecycle.stores.postgres.connect import connect
from oracle.ledger import Deed, last_seq, recorded
from oracle.load import put_logs, put_objects, write_rows
from oracle.observe import Observed, observe
from oracle.stores import Servers
from support.buckets import fresh_buckets
from support.servers import scratch, session_postgres
from support.store import Store

from .change import KEYS, Change
from .memory import STRIKING
from .regime import Regime

# kind -> table, and the column that a revision changes
REVISED = {
    "flags": ("app.safety_flags", "cleared_at"),
    "feedback": ("app.feedback", "withdrawn_at"),
    "cases": ("app.enforcement_cases", "closed_at"),
    "holds": ("lifecycle.legal_holds", "released_at"),
    "agreements": ("app.agreements", "effective_to"),
    "accounts": ("app.accounts", "last_interaction_at"),
}


class RealBackend:
    """A store on real servers. ``validate_every`` says on which runs, counted, the validations are taken too."""

    def __init__(self, store: Store, conn: Connection[Any], folder: Path, validate_every: int = 0) -> None:
        self._store, self._conn, self._folder = store, conn, folder
        self._validate_every, self._runs = validate_every, 0

    def apply(self, change: Change) -> None:
        with self._conn.transaction():
            write_rows(self._conn, change.added)
            for kind, fact in change.revised:
                table, column = REVISED[kind]
                self._conn.execute(
                    sql.SQL("UPDATE {} SET {} = %s WHERE {} = %s").format(
                        sql.Identifier(*table.split(".")), sql.Identifier(column), sql.Identifier(KEYS[kind])
                    ),
                    (getattr(fact, column), getattr(fact, KEYS[kind])),
                )
        put_objects(self._store.s3, change.added.messages)
        put_logs(self._store.s3, change.added.logs)

    def run(self, as_of: datetime, regime: Regime) -> Iterator[str]:
        self.adopt(regime, as_of)
        self._runs += 1
        with connect() as owner:
            for scope in SCOPES:
                run_id = steps.begin(scope, as_of, owner=owner)
                for name, step in (
                    ("partition", steps.partition),
                    ("plan", steps.plan),
                    ("quarantine", steps.quarantine),
                ):
                    step(run_id)
                    yield f"{scope}/{name}"
                for unit in steps.units(run_id):
                    steps.expire(run_id, unit)
                    yield f"{scope}/{unit}"
                steps.settle(run_id)
                yield f"{scope}/settle"
                if self._validate_every and self._runs % self._validate_every == 0:
                    self._validate(run_id)
                steps.certify(run_id)
                yield f"{scope}/certify"

    @staticmethod
    def _validate(run_id: int) -> None:
        """The product's own judgement must not find fault with what the oracle finds right."""
        try:
            steps.validate(run_id)
        except ValidationFailedError as error:
            raise AssertionError(f"the product's validations fail: {error.failures}") from error

    def adopt(self, regime: Regime, at: datetime) -> None:
        """Put the policy of the day where the product reads it, approved by name unless it is the first."""
        name = "-".join(f"{rule}.{text}" for rule, text in regime.edits) or "shipped"
        file = self._folder / f"{name}.yaml"
        if not file.exists():
            file.write_text(yaml.safe_dump(regime.document, sort_keys=False), encoding="utf-8")
        os.environ[POLICY_VARIABLE] = str(file)
        config = load_configuration()
        with connect() as conn:
            force = approvals.in_force(conn) if approvals.kept(conn) else None
            if force is not None and force != key_of(config):
                proposal = propose(conn, config, str(file), at)
                answer_policy(conn, config, proposal, approve=True, by="simulation", now=at, comment=None)

    def observe(self) -> Observed:
        return observe(self._conn, self._store.s3)

    def mark(self) -> int:
        return last_seq(self._conn)

    def recorded(self, since: int) -> Counter[Deed]:
        return recorded(self._conn, since)

    def at_risk(self, at: datetime, regime: Regime) -> datetime | None:
        self.adopt(regime, at)
        policy = load_configuration().policy
        striking = {rule.id for rule in policy.rules if rule.trigger in STRIKING} | {UNCLASSIFIED}
        rows = self._conn.execute(
            "SELECT message_id FROM app.messages WHERE received_at < %(at)s"
            " UNION ALL SELECT message_id FROM lifecycle.quarantine WHERE received_at < %(at)s",
            {"at": at},
        ).fetchall()
        told = [explain_message(row[0], at) for row in rows]
        ends = [each["deadline"] for each in told if each["deciding_rule"] in striking]
        return min((end for end in ends if end is not None), default=None)

    def alarm(self, at: datetime, regime: Regime) -> bool:
        self.adopt(regime, at)
        config = load_configuration()
        found = standings(self._conn, self._store.s3, config.policy, config.catalog, at)
        return any(each.dataset in ("messages", QUARANTINE) for each in alarming(found, config.policy, at))


@contextmanager
def backend_on(servers: Servers, folder: Path, validate_every: int = 0) -> Iterator[RealBackend]:
    """A fresh store on servers that run, with the environment that points the product at it."""
    with servers.store() as store, store.connect() as conn, environment(store.env):
        yield RealBackend(store, conn, folder, validate_every)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Some variables set, and the policy's put back afterwards."""
    before = {name: os.environ.get(name) for name in (*variables, POLICY_VARIABLE)}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def real_backend(validate_every: int = 0) -> Iterator[RealBackend]:
    """A fresh store on servers of its own, for long runs outside of pytest."""
    from lifecycle.catalog.load import load_catalog
    from lifecycle.demo.servers import embedded_s3
    from lifecycle.shipped import SHIPPED_DATASETS, shipped
    from reference_store.create import bucket_specs

    buckets = bucket_specs(load_catalog(shipped(SHIPPED_DATASETS)))
    with session_postgres() as postgres, scratch("s3") as data, embedded_s3(data) as s3, scratch("policies") as folder:
        client = s3.client()
        fresh_buckets(s3, client, buckets)
        with backend_on(Servers(postgres, s3, client, buckets), folder, validate_every) as backend:
            yield backend
