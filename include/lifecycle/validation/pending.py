"""What an unanswered approval makes late, counted apart from what is simply late (cases 20 and 26).

A run whose configuration was not approved did only what the one in force decided alike. So only what is overdue by
both is a broken promise; the rest is overdue because nobody has answered. The same goes for what a unit of the plan
holds that waits for a yes because it is over a limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from psycopg import sql
from pydantic import ValidationError

from lifecycle.catalog.models import Catalog
from lifecycle.config import Configuration
from lifecycle.policy.models import Policy
from lifecycle.stores.postgres.connect import Connection
from lifecycle.validation.models import Check, Promise, Severity
from lifecycle.validation.scene import Scene

LATE = frozenset({Promise.NEVER_LATE, Promise.QUARANTINE, Promise.TRAINING_USE})
_PARAMETER = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True)
class Pending:
    """The configuration that the judged run was bound to, and the units of its plan that wait.

    ``policy`` and ``catalog`` are None where it was bound to nothing that can be read: then everything waited.
    """

    bound: bool
    policy: Policy | None
    catalog: Catalog | None
    units: frozenset[tuple[str, str | None, date | None]]

    @property
    def anything(self) -> bool:
        return self.bound or bool(self.units)


def pending_of(conn: Connection, config: Configuration, scope: str, run_id: int | None, as_of: datetime) -> Pending:
    """How the judged run of a scope was bound; without one, the scope's last successful run."""
    row = conn.execute(
        "SELECT r.run_id, coalesce(r.guard_policy, r.policy_hash), coalesce(r.guard_catalog, r.catalog_hash),"
        " r.guard_policy IS NOT NULL FROM lifecycle.runs r WHERE r.scope = %(scope)s AND NOT r.dry_run"
        " AND CASE WHEN %(run_id)s::bigint IS NULL THEN r.status = 'succeeded' AND r.as_of <= %(as_of)s"
        " ELSE r.run_id = %(run_id)s END ORDER BY r.as_of DESC, r.run_id DESC LIMIT 1",
        {"scope": scope, "run_id": run_id, "as_of": as_of},
    ).fetchone()
    if row is None:
        return Pending(False, None, None, frozenset())
    judged, policy_hash, catalog_hash, guarded = row
    units = conn.execute(
        "SELECT u.dataset, u.tier, d.day::date FROM lifecycle.plan_units u LEFT JOIN LATERAL generate_series("
        "u.day::timestamp, u.day + CASE WHEN u.unit ~ '/[0-9]{4}$' THEN interval '1 year'"
        " WHEN u.unit ~ '/[0-9]{4}-[0-9]{2}$' THEN interval '1 month' WHEN u.unit ~ '/[0-9-]{10}[.][.][0-9-]{10}$'"
        " THEN right(u.unit, 10)::date - u.day::timestamp ELSE interval '1 day' END - interval '1 day',"
        " interval '1 day') d(day) ON true WHERE u.run_id = %s AND u.status = 'awaiting' AND u.method <> 'orphans'",
        (judged,),
    ).fetchall()
    waiting = frozenset((dataset, tier, day) for dataset, tier, day in units)
    if (policy_hash, catalog_hash) == (config.policy_hash, config.catalog_hash):
        return Pending(False, None, None, waiting)
    found = conn.execute(
        "SELECT p.policy, p.catalog FROM lifecycle.policies p WHERE p.policy_hash = %s AND p.catalog_hash = %s",
        (policy_hash, catalog_hash),
    ).fetchone()
    if found is None and not guarded:
        return Pending(False, None, None, waiting)
    policy, catalog = _read(found)
    return Pending(True, policy, catalog, waiting)


def _read(found: tuple[Any, ...] | None) -> tuple[Policy | None, Catalog | None]:
    if found is None:
        return None, None
    try:
        return Policy.model_validate(found[0]), Catalog.model_validate(found[1])
    except ValidationError:
        return None, None


