"""Who gets a ticket, and from whom it is taken: on a real store, record by record. Promise 1; cases 3, 4, 15, 24."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle.config import load_configuration
from lifecycle.dispositions.shield import shield
from lifecycle.errors import ShieldError
from lifecycle.policy.models import Tier
from lifecycle.shipped import SHIPPED_DATASETS, shipped
from oracle.facts import Agreement, Case, Feedback, Hold, Message, Retain, World, ident
from oracle.named import AS_OF, DAY, flag, in_landing, message
from oracle.stores import Servers
from support.approve import approve_loaded
from support.buckets import list_versions
from support.permits import altered
from support.scopes import carry_out
from support.store import Store

TAG = "lifecycle-expires"
PLAIN, OLDER, TAGGED = (in_landing(message(name, age=DAY * 2)) for name in ("plain", "older", "tagged"))
HELD, RATED, FLAGGED = (in_landing(message(name, age=DAY * 2)) for name in ("held", "rated", "flagged"))
TRADE, AGREED, CASED = (in_landing(message(name, "business", DAY * 2)) for name in ("trade", "agreed", "cased"))
STUDIED = in_landing(message("studied", "evaluation", DAY * 2))
WORLD = World(
    messages=(PLAIN, OLDER, TAGGED, HELD, RATED, FLAGGED, TRADE, AGREED, CASED, STUDIED),
    flags=(flag(FLAGGED),),
    holds=(Hold(ident("hold"), "message", str(HELD.message_id), AS_OF - DAY),),
    feedback=(Feedback(ident("rating"), RATED.account_id, RATED.conversation_id, RATED.message_id, AS_OF - DAY),),
    agreements=(Agreement(ident("terms"), AGREED.account_id, Retain(days=400), AS_OF - DAY * 9, None),),
    cases=(Case(ident("case"), CASED.account_id, AS_OF - DAY, None),),
)


def with_backstop(folder: Path) -> Path:
    """The shipped dataset file, with tickets for messages."""
    text = shipped(SHIPPED_DATASETS).read_text(encoding="utf-8")
    file = folder / "datasets.yaml"
    file.write_text(
        text.replace("      landing: landing/\n", f"      landing: landing/\n      backstop: {{tag: {TAG}}}\n")
    )
    return file


@pytest.fixture(scope="module")
def moved(servers: Servers, sql_judges: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store whose landing objects one run has moved to their day."""
    with servers.store(WORLD) as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.env.items():
            patch.setenv(name, value)
        patch.setenv("LIFECYCLE_DATASETS", str(with_backstop(tmp_path_factory.mktemp("backstop"))))
        store.s3.put_object_tagging(
            Bucket="product-data", Key=TAGGED.landing_key, Tagging={"TagSet": [{"Key": "team", "Value": "red"}]}
        )
        approve_loaded(AS_OF)
        done = carry_out(AS_OF, "consumer", "business", "evaluation", validated=False)
        assert done.code == 0, str(done)
        yield store


def tags(store: Store, m: Message, bucket: str = "product-data", key: str | None = None) -> list[dict[str, str]]:
    """The tags of every version of a message's object at its day."""
    chosen = key or m.partitioned_key
    found = []
    for version in list_versions(store.s3, bucket, chosen):
        answer = store.s3.get_object_tagging(Bucket=bucket, Key=chosen, VersionId=version.version_id)
        found.append({tag["Key"]: tag["Value"] for tag in answer["TagSet"]})
    return found


def test_an_ordinary_object_gets_the_ticket_of_its_tier(moved: Store) -> None:
    assert tags(moved, PLAIN) == [{TAG: "consumer_default"}]
    assert tags(moved, TRADE) == [{TAG: "business_default"}]
    assert tags(moved, TAGGED) == [{TAG: "consumer_default", "team": "red"}]


@pytest.mark.parametrize("m", [RATED, AGREED, CASED, STUDIED], ids=["consent", "agreement", "case", "de-identified"])
def test_what_an_exception_names_gets_none(moved: Store, m: Message) -> None:
    assert tags(moved, m) == [{}]


def test_what_is_held_or_flagged_is_not_in_the_rules_reach_at_all(moved: Store) -> None:
    assert tags(moved, HELD) == []
    assert tags(moved, HELD, key=HELD.landing_key) == [{}]
    assert tags(moved, FLAGGED) == []
    assert tags(moved, FLAGGED, "quarantine", f"{FLAGGED.quarantine_prefix}object") == [{}]


def test_the_shield_takes_tickets_from_every_version_and_leaves_other_tags(moved: Store) -> None:
    """A hold that is entered by SQL, on an object that was overwritten: both versions are evidence (case 15)."""
    key = TAGGED.partitioned_key
    moved.s3.put_object(Bucket="product-data", Key=key, Body=b"again", Tagging=f"{TAG}=consumer_default")
    hold = Hold(ident("late"), "account", str(TAGGED.account_id), AS_OF)
    moved.insert("lifecycle.legal_holds", **vars(hold), reason="because", placed_by="counsel")
    told = moved.cli("s3", "shield", "--as-of", AS_OF.isoformat(), "--json")
    assert '"taken": 2' in told.stdout
    assert sorted(map(str, tags(moved, TAGGED))) == sorted(map(str, [{}, {"team": "red"}]))
    assert tags(moved, PLAIN) == [{TAG: "consumer_default"}]
    assert '"taken": 0' in moved.cli("s3", "shield", "--as-of", AS_OF.isoformat(), "--json").stdout


def test_case_4_a_hold_by_command_is_a_shield_at_once(moved: Store) -> None:
    """Case 4: S3 must not wait for the next run to learn of it."""
    told = moved.cli("hold", "place", "--scope", "conversation", "--target", OLDER.conversation_id, "--reason", "case")
    assert "placed on conversation" in told.stdout
    assert tags(moved, OLDER) == [{}]
    assert tags(moved, PLAIN) == [{TAG: "consumer_default"}]


def test_every_run_is_a_shield_too(moved: Store) -> None:
    moved.insert(
        "app.enforcement_cases", case_id=ident("later"), account_id=TRADE.account_id, opened_at=AS_OF, closed_at=None
    )
    assert carry_out(AS_OF + DAY, "business", validated=False).code == 0
    assert tags(moved, TRADE) == [{}]


def test_a_ticket_that_cannot_be_taken_is_an_error_with_its_number(moved: Store) -> None:
    """Not knowing is not shielding."""
    from botocore.exceptions import ClientError

    def refuse(real: Any, **kwargs: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetObjectTagging")

    config, deaf = load_configuration(), altered(moved.s3, get_object_tagging=refuse)
    with moved.connect() as conn, pytest.raises(ShieldError, match=r"of \d+ object\(s\) that must stay, \d+ could not"):
        shield(conn, deaf, config.policy, config.catalog, (Tier.BUSINESS,), AS_OF)


def test_without_the_key_in_the_dataset_file_nothing_is_asked_of_s3(moved: Store) -> None:
    config = load_configuration()
    objects = config.catalog.messages.objects.model_copy(update={"backstop": None})
    messages = config.catalog.messages.model_copy(update={"objects": objects})
    catalog = config.catalog.model_copy(update={"datasets": (messages, *config.catalog.datasets[1:])})

    def refuse(real: Any, **kwargs: Any) -> Any:
        raise AssertionError("asked")

    silent = altered(moved.s3, get_object_tagging=refuse, get_bucket_lifecycle_configuration=refuse)
    with moved.connect() as conn:
        assert shield(conn, silent, config.policy, catalog, tuple(Tier), AS_OF).objects == 0
