"""Rows of several tiers in one ordinary table: each is judged by its own tier's rules (hard case 23 for unknown ones).

Two tables: one that says the tier itself, in words of its own, and one whose rows' tier is that of their account.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
import yaml
from psycopg import sql

from lifecycle.catalog.models import Catalog
from lifecycle.config import load_configuration
from lifecycle.console.data import overview
from lifecycle.dispositions import records, walks
from lifecycle.policy.decide import decide
from lifecycle.policy.periods import Period
from lifecycle.shipped import SHIPPED_DATASETS, SHIPPED_POLICY, shipped
from lifecycle.stores.postgres.fates import fate_parameters, record_fate, table
from lifecycle.stores.postgres.grants import grants_script
from lifecycle.stores.postgres.policy_diff import measure
from lifecycle.stores.postgres.policy_sources import Pair
from lifecycle.stores.postgres.present import present
from lifecycle.stores.postgres.tier_columns import missing_for_tiers, unfit_for_tiers
from lifecycle.validation.queries.stages import remains
from oracle.quick import only
from oracle.stores import Servers, full_run
from support.store import Store

pytestmark = pytest.mark.timeout(180)

AS_OF = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY, TICK = timedelta(days=1), timedelta(microseconds=1)
NAMES = UUID(int=23)
# The cut-off runs three days ahead of the deadline; an unknown tier is under the strictest rule.
CONTENT = {"consumer": 87 * DAY, "beta": 87 * DAY, "business": 25 * DAY, "unclassified": 25 * DAY}
USAGE = 362 * DAY
PLANS = {"free": "consumer", "plus": "consumer", "preview": "beta", "team": "business",
         "enterprise": "unclassified", None: "unclassified"}  # fmt: skip


def ident(name: str) -> UUID:
    return uuid5(NAMES, name)


def files() -> tuple[dict[str, Any], dict[str, Any]]:
    """The shipped files, with a rule for usage and two tables of several tiers."""
    policy, datasets = (yaml.safe_load(shipped(name).read_text()) for name in (SHIPPED_POLICY, SHIPPED_DATASETS))
    next(rule for rule in policy["rules"] if rule["trigger"] == "hold")["category"].append("usage_records")
    policy["rules"].append(
        {"id": "usage", "category": ["usage_records"], "tiers": ["consumer", "beta", "evaluation", "business"],
         "trigger": "default", "kind": "maximum", "period": "P365D", "clock": "received", "disposition": "delete",
         "basis": "at most a year"}
    )  # fmt: skip
    told = {plan: tier for plan, tier in PLANS.items() if tier != "unclassified"}
    datasets["datasets"] += [
        {"id": "chats", "type": "table", "category": "prompts_and_outputs", "table": "app.chats", "key": "chat_id",
         "subject": "account_id", "group": "conversation_id", "clock": "at",
         "tiers": {"column": "Plan", "values": told}},
        {"id": "calls", "type": "table", "category": "usage_records", "table": "app.calls", "key": "call_id",
         "subject": "account_id", "clock": "at",
         "tiers": {"table": "app.accounts", "key": "account_id", "column": "tier",
                   "values": {"consumer": "consumer", "beta": "beta", "business": "business"}},
         "stages": [{"name": "content", "category": "prompts_and_outputs", "clear": ["said"]}]},
    ]  # fmt: skip
    accounts = next(each for each in datasets["datasets"] if each["type"] == "accounts")
    accounts["referenced_by"] += [{"table": "app.calls", "key": "account_id"}]
    return policy, datasets


TABLES = """
CREATE TABLE app.chats (chat_id uuid PRIMARY KEY, account_id uuid, conversation_id uuid, at timestamptz, "Plan" text);
CREATE INDEX ON app.chats (at);
CREATE INDEX ON app.chats (account_id);
CREATE TABLE app.calls (call_id uuid PRIMARY KEY, account_id uuid, at timestamptz NOT NULL, said text);
CREATE INDEX ON app.calls (at);
CREATE INDEX ON app.calls (account_id);
CREATE INDEX ON app.calls (at, call_id) WHERE said IS NOT NULL;
"""


@pytest.fixture(scope="module")
def store(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Both tables after a run of records and one of what was asked to be erased, both validated."""
    folder = tmp_path_factory.mktemp("tiers")
    for name, content in zip(("policy", "datasets"), files(), strict=True):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    with servers.store() as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_POLICY", str(folder / "policy.yaml"))
        patch.setenv("LIFECYCLE_DATASETS", str(folder / "datasets.yaml"))
        with store.connect() as conn:
            conn.execute(TABLES.encode())
        fill(store)
        for scope in ("records", "erasure"):
            with only(scope):
                done = full_run(store, AS_OF)
            assert done.code == 0, str(done)
        yield store


