"""Days that are left to S3, processes that die and requests that are refused. Promises 1, 4 and 5; cases 4 and 27."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backstop.test_native import DATA, empty_as_s3_does, look, natively, prefix_of, trade
from lifecycle.backstop.compare import normal
from lifecycle.backstop.models import NATIVE
from lifecycle.backstop.native import rules_for
from lifecycle.config import load_configuration
from lifecycle.dispositions import native, native_rules
from lifecycle.dispositions.native_rules import give_back
from lifecycle.errors import NativeRuleError
from lifecycle.policy.models import Tier
from lifecycle.stores.s3.lifecycle_rules import replace_rules
from oracle.facts import World
from oracle.named import AS_OF, DAY
from oracle.stores import Servers
from support.approve import approve_loaded
from support.edits import lead, write_policy
from support.permits import Killed, altered
from support.scopes import carry_out
from support.store import Store

BEFORE, AFTER, LATE = trade("before", 15), trade("after", 16), trade("late", 17)
BYSTANDER = trade("bystander", 2)


@pytest.fixture(scope="module")
def store(servers: Servers, sql_judges: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with servers.store(World(messages=(BEFORE, AFTER, LATE, BYSTANDER))) as made, pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("native")
        policy = write_policy(folder, lead("s3_expiry", "P12D"))
        environment = {**made.env, "LIFECYCLE_DATASETS": str(natively(folder)), "LIFECYCLE_POLICY": str(policy)}
        for name, value in environment.items():
            patch.setenv(name, value)
        approve_loaded(AS_OF)
        yield made


def outcomes(store: Store) -> dict[str, str | None]:
    return dict(store.sql("SELECT prefix, outcome FROM lifecycle.native_rules ORDER BY native_id"))


def dying(name: str, *, after: bool) -> Any:
    """Puts rules into the bucket, and dies before or after that at the day of one message."""

    def act(s3: Any, bucket: str, compose: Any, normal: Any) -> None:
        composed = [str(rule.get("Filter", {}).get("Prefix")) for rule in compose([])]
        if name in composed and not after:
            raise Killed
        replace_rules(s3, bucket, compose, normal)
        if name in composed:
            raise Killed

    return act


def die(*_: object, **__: object) -> None:
    raise Killed


def test_case_27_killed_before_the_rule_is_in_the_bucket(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 4: it was written down, and is not there: the run that resumes does the day by requests. The killed run
    had begun with the oldest day."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(native, "replace_rules", dying(prefix_of(LATE), after=False))
        carry_out(AS_OF, "business")
    assert outcomes(store) == {prefix_of(LATE): None}
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(native, "replace_rules", dying(prefix_of(AFTER), after=True))
        carry_out(AS_OF, "business")
    seen = look(store, carry_out(AS_OF, "business"))
    assert seen.run.code == 0, str(seen.run)
    assert seen.has(LATE, AFTER, BEFORE, BYSTANDER) == [(False, False), (True, True), (True, True), (True, True)]


def test_case_27_killed_after_the_rule_is_in_the_bucket(store: Store) -> None:
    """Promise 4: written down and there, so the run that resumed left it to S3, once."""
    found = look(store, carry_out(AS_OF + DAY, "business"))
    assert found.prefixes() == {prefix_of(BEFORE), prefix_of(AFTER)}
    assert outcomes(store) == {prefix_of(LATE): "withdrawn", prefix_of(AFTER): None, prefix_of(BEFORE): None}
    asked = store.value("SELECT count(*) FROM lifecycle.ledger WHERE unit LIKE 'native/%%' AND disposition = 'approve'")
    assert asked == 3


def test_case_27_killed_between_the_bucket_and_the_record_of_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 is done; the rule is out of the bucket when the process dies: the next run finds it gone, and goes on."""
    empty_as_s3_does(store, prefix_of(AFTER))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(native_rules, "end", die)
        carry_out(AS_OF + DAY * 2, "business")
    seen = look(store, carry_out(AS_OF + DAY * 2, "business"))
    assert seen.run.code == 0, str(seen.run)
    assert seen.has(AFTER) == [(False, False)]
    assert seen.prefixes() == {prefix_of(BEFORE)}


def test_a_rule_that_nobody_has_written_down_is_found_and_taken_away(store: Store) -> None:
    """Of a database that was restored from a backup, or made by hand: nothing looks at its day for exceptions."""
    prefix = prefix_of(BYSTANDER)
    strange = rules_for(f"{NATIVE}messages-business-strange", prefix, 1)[0].as_s3()
    replace_rules(store.s3, DATA, lambda found: [*found, strange], normal)
    told = store.cli("s3", "backstop", "--json", check=False)
    assert told.returncode == 1 and "no run has written it down" in told.stdout
    assert '"days": 1' in store.cli("s3", "shield", "--as-of", AS_OF.isoformat(), "--json").stdout
    assert prefix not in look(store, carry_out(AS_OF + DAY * 3, "business")).prefixes()
    assert store.cli("s3", "backstop", "--json").returncode == 0


def test_a_rule_that_cannot_be_taken_away_is_an_error_with_its_number(store: Store) -> None:
    """Case 4: not to know is not to keep."""
    from botocore.exceptions import ClientError

    def refuse(real: Any, **kwargs: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "PutBucketLifecycleConfiguration")

    deaf = altered(store.s3, put_bucket_lifecycle_configuration=refuse, delete_bucket_lifecycle=refuse)
    store.insert(
        "lifecycle.legal_holds", scope="account", target=str(BEFORE.account_id), reason="because", placed_by="counsel"
    )
    config = load_configuration()
    known = [(config.policy, config.catalog)]
    with store.connect() as conn:
        with pytest.raises(NativeRuleError, match=r"of 1 lifecycle rule\(s\) .* 1 could not be taken away"):
            give_back(conn, deaf, known, tuple(Tier), AS_OF + DAY * 3, "h", by="x")
        assert outcomes(store)[prefix_of(BEFORE)] is None
        assert give_back(conn, store.s3, known, tuple(Tier), AS_OF + DAY * 3, "h", by="x") == 1
    seen = look(store, carry_out(AS_OF + DAY * 4, "business"))
    assert seen.prefixes() == set() and seen.has(BEFORE) == [(True, True)]


def test_where_the_dataset_file_does_not_ask_for_it_nothing_is_asked_of_s3(store: Store) -> None:
    config = load_configuration()
    objects = config.catalog.messages.objects.model_copy(update={"expire": "requests"})
    messages = config.catalog.messages.model_copy(update={"objects": objects})
    catalog = config.catalog.model_copy(update={"datasets": (messages, *config.catalog.datasets[1:])})

    def refuse(real: Any, **kwargs: Any) -> Any:
        raise AssertionError("asked")

    silent = altered(store.s3, get_bucket_lifecycle_configuration=refuse, list_object_versions=refuse)
    with store.connect() as conn:
        assert give_back(conn, silent, [(config.policy, catalog)], tuple(Tier), AS_OF, "h", by="x") == 0
