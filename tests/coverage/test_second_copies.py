"""Second copies that make themselves: subscribers, triggers, rules (cases 18, 24; litellm#29342)."""

from __future__ import annotations

from pathlib import Path

import pytest

from coverage.covering import AS_OF, REASON, cover, only, with_text
from lifecycle.config import load_configuration
from lifecycle.coverage.facts import Copier, Publication
from lifecycle.coverage.second_copies import of_copier, of_publication
from lifecycle.validation.auditor import audit
from lifecycle.validation.models import Severity
from support.store import Store

_KEEPER = """
CREATE SCHEMA audit;
CREATE TABLE audit.log (n bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT now());
CREATE FUNCTION audit.keep() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO audit.log DEFAULT VALUES; RETURN OLD; END $$;
CREATE TRIGGER keeper BEFORE DELETE ON app.messages FOR EACH ROW EXECUTE FUNCTION audit.keep();
CREATE RULE keeping AS ON DELETE TO app.feedback DO ALSO INSERT INTO audit.log DEFAULT VALUES;
"""


def _function(source: str | None, name: str = "app.touch") -> Copier:
    return Copier("trigger", "app.messages", "t", ("DELETE",), name, source)


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("BEGIN NEW.updated_at := now(); RETURN NEW; END", None),
        ("BEGIN INSERT INTO audit.log SELECT OLD.*; RETURN OLD; END", "to audit.log"),
        ('BEGIN insert  into "Audit" . "Log" VALUES (OLD.*); RETURN OLD; END', "to Audit.Log"),
        ("BEGIN INSERT INTO app.message_tools VALUES (1); INSERT INTO App.Index VALUES (2); END", "to app.index"),
        ("BEGIN INSERT INTO message_tools VALUES (1); RETURN NULL; END", None),
        ("BEGIN /* insert into audit.log */ RETURN NEW; -- perform it\nEND", None),
        ("BEGIN EXECUTE format('INSERT INTO %I', TG_ARGV[0]) USING OLD; END", "somewhere that its text does not say"),
        ("BEGIN PERFORM pg_notify('changes', row_to_json(OLD)::text); RETURN OLD; END", "somewhere that its text"),
        (None, "somewhere that nobody can tell"),
    ],
)
def test_where_a_trigger_puts_what_it_sees(source: str | None, where: str | None) -> None:
    found = of_copier(_function(source), {"app.messages", "app.message_tools"})
    assert (found is None) if where is None else (found is not None and found.startswith(where))


def test_a_function_known_to_change_the_row_alone_is_no_copy() -> None:
    assert of_copier(_function(None, "public.moddatetime"), ()) is None


@pytest.mark.parametrize(
    ("publication", "says"),
    [
        (Publication("p", "app.accounts"), None),
        (Publication("p", "app.accounts", deletes=False), "tells them of no DELETE."),
        (Publication("p", "app.accounts", deletes=False, updates=False), "tells them of no DELETE and no UPDATE."),
        (Publication("p", "app.messages", partitioned=True), "dropped or replaced is told to nobody."),
        (Publication("p", "app.messages", partitioned=True, by_partition=True), "publish_via_partition_root = true"),
    ],
)
def test_what_subscribers_are_not_told(publication: Publication, says: str | None) -> None:
    found = of_publication(publication)
    assert (found is None) if says is None else (found is not None and says in found)