def chat(store: Store, name: str, plan: str | None, age: timedelta) -> None:
    ids = [ident(f"{part} of {name}") for part in ("chat", "account", "conversation")]
    store.sql("INSERT INTO app.chats VALUES (%s, %s, %s, %s, %s)", *ids, AS_OF - age, plan)


def call(store: Store, name: str, tier: str, age: timedelta) -> None:
    if tier != "unclassified":
        store.insert_account(ident(f"account of {name}"), tier=tier)
    store.sql("INSERT INTO app.calls VALUES (%s, %s, %s, 'something')", ident(f"call of {name}"),
              ident(f"account of {name}"), AS_OF - age)  # fmt: skip


def fill(store: Store) -> None:
    for plan, tier in PLANS.items():
        chat(store, f"{plan} old", plan, CONTENT[tier] + TICK)
        chat(store, f"{plan} young", plan, CONTENT[tier])
    for tier in ("consumer", "business", "unclassified"):
        ages = {"old": USAGE + TICK, "young": USAGE, "said": CONTENT[tier] + TICK, "just said": CONTENT[tier]}
        for name, age in ages.items():
            call(store, f"{tier} {name}", tier, age)
    # Cases and agreements (here of one day) count for business only; a hold and a request for everybody.
    for plan in ("free", "team"):
        for name, days in (("case", 100), ("agreed", 2), ("held", 100), ("asked", 1)):
            chat(store, f"{plan} {name}", plan, days * DAY)
        account = f"account of {plan}"
        store.insert("app.enforcement_cases", case_id=ident(plan), account_id=ident(f"{account} case"),
                     opened_at=AS_OF - DAY, closed_at=None)  # fmt: skip
        store.insert("app.agreements", agreement_id=ident(plan), account_id=ident(f"{account} agreed"),
                     category="prompts_and_outputs", retain=DAY, effective_from=AS_OF - 9 * DAY)  # fmt: skip
        store.insert(
            "lifecycle.legal_holds",
            hold_id=ident(plan),
            scope="account",
            target=str(ident(f"{account} held")),
            reason="r",
            placed_by="p",
        )
        store.insert("lifecycle.erasure_requests", request_id=ident(plan), scope="account",
                     target=str(ident(f"{account} asked")), requested_at=AS_OF - DAY)  # fmt: skip


def there(store: Store, name: str) -> bool:
    return bool(store.sql("SELECT 1 FROM app.chats WHERE chat_id = %s", ident(f"chat of {name}")))


@pytest.mark.parametrize("plan", PLANS)
def test_a_row_goes_at_the_cut_off_of_its_own_tier_and_not_a_tick_before(store: Store, plan: str | None) -> None:
    assert not there(store, f"{plan} old") and there(store, f"{plan} young")