def checks_apart(scene: Scene, compose: Callable[[Scene], Sequence[Check]], pending: Pending) -> list[Check]:
    """The checks of a scope, with what waits for an approval in a check of its own."""
    raw = list(compose(scene))
    if not pending.anything:
        return [*raw, _nothing_waits(scene)]
    loaded = _by_name(compose(replace(scene, awaiting=pending.units)))
    bound = loaded if not pending.bound else _by_name(_of_bound(scene, compose, pending))
    kept, apart = [], []
    for check in raw:
        if check.promise not in LATE or check.severity is not Severity.CRITICAL:
            kept.append(check)
            continue
        both = _least(check, loaded[check.name], bound.get(check.name))
        kept.append(both)
        apart.append(_more(check, bound.get(check.name), both))
    return [*kept, _sum(scene, apart)]


def _of_bound(scene: Scene, compose: Callable[[Scene], Sequence[Check]], pending: Pending) -> Sequence[Check]:
    """The same checks by the configuration in force; none where the two dataset files differ in anything."""
    if pending.policy is None or pending.catalog is None:
        return ()
    if _bindings(pending.catalog) != _bindings(scene.catalog):
        return ()
    return compose(replace(scene, policy=pending.policy, awaiting=pending.units))


def _bindings(catalog: Catalog) -> Any:
    return [dataset.model_dump(exclude={"create_ahead"}) for dataset in catalog.datasets], catalog.exceptions


def _by_name(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def _count(check: Check | None, prefix: str) -> tuple[sql.Composable, dict[str, Any]]:
    """A check's count as one number, its parameters under names of their own."""
    if check is None:
        return sql.SQL("0"), {}
    query = sql.SQL("(SELECT count(*) FROM ({}) v)").format(_prefixed(check.query, prefix))
    return query, {f"{prefix}{name}": value for name, value in check.params.items()}


def _prefixed(query: sql.Composable, prefix: str) -> sql.Composable:
    if isinstance(query, sql.Composed):
        return sql.Composed([_prefixed(part, prefix) for part in query])
    if isinstance(query, sql.SQL):
        return sql.SQL(_PARAMETER.sub(rf"%({prefix}\1)s", query.as_string(None)))
    return query


def _least(check: Check, loaded: Check, bound: Check | None) -> Check:
    """What is overdue by both. Where neither contains the other this counts too many rather than too few."""
    one, params = _count(loaded, "l_")
    other, more = _count(bound, "b_")
    query = sql.SQL("SELECT 1 AS violation FROM generate_series(1, least({}, {}))").format(one, other)
    return replace(check, query=query, params={**params, **more})


def _more(check: Check, bound: Check | None, both: Check) -> Check:
    """What is overdue by either, beyond that."""
    one, params = _count(check, "r_")
    other, more = _count(bound, "o_")
    less, rest = _count(both, "m_")
    query = sql.SQL("SELECT 1 AS violation FROM generate_series(1, greatest({}, {}) - {})").format(one, other, less)
    return replace(check, query=query, params={**params, **more, **rest})


def _sum(scene: Scene, checks: Sequence[Check]) -> Check:
    parts, params = [], dict[str, Any]()
    for number, check in enumerate(checks):
        parts.append(sql.SQL("SELECT v.violation FROM ({}) v").format(_prefixed(check.query, f"c{number}_")))
        params |= {f"c{number}_{name}": value for name, value in check.params.items()}
    query = sql.SQL(" UNION ALL ").join(parts) if parts else sql.SQL("SELECT 1 AS violation WHERE false")
    return _apart(scene, query, params)


def _nothing_waits(scene: Scene) -> Check:
    return _apart(scene, sql.SQL("SELECT 1 AS violation WHERE false"), {})


def _apart(scene: Scene, query: sql.Composable, params: dict[str, Any]) -> Check:
    return Check(
        f"late_awaiting_approval.{scene.scope}",
        Promise.NEVER_LATE,
        Severity.WARNING,
        "Nothing is overdue only because nobody has answered whether it may go",
        query,
        params,
    )


def units_check(scene: Scene) -> Check:
    """Units of the judged run's plan that wait for a yes; none of them was carried out."""
    return Check(
        "units_awaiting_approval",
        Promise.NEVER_LATE,
        Severity.WARNING,
        "No part of the plan waits for an approval",
        sql.SQL(
            "SELECT 1 AS violation FROM lifecycle.plan_units u WHERE u.run_id = %(run_id)s AND u.status = 'awaiting'"
        ),
        {"run_id": scene.run_id},
    )
