"""The statements by which one table takes the place of another under the same name, in one transaction. Pure.

The same moves serve the switch (ordinary table to tree) and the way back. What names the table by its identity, not
its name, is moved: triggers, policies, grants, comments, sequences, publications, statistics, views, functions, and
foreign keys of other tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from lifecycle.stores.postgres.online.build import add_check
from lifecycle.stores.postgres.online.facts import Dependant, Grant, Name, Policy, SequenceFacts, TableFacts, Trigger
from lifecycle.stores.postgres.online.text import raw, stmt

_ENABLED = {"D": "DISABLE TRIGGER", "R": "ENABLE REPLICA TRIGGER", "A": "ENABLE ALWAYS TRIGGER"}
_COMMANDS = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE", "*": "ALL"}
_SEQUENCE_WORDS = {
    "start": "START WITH ",
    "increment": "INCREMENT BY ",
    "minimum": "MINVALUE ",
    "maximum": "MAXVALUE ",
    "cache": "CACHE ",
    "cycle": "",
}


@dataclass(frozen=True)
class Side:
    """A table that hands over or takes over: ``aside`` is its name when it does not have the table's."""

    facts: TableFacts
    aside: Name
    aside_relations: tuple[str, ...]


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key of another table before and after; a definition of None means that it is not there."""

    table: Name
    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Handover:
    """``relations``: the names, under the table's own, of indexes (in the order of both sides' aside names)."""

    table: Name
    source: Side
    target: Side
    relations: tuple[str, ...]
    keys: tuple[ForeignKey, ...]

    def locks(self) -> list[sql.Composed]:
        """In the order in which the application takes them: what refers to the table first, then the table."""
        children = sorted({key.table for key in self.keys}, key=str)
        views = [found.name for found in self.source.facts.dependants if found.kind == "v"]
        return [
            *[stmt("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", name.identifier) for name in children],
            *[stmt("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", name.identifier) for name in views],
            stmt("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", self.table.identifier),
            stmt("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", self.target.aside.identifier),
        ]

    def statements(self) -> list[sql.Composed]:
        source, target = self.source.facts, self.target.facts
        return [
            *self._release(),
            *self._rename(),
            *_take_grants("TABLE", self.table.identifier, target.grants, source.grants),
            *_row_security(self.table, source),
            *[_policy(self.table, policy) for policy in source.policies],
            *[made for trigger in source.triggers for made in _trigger(self.table, trigger)],
            *self._late_checks(),
            *_comments(self.table, source),
            *self._sequences(),
            *[_publish(found.name, "ADD", self.table) for found in source.publications],
            *[raw_statement(text) for _, text in source.statistics],
            *[_replace(found) for found in source.dependants],
            *self._keys_back(),
        ]

    def _release(self) -> list[sql.Composed]:
        source, table = self.source.facts, self.table.identifier
        return [
            *[stmt("ALTER PUBLICATION {} DROP TABLE {}", sql.Identifier(p.name), table) for p in source.publications],
            *[
                stmt("ALTER TABLE {} DROP CONSTRAINT {}", key.table.identifier, sql.Identifier(key.name))
                for key in self.keys
                if key.before is not None
            ],
            *[stmt("DROP TRIGGER {} ON {}", sql.Identifier(found.name), table) for found in source.triggers],
            *[stmt("DROP POLICY {} ON {}", sql.Identifier(found.name), table) for found in source.policies],
            *[stmt("DROP STATISTICS {}", name.identifier) for name, _ in source.statistics],
            *_security_off(table, source),
            *_revoke("TABLE", table, source.grants),
        ]

    def _rename(self) -> list[sql.Composed]:
        sibling = self.table.sibling
        moved = [
            stmt("ALTER INDEX {} RENAME TO {}", sibling(own).identifier, sql.Identifier(aside))
            for own, aside in zip(self.relations, self.source.aside_relations, strict=True)
        ]
        moved.append(stmt("ALTER TABLE {} RENAME TO {}", self.table.identifier, sql.Identifier(self.source.aside.name)))
        moved.append(stmt("ALTER TABLE {} RENAME TO {}", self.target.aside.identifier, sql.Identifier(self.table.name)))
        return moved + [
            stmt("ALTER INDEX {} RENAME TO {}", sibling(aside).identifier, sql.Identifier(own))
            for own, aside in zip(self.relations, self.target.aside_relations, strict=True)
        ]

    def _late_checks(self) -> list[sql.Composed]:
        """Checks that are NOT VALID hold for new rows only, on the other side too."""
        have = {found.name for found in self.target.facts.constraints}
        return [
            add_check(self.table.identifier, found)
            for found in self.source.facts.constraints
            if found.kind == "c" and not found.validated and found.name not in have
        ]

    def _sequences(self) -> list[sql.Composed]:
        made: list[sql.Composed] = []
        theirs = {found.column: found for found in self.target.facts.sequences}
        for found in self.source.facts.sequences:
            identity = self.source.facts.column(found.column).identity
            if not identity:
                made.append(
                    stmt(
                        "ALTER SEQUENCE {} OWNED BY {}.{}",
                        found.name.identifier,
                        self.table.identifier,
                        sql.Identifier(found.column),
                    )
                )
                continue
            aside = f"{self.source.aside.name}_{found.column}_seq"[:63]
            made.append(stmt("ALTER SEQUENCE {} RENAME TO {}", found.name.identifier, sql.Identifier(aside)))
            if (own := theirs.get(found.column)) is not None:
                made.append(
                    stmt("ALTER SEQUENCE {} RENAME TO {}", own.name.identifier, sql.Identifier(found.name.name))
                )
            else:
                made.append(_identity(self.table, found, always=identity == "a"))
            made += _position(found)
            made += _grant("SEQUENCE", found.name.identifier, found.grants)
        return made

    def _keys_back(self) -> list[sql.Composed]:
        """NOT VALID: what the tables hold is checked afterwards, without keeping writers out."""
        return [
            stmt(
                "ALTER TABLE {} ADD CONSTRAINT {} {} NOT VALID",
                key.table.identifier,
                sql.Identifier(key.name),
                raw(key.after.removesuffix(" NOT VALID")),
            )
            for key in self.keys
            if key.after is not None
        ]


def raw_statement(text: str) -> sql.Composed:
    return sql.Composed([raw(text)])


def _role(name: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if not name else sql.Identifier(name)


def _revoke(kind: str, on: sql.Identifier, grants: Iterable[Grant]) -> list[sql.Composed]:
    roles = dict.fromkeys(grant.grantee for grant in grants)
    return [stmt("REVOKE ALL ON {} {} FROM {}", raw(kind), on, _role(role)) for role in roles]


def _grant(kind: str, on: sql.Identifier, grants: Iterable[Grant]) -> list[sql.Composed]:
    return [
        stmt(
            "GRANT {}{} ON {} {} TO {}{}",
            raw(grant.privilege),
            stmt(" ({})", sql.Identifier(grant.column)) if grant.column is not None else sql.SQL(""),
            raw(kind),
            on,
            _role(grant.grantee),
            sql.SQL(" WITH GRANT OPTION" if grant.grantable else ""),
        )
        for grant in grants
    ]


def _take_grants(kind: str, on: sql.Identifier, have: Sequence[Grant], wanted: Sequence[Grant]) -> list[sql.Composed]:
    """Exactly the grants of the other side; a new table may have got some by default privileges."""
    return _revoke(kind, on, have) + _grant(kind, on, wanted)


def _security_off(table: sql.Identifier, facts: TableFacts) -> list[sql.Composed]:
    if not facts.row_security and not facts.force_row_security:
        return []
    return [stmt("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY", table)]


def _row_security(table: Name, facts: TableFacts) -> list[sql.Composed]:
    made = []
    if facts.row_security:
        made.append(stmt("ALTER TABLE {} ENABLE ROW LEVEL SECURITY", table.identifier))
    if facts.force_row_security:
        made.append(stmt("ALTER TABLE {} FORCE ROW LEVEL SECURITY", table.identifier))
    return made


def _policy(table: Name, policy: Policy) -> sql.Composed:
    return stmt(
        "CREATE POLICY {} ON {} AS {} FOR {} TO {}{}{}",
        sql.Identifier(policy.name),
        table.identifier,
        sql.SQL("PERMISSIVE" if policy.permissive else "RESTRICTIVE"),
        raw(_COMMANDS[policy.command]),
        sql.SQL(", ").join(_role(role) for role in policy.roles),
        stmt(" USING ({})", raw(policy.using)) if policy.using else sql.SQL(""),
        stmt(" WITH CHECK ({})", raw(policy.check)) if policy.check else sql.SQL(""),
    )


def _trigger(table: Name, trigger: Trigger) -> list[sql.Composed]:
    name = sql.Identifier(trigger.name)
    made = [raw_statement(trigger.definition)]
    if trigger.enabled in _ENABLED:
        made.append(stmt("ALTER TABLE {} {} {}", table.identifier, raw(_ENABLED[trigger.enabled]), name))
    if trigger.comment is not None:
        made.append(stmt("COMMENT ON TRIGGER {} ON {} IS {}", name, table.identifier, sql.Literal(trigger.comment)))
    return made


def _comments(table: Name, facts: TableFacts) -> list[sql.Composed]:
    made = []
    if facts.comment is not None:
        made.append(stmt("COMMENT ON TABLE {} IS {}", table.identifier, sql.Literal(facts.comment)))
    made += [
        stmt(
            "COMMENT ON COLUMN {}.{} IS {}", table.identifier, sql.Identifier(column.name), sql.Literal(column.comment)
        )
        for column in facts.columns
        if column.comment is not None
    ]
    made += [
        stmt(
            "COMMENT ON CONSTRAINT {} ON {} IS {}",
            sql.Identifier(found.name),
            table.identifier,
            sql.Literal(found.comment),
        )
        for found in facts.constraints
        if found.comment is not None and found.kind in "pcf"
    ]
    return made


def _identity(table: Name, found: SequenceFacts, *, always: bool) -> sql.Composed:
    words = [raw(_SEQUENCE_WORDS[key] + value) for key, value in found.options]
    return stmt(
        "ALTER TABLE {} ALTER COLUMN {} ADD GENERATED {} AS IDENTITY (SEQUENCE NAME {} {})",
        table.identifier,
        sql.Identifier(found.column),
        sql.SQL("ALWAYS" if always else "BY DEFAULT"),
        found.name.identifier,
        sql.SQL(" ").join(words),
    )


def _position(found: SequenceFacts) -> list[sql.Composed]:
    if found.last is None:
        return []
    return [stmt("SELECT setval({}::regclass, {})", sql.Literal(_text(found.name)), sql.Literal(found.last))]


def _text(name: Name) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (name.schema, name.name))


def _publish(publication: str, verb: str, table: Name) -> sql.Composed:
    return stmt("ALTER PUBLICATION {} {} TABLE {}", sql.Identifier(publication), raw(verb), table.identifier)


def _replace(found: Dependant) -> sql.Composed:
    """In place: identity, owner, grants, comments and whatever is built upon it stay as they are."""
    if found.kind == "f":
        return raw_statement(found.definition)
    options = [option.partition("=") for option in found.options]
    shown = [stmt("{} = {}", sql.Identifier(key), sql.Literal(value)) for key, _, value in options]
    return stmt(
        "CREATE OR REPLACE VIEW {}{} AS {}",
        found.name.identifier,
        stmt(" WITH ({})", sql.SQL(", ").join(shown)) if shown else sql.SQL(""),
        raw(found.definition),
    )


def validate_keys(keys: Iterable[ForeignKey]) -> list[sql.Composed]:
    return [
        stmt("ALTER TABLE {} VALIDATE CONSTRAINT {}", key.table.identifier, sql.Identifier(key.name))
        for key in keys
        if key.after is not None and not key.after.endswith(" NOT VALID")
    ]