@pytest.mark.parametrize("tier", ["consumer", "business", "unclassified"])
def test_the_tier_of_the_account_decides_about_a_row_and_its_content(store: Store, tier: str) -> None:
    left = {
        str(key): said for key, said in store.sql("SELECT call_id, said FROM app.calls")
    }  # fmt: skip
    found = {
        name: left.get(str(ident(f"call of {tier} {name}")), "gone") for name in ("old", "young", "said", "just said")
    }
    assert found == {"old": "gone", "young": None, "said": None, "just said": "something"}


@pytest.mark.parametrize(
    ("name", "stays"),
    [("free case", False), ("team case", True), ("free agreed", True), ("team agreed", False), ("free held", True),
     ("team held", True), ("free asked", False), ("team asked", False)],
)  # fmt: skip
def test_an_exception_counts_where_its_rule_covers_the_row_s_own_tier(store: Store, name: str, stays: bool) -> None:
    assert there(store, name) is stays


def test_plan_and_ledger_count_tier_by_tier(store: Store) -> None:
    rows = store.sql(
        "SELECT u.unit, u.tier, u.progress, u.planned FROM lifecycle.plan_units u JOIN lifecycle.runs r USING (run_id)"
        " WHERE r.scope = 'records' AND u.dataset LIKE 'c%%.%%' ORDER BY 1"
    )
    gone = {(unit, tier): {fate: n["records"] for fate, n in progress.items()} for unit, tier, progress, _ in rows}
    assert gone[("chats.consumer", "consumer")] == {"delete:consumer_default": 3, "delete:erasure_request": 1}
    assert gone[("chats.beta", "beta")] == {"delete:consumer_default": 1}
    assert gone[("chats.business", "business")] == {
        "delete:business_default": 1, "delete:business_agreement": 1, "delete:erasure_request": 1}  # fmt: skip
    assert gone[("chats.unclassified", None)] == {"delete:unclassified": 2}
    planned = {unit: sum(n["records"] for n in counts.values()) for unit, _, _, counts in rows}
    assert sum(planned[f"chats.{tier}"] for tier in CONTENT) == 20  # each row in exactly one unit
    assert planned["calls.content.business"] == planned["calls.content.consumer"] == 4


def test_status_tells_where_each_tier_stands(store: Store) -> None:
    said = json.loads(store.cli("status", "--json", "--as-of", "2026-06-01T12:00:00Z").stdout)
    lines = {(each["dataset"], each["tier"]): each for each in said["datasets"]}
    assert lines[("chats.business", "business")]["rule"] == "business_default"
    assert lines[("chats.consumer", "consumer")]["rule"] == "consumer_default"
    assert ("calls.content.unclassified", "unclassified") in lines
    assert {each["overdue"] for key, each in lines.items() if key[0].startswith(("chats", "calls"))} == {0}


@pytest.mark.parametrize(
    ("thing", "rule", "tier"),
    [
        ("chats/chat of free young", "consumer_default", "consumer"),
        ("chats/chat of team young", "business_default", "business"),
        ("chats.business/chat of team young", "business_default", "business"),
        ("chats/chat of None young", "unclassified", "unclassified"),
        ("chats/chat of team case", "usage_policy_enforcement", "business"),
        ("calls/call of business young", "usage", "consumer"),  # whose rules are the same for every tier
        ("calls.content/call of business just said", "business_default", "business"),
    ],
)
def test_a_row_is_explained_by_its_own_tier(store: Store, thing: str, rule: str, tier: str) -> None:
    dataset, name = thing.split("/")
    said = json.loads(store.cli("explain", "record", f"{dataset}/{ident(name)}", "--json",
                                "--as-of", "2026-06-01T12:00:00Z").stdout)  # fmt: skip
    assert (said["deciding_rule"], said["tier"]) == (rule, tier)


def test_the_whole_table_is_explained_with_every_tier_s_rules(store: Store) -> None:
    said = json.loads(store.cli("explain", "partition", "chats", "--json", "--as-of", "2026-06-01T12:00:00Z").stdout)
    assert said["records"] == store.value("SELECT count(*) FROM app.chats")
    assert {"consumer_default", "business_default", "unclassified"} <= {each["rule"] for each in said["fates"]}