def test_copies_are_told_until_somebody_says_who_ends_them(store: Store, tmp_path: Path) -> None:
    """On a real catalogue; one that is bound or excluded, or follows by itself, is told of to nobody."""
    store.sql("CREATE PUBLICATION outward FOR TABLE app.messages WITH (publish_via_partition_root = true)")
    store.sql("CREATE PUBLICATION whole FOR TABLE app.accounts")
    store.sql(_KEEPER)
    found = cover(store)
    assert found.passed, "a copy is a warning: somebody may well end it"
    assert [warning.split(" to subscribers")[0].split(" (DELETE)")[0] for warning in found.warnings] == [
        "publication outward sends app.messages",
        "trigger keeper on app.messages",
        "rule keeping on app.feedback",
    ]
    assert "may copy rows to audit.log. Bind the table" in found.warnings[1]
    assert "- {table: app.messages, trigger: keeper, reason: ..., until: ...}" in found.warnings[1]
    assert (found.second_copies, found.as_dict()["second_copies"]) == (3, 3)
    entries = [
        f"  - {{publication: outward, until: 2027-06-30, {REASON}}}\n",
        f"  - {{table: app.messages, trigger: keeper, until: 2027-06-30, {REASON}}}\n",
        f"  - {{table: app.feedback, trigger: keeping, until: 2027-06-30, {REASON}}}\n",
    ]
    declared = cover(store, with_text(tmp_path, more="\nexclusions:\n" + "".join(entries)))
    assert (declared.warnings, declared.second_copies, declared.unused_exclusions) == ((), 0, 0)
    table = f"\nexclusions:\n  - {{table: audit.log, until: 2027-06-30, {REASON}}}\n"
    assert cover(store, with_text(tmp_path, more=table)).second_copies == 1, "what the table holds is decided there"


def test_a_publication_of_single_partitions_and_a_trigger_of_one_are_those_of_their_table(store: Store) -> None:
    store.sql("CREATE PUBLICATION outward FOR TABLE app.messages")
    store.sql(_KEEPER)
    store.sql("DROP TRIGGER keeper ON app.messages; DROP RULE keeping ON app.feedback")
    store.sql(
        "CREATE TRIGGER one AFTER DELETE ON app.messages_beta_default FOR EACH ROW EXECUTE FUNCTION audit.keep();"
        "CREATE TRIGGER off BEFORE DELETE ON app.messages FOR EACH ROW EXECUTE FUNCTION audit.keep();"
        "ALTER TABLE app.messages DISABLE TRIGGER off;"
        "CREATE TRIGGER counts AFTER DELETE ON app.messages FOR EACH STATEMENT EXECUTE FUNCTION audit.keep()"
    )
    found = cover(store).warnings
    assert len(found) == 2, "a trigger that is off, or sees no row, copies nothing"
    assert "It sends each partition under its own name" in found[0]
    assert found[1].startswith("trigger one on app.messages (DELETE) runs audit.keep and may copy rows to audit.log")


def test_the_audit_counts_them_and_fails_of_nothing(store: Store) -> None:
    store.sql("CREATE PUBLICATION outward FOR TABLE app.messages")
    with store.connect() as conn:
        checks = {check.name: check for check in audit(conn, store.s3, load_configuration(), AS_OF).checks}
    found = checks["coverage_second_copies"]
    assert (found.success, found.severity, found.violations) == (False, Severity.WARNING, 1)


def test_a_column_that_names_large_objects_is_a_difference(store: Store, tmp_path: Path) -> None:
    """A row holds their number, and PostgreSQL deletes nothing of them with it: the content outlives its record."""
    store.sql("ALTER TABLE app.messages ADD COLUMN attachment oid")
    assert cover(store).passed, "there is none to name"
    store.sql("SELECT lo_from_bytea(0, 'a secret')")
    item = only(cover(store))
    assert (item.kind, item.name) == ("column", "app.messages.attachment")
    assert "may name a large object, which stays when its row goes" in item.suspected[1]
    assert "vacuumlo" in item.remedies[0].say
    entry = f"\nexclusions:\n  - {{table: app.messages, column: attachment, until: 2027-06-30, {REASON}}}\n"
    assert cover(store, with_text(tmp_path, more=entry)).passed


def test_a_server_that_logs_what_is_written_is_a_warning(store: Store) -> None:
    """Also where only the application's role or database has it so."""
    name = store.value("SELECT current_database()")
    store.sql(f'ALTER DATABASE "{name}" SET log_statement = mod')
    assert [warning.split(":")[0] for warning in cover(store).warnings] == [
        "log_statement = mod",
        "log_statement = mod (of a role or database)",
    ]
    store.sql(f'ALTER DATABASE "{name}" RESET log_statement')
    assert cover(store).warnings == ()
