"""The pure core of coverage: names, shapes and the comparison, without a store."""

from __future__ import annotations

import pytest

from coverage.covering import AS_OF
from lifecycle.config import load_configuration
from lifecycle.coverage.bindings import Identifier, Part, bound_by, is_second
from lifecycle.coverage.buckets import shape_of
from lifecycle.coverage.compare import compare
from lifecycle.coverage.facts import Column, Content, Facts, Form, Relation, Sign
from lifecycle.coverage.names import Meaning, identifying, refers, strong, weak
from lifecycle.policy.models import Trigger

CONFIG = load_configuration()


@pytest.mark.parametrize(
    "name",
    [
        *("email", "user_email", "eMail", "phone", "phoneNumber", "first_name", "userId", "user_id", "account_id"),
        *("owner_ref", "client_ip", "ip", "ip_address", "street", "billing_address", "date_of_birth", "user_agent"),
    ],
)
def test_names_of_personal_data(name: str) -> None:
    assert strong(name, "S", "text") is Meaning.PERSON


@pytest.mark.parametrize(
    ("name", "category", "type_name"),
    [
        ("name", "S", "text"),
        ("zip", "S", "text"),
        ("shipping", "S", "text"),
        ("ipsum", "S", "text"),
        ("recipe", "S", "text"),
        ("email_verified", "B", "boolean"),
        ("phone_changed_at", "D", "timestamp with time zone"),
        ("body", "U", "uuid"),
        ("prompt_tokens", "N", "integer"),
        ("plan_id", "U", "uuid"),
        ("tier", "S", "text"),
        ("address_count", "B", "boolean"),
    ],
)
def test_names_that_say_nothing(name: str, category: str, type_name: str) -> None:
    assert strong(name, category, type_name) is None


@pytest.mark.parametrize("name", ["body", "prompt", "system_prompt", "completion", "chat_transcript"])
def test_names_of_content(name: str) -> None:
    assert strong(name, "S", "text") is Meaning.CONTENT
    assert strong(name, "U", "jsonb") is Meaning.CONTENT


def test_types_speak_where_names_do_not() -> None:
    assert strong("x", "I", "inet") is Meaning.PERSON
    assert strong("x", "U", "macaddr") is Meaning.PERSON
    assert strong("birthday", "D", "date") is Meaning.PERSON


@pytest.mark.parametrize(
    ("name", "identifier", "same"),
    [
        ("message_id", "message_id", True),
        ("MESSAGE_ID", "message_id", True),
        ("parent_message_id", "message_id", True),
        ("messageRef", "message_id", True),
        ("source_message_uuid", "message_id", True),
        ("message", "message_id", False),
        ("message_count", "message_id", False),
        ("submessage_id", "message_id", False),
        ("id", "message_id", False),
    ],
)
def test_names_that_refer(name: str, identifier: str, same: bool) -> None:
    assert refers(name, identifier) is same


@pytest.mark.parametrize(
    ("column", "second"),
    [
        (Column("crm_ref", "text", "S", unique=True), True),
        (Column("crm_ref", "text", "S"), True),
        (Column("crm_ref", "text", "S", distinct=1.0), True),
        (Column("plan_id", "uuid", "U", distinct=0.01), False),
        (Column("plan_id", "uuid", "U"), False),
        (Column("locale", "text", "S", distinct=1.0), False),
    ],
)
def test_a_second_identifier_is_different_in_each_row(column: Column, second: bool) -> None:
    assert is_second(column, {"plan_id"}) is second


def test_an_identifier_with_a_plain_name_is_called_after_its_table() -> None:
    assert Identifier("app.messages", "id", True).spoken == "message_id"
    assert Identifier("app.entries", "uuid", True).spoken == "entry_uuid"
    assert Identifier("app.messages", "message_id", True).spoken == "message_id"


def test_identifying_names() -> None:
    assert identifying("crm_ref") and identifying("pushToken")
    assert not identifying("id") and not identifying("locale")


@pytest.mark.parametrize(("rows", "found"), [(999, 0), (1_000, 1)])
def test_weak_names_count_in_large_tables_only(rows: int, found: int) -> None:
    assert weak("name", "S", "text") is Meaning.PERSON
    relation = Relation("app.things", Form.TABLE, (Column("name", "text", "S"),), rows)
    assert len(compare(Facts((relation,)), CONFIG.catalog, CONFIG.policy, AS_OF).differences) == found


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("exports/", "exports/"),
        ("tier=free/", "tier=free/"),
        ("manifest.json", "manifest.json"),
        ("a@example.com/", "<e-mail>/"),
        ("user=a@example.com/", "user=<e-mail>/"),
        ("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.json", "<id>.json"),
        ("0190A1B2C3D47E5F8A9B0C1D2E3F4A5B/", "<id>/"),
        ("203.0.113.7/", "<ip>/"),
        ("4917012345678/", "<number>/"),
        ("Jürgen Müller/", "<name>"),
        ("AKIAIOSFODNN7EXAMPLEKEY12/", "<id>/"),
    ],
)
def test_names_of_prefixes_are_shown_by_shape_where_they_may_name_somebody(name: str, shape: str) -> None:
    """Case 25: a prefix is a value as well as a name."""
    assert shape_of(name)[0] == shape


def test_json_keys_are_compared_and_never_shown() -> None:
    column = Column("v", "jsonb", "U", content=Content(keys=frozenset({"email", "canary_key"})))
    found = compare(Facts((Relation("app.x", Form.TABLE, (column,)),)), CONFIG.catalog, CONFIG.policy, AS_OF)
    assert found.differences[0].suspected == ("column v holds JSON with keys named like personal data",)
    assert "canary_key" not in repr(column)


def test_content_makes_a_column_of_accounts_personal() -> None:
    column = Column("extra", "text", "S", content=Content(frozenset({Sign.PHONE})))
    found = compare(Facts((Relation("app.accounts", Form.TABLE, (column,)),)), CONFIG.catalog, CONFIG.policy, AS_OF)
    assert [item.name for item in found.differences] == ["app.accounts.extra"]


def test_every_table_has_the_part_that_demands_most() -> None:
    parts = {name.split(".")[1]: bound.part for name, bound in bound_by(CONFIG.catalog).items() if name[:3] == "app"}
    assert parts == {
        "messages": Part.MESSAGES,
        "accounts": Part.ACCOUNTS,
        "message_tools": Part.CHILD,
        "safety_flags": Part.CHILD,
        "training_examples": Part.CHILD,
        "feedback": Part.SUBMISSIONS,
        "safety_scores": Part.OUTLIVING,
        "agreements": Part.OUTLIVING,
        "enforcement_cases": Part.OUTLIVING,
    }


def test_a_category_without_a_default_is_a_difference() -> None:
    """Case 23: `decide` would keep such records for ever, as unclassified."""
    rules = tuple(rule for rule in CONFIG.policy.rules if rule.id != "safety_scores")
    policy = CONFIG.policy.model_copy(update={"rules": rules})
    assert policy.rule_for(Trigger.DEFAULT, CONFIG.catalog.records[0].category, next(iter(rules[0].tiers))) is None
    (found,) = compare(Facts(), CONFIG.catalog, policy, AS_OF).differences
    assert (found.kind, found.name) == ("records", "safety_scores")


def test_buckets_that_may_not_be_listed_are_a_warning() -> None:
    found = compare(Facts(buckets=None), CONFIG.catalog, CONFIG.policy, AS_OF)
    assert found.passed
    assert any("may not list buckets" in warning for warning in found.warnings)