def test_the_console_has_a_line_for_each_tier(store: Store) -> None:
    with store.connect() as conn:
        shown = str(overview(conn, store.s3, load_configuration(), AS_OF))
    assert "chats.business" in shown and "calls.content.consumer" in shown


def test_the_auditor_counts_a_late_row_under_its_own_tier_only(store: Store) -> None:
    """A row of 40 days is late where it is business, and in time where it is a consumer's."""
    for plan in ("free", "team", "enterprise"):
        chat(store, f"{plan} late", plan, 40 * DAY)
    done = store.cli("audit", "--as-of", "2026-06-01T12:00:00Z", "--json", check=False)
    broken = {each["name"]: each["violations"] for each in json.loads(done.stdout)["checks"] if not each["success"]}
    assert {name: n for name, n in broken.items() if name.startswith("chats")} == {
        "chats.business_past_deadline": 1, "chats.unclassified_past_deadline": 1}  # fmt: skip
    store.sql("DELETE FROM app.chats WHERE at = %s", AS_OF - 40 * DAY)


def test_coverage_tells_how_many_rows_are_of_no_declared_tier(store: Store) -> None:
    said = json.loads(store.cli("coverage", "--json", check=False).stdout)
    assert said["unclassified"]["chats"] == 2 and said["unclassified"]["calls"] > 0


def test_sql_the_core_and_the_auditor_agree_about_every_row(store: Store) -> None:
    """Rows at one unit from every boundary of every tier: fate by SQL, by decide(), and membership as the auditor sees
    it; and each row is in exactly one share."""
    config = load_configuration()
    with store.connect() as conn, conn.transaction(force_rollback=True):
        conn.execute("TRUNCATE app.chats")
        for plan in PLANS:
            for bound in {*CONTENT.values(), 28 * DAY, 90 * DAY}:
                for age in (bound - TICK, bound, bound + TICK):
                    conn.execute("INSERT INTO app.chats VALUES (gen_random_uuid(), gen_random_uuid(), NULL, %s, %s)",
                                 (AS_OF - age, plan))  # fmt: skip
        params = fate_parameters(config.policy, AS_OF)
        seen: Counter[str] = Counter()
        for share in next(each for each in config.catalog.tables if each.id == "chats").unfolded:
            query = sql.SQL('SELECT m.chat_id::text, m."Plan", m.at, {}, {} FROM {} m WHERE {}').format(
                record_fate(config.policy, config.catalog, share),
                remains(share, "m"),
                table(share.table),
                present(share),
            )
            audited = sql.SQL("SELECT count(*) FROM {} m WHERE {}").format(table(share.table), remains(share, "m"))
            rows = conn.execute(query, params).fetchall()
            assert conn.execute(audited).fetchone() == (len(rows),)
            for key, plan, at, fate, there in rows:
                decided = decide(share.category, PLANS[plan], at, [], config.policy, AS_OF)
                assert there and fate == f"{decided.disposition.value}:{decided.rule}", (plan, AS_OF - at)
                seen[key] += 1
        assert set(seen.values()) == {1} and len(seen) == len(PLANS) * 12


def test_a_row_that_changes_its_tier_is_judged_as_it_is_then(store: Store) -> None:
    """Planned as a business row, a consumer's when its batch comes: it stays."""
    chat(store, "moving", "team", 40 * DAY)
    real = walks.walks_of

    def moving(context: Any, dataset: Any, **how: Any) -> Any:
        store.sql("UPDATE app.chats SET \"Plan\" = 'free' WHERE chat_id = %s", ident("chat of moving"))
        return real(context, dataset, **how)

    with pytest.MonkeyPatch.context() as patch, only("records"):
        patch.setattr(records, "walks_of", moving)
        done = full_run(store, AS_OF + TICK)
    assert done.code == 0 and there(store, "moving"), str(done)


# -- what is refused, and what is said


def _said(store: Store, change: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    policy, datasets = files()
    change(policy, {each["id"]: each for each in datasets["datasets"]})
    for name, content in (("policy", policy), ("datasets", datasets)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    done = store.cli("policy", "validate", "--policy", str(tmp_path / "policy.yaml"), "--datasets",
                     str(tmp_path / "datasets.yaml"), check=False)  # fmt: skip
    assert done.returncode == 2, done.stdout
    return " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda p, d: d["chats"].update(tier_is="business"), "Remove one of the two"),
        (lambda p, d: d["chats"].pop("tiers"), "`tiers: {column: tier}`"),
        (lambda p, d: d["calls"].update(stages=[]), "Remove 'tiers'"),
        (lambda p, d: d["chats"]["tiers"].update(values={"free": "gold"}), "not one of consumer, beta"),
        (lambda p, d: d["chats"]["tiers"].update(key="account_id"), "Remove 'key'"),
        (lambda p, d: d["calls"]["tiers"].pop("key"), "key: account_id"),
        (lambda p, d: d["accounts"]["referenced_by"].pop(), "referenced_by"),
        (lambda p, d: d["accounts"]["personal"].append("tier"), "personal"),
        (lambda p, d: d["calls"]["stages"][0].update(name="business"), "another name"),
        (lambda p, d: d["chats"].update(record="message_id"), "quarantine"),
        (lambda p, d: d["chats"]["tiers"]["values"].update(trial="evaluation"), "correct 'tiers'"),
        (lambda p, d: d["calls"]["tiers"].update(table="app.feedback"), "whose rows stay"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_with_its_remedy(
    store: Store, change: Any, expected: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert expected in _said(store, change, tmp_path, monkeypatch)


def test_a_column_that_cannot_tell_is_named(store: Store) -> None:
    """An enum that lacks a value, and a key that is not unique: one row would be of two tiers."""
    catalog = load_configuration().catalog
    with store.connect() as conn, conn.transaction(force_rollback=True):
        assert not list(unfit_for_tiers(conn, catalog))
        conn.execute("CREATE TYPE app.plan AS ENUM ('free', 'team')")
        conn.execute('ALTER TABLE app.chats DROP COLUMN "Plan", ADD COLUMN "Plan" app.plan')
        conn.execute("CREATE TABLE app.others (LIKE app.accounts)")
        conn.execute("ALTER TABLE app.accounts RENAME TO accounts_before")
        conn.execute("ALTER TABLE app.others RENAME TO accounts")
        found = [str(each) for each in unfit_for_tiers(conn, catalog)]
    assert len(found) == 2 and "'plus', 'preview'" in found[0] and "unique" in found[1]


def test_each_tier_wants_an_index_of_its_rows_and_the_walk_uses_it(store: Store) -> None:
    """Else a run reads, for the sooner tier, past all that the other still keeps."""
    catalog = load_configuration().catalog
    chats = next(each for each in catalog.tables if each.id == "chats")
    with store.connect() as conn, conn.transaction(force_rollback=True):
        wanted = list(missing_for_tiers(conn, catalog))
        assert {each.dataset for each in wanted} == {each.id for each in chats.unfolded}
        conn.execute(
            "INSERT INTO app.chats SELECT gen_random_uuid(), gen_random_uuid(), NULL, %s - interval '1 hour' * n,"
            " CASE WHEN n %% 1000 = 0 THEN NULL WHEN n %% 100 = 0 THEN 'team' ELSE 'free' END"
            " FROM generate_series(1, 20000) n", (AS_OF,))  # fmt: skip
        for each in wanted:
            conn.execute(each.statement.replace("CONCURRENTLY ", "").encode())
        conn.execute("ANALYZE app.chats")
        assert not list(missing_for_tiers(conn, catalog))
        for share in chats.unfolded:
            if share.ruled_as not in ("consumer", "beta"):
                plan = str(conn.execute(
                    sql.SQL("EXPLAIN SELECT at, chat_id FROM app.chats m WHERE {} AND at < {} ORDER BY 1, 2 LIMIT 500")
                    .format(present(share), sql.Literal(AS_OF - 25 * DAY))).fetchall())  # fmt: skip
                assert "chats_at_chat_id" in plan and "Filter" not in plan, plan


def test_a_change_of_policy_is_counted_for_the_tier_that_it_is_about(store: Store) -> None:
    """Business chats of 20 days would go under 14 days; those of others are not counted."""
    catalog = load_configuration().catalog
    with store.connect() as conn, conn.transaction(force_rollback=True):
        conn.execute("DELETE FROM app.chats")
        for plan in ("free", "team", "team", "preview"):
            conn.execute("INSERT INTO app.chats VALUES (gen_random_uuid(), gen_random_uuid(), NULL, %s, %s)",
                         (AS_OF - 20 * DAY, plan))  # fmt: skip
        old = load_configuration().policy
        rules = [rule.model_copy(update={"period": Period(days=14)}) if rule.id == "business_default" else rule
                 for rule in old.rules]  # fmt: skip
        pair = Pair(old, catalog, old.model_copy(update={"rules": tuple(rules)}), catalog, AS_OF)
        found = [each for each in measure(conn, pair, ()) if each.dataset.startswith("chats")]
    assert [(each.dataset, each.tier, each.before, each.after, each.records) for each in found] == [
        ("chats.business", "business", "keep:business_default", "delete:business_default", 2)]  # fmt: skip


def test_a_configuration_of_several_tiers_is_the_same_when_it_is_read_back() -> None:
    """As approvals keep it."""
    catalog = Catalog.model_validate(files()[1])
    assert Catalog.model_validate(json.loads(json.dumps(catalog.model_dump(mode="json")))) == catalog


def test_the_role_may_read_what_tells_the_tier() -> None:
    datasets = files()[1]
    told = next(each for each in datasets["datasets"] if each["id"] == "calls")["tiers"]
    told |= {"table": "crm.customers", "key": "id", "column": "plan"}
    written = grants_script(Catalog.model_validate(datasets), "runner")
    assert 'GRANT SELECT ON "crm"."customers"' in written and 'SCHEMA "crm"' in written


def test_a_hold_may_name_the_rows_of_one_tier(store: Store) -> None:
    words = ("hold", "place", "--scope", "dataset", "--reason", "r")
    assert store.cli(*words, "--target", "chats.business", check=False).returncode == 0
    assert store.cli(*words, "--target", "chats.gold", check=False).returncode == 2
    store.sql("DELETE FROM lifecycle.legal_holds WHERE target = 'chats.business'")


def test_a_hold_on_one_tier_s_share_keeps_that_tier_s_rows_only(store: Store) -> None:
    config = load_configuration()
    shares = next(each for each in config.catalog.tables if each.id == "chats").unfolded
    for plan in PLANS:
        chat(store, f"{plan} of the hold", plan, DAY)
    with store.connect() as conn, conn.transaction(force_rollback=True):
        for target, kept in (("chats.business", {"chats.business"}), ("chats", {each.id for each in shares})):
            conn.execute("DELETE FROM lifecycle.legal_holds")
            conn.execute("INSERT INTO lifecycle.legal_holds (scope, target, reason, placed_by) VALUES"
                         " ('dataset', %s, 'r', 'p')", (target,))  # fmt: skip
            found = set()
            for share in shares:
                rows = conn.execute(sql.SQL("SELECT DISTINCT {} FROM app.chats m WHERE {}").format(
                    record_fate(config.policy, config.catalog, share), present(share)),
                    fate_parameters(config.policy, AS_OF)).fetchall()  # fmt: skip
                if rows == [("keep:legal_obligation",)]:
                    found.add(share.id)
            assert found == kept
