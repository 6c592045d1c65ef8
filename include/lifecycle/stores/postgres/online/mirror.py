"""The two trigger functions that keep the ordinary table and the tree equal, row by row, in the writer's transaction.

A change and its mirror commit together, so any snapshot taken after the copy sees the same rows on both sides. They
copy what the row *is* when they fire, not what the event said it was: a trigger of the application may have changed it
once more in between. They fire before every other trigger of the same kind, because names order them.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from lifecycle.stores.postgres.connect import Connection
from lifecycle.stores.postgres.online.facts import Name
from lifecycle.stores.postgres.online.text import idents, stmt

TRIGGER = sql.Identifier("!lifecycle_mirror")
TRUNCATE_TRIGGER = sql.Identifier("!lifecycle_mirror_truncate")
NOTHING = sql.SQL("BEGIN RETURN NULL; END")


@dataclass(frozen=True)
class Mirror:
    """``key`` is the extended key; ``old_key`` the ordinary table's own; ``columns`` what an INSERT names."""

    conversion: int
    table: Name
    root: Name
    parked: Name
    old_key: tuple[str, ...]
    key: tuple[str, ...]
    columns: tuple[str, ...]
    always_identity: frozenset[str]

    @property
    def forward(self) -> sql.Identifier:
        return sql.Identifier("lifecycle", f"partition_forward_{self.conversion}")

    @property
    def back(self) -> sql.Identifier:
        return sql.Identifier("lifecycle", f"partition_back_{self.conversion}")

    def forward_body(self) -> sql.Composed:
        """Ordinary table to tree. Rows may not have been copied yet, hence the upsert.

        In a transaction with one snapshot a DELETE would not see a row copied since; the upsert before it does, and
        fails as such a transaction's own conflicts fail (40001): it is to be repeated, and nothing is lost.
        """
        return stmt(
            """BEGIN
    IF TG_OP = 'TRUNCATE' THEN TRUNCATE {tree}; RETURN NULL; END IF;
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND ({old}) IS DISTINCT FROM ({new})) THEN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            INSERT INTO {tree} ({columns}) VALUES ({old_row}) ON CONFLICT ({key}) DO UPDATE SET {same};
        END IF;
        DELETE FROM {tree} t WHERE ({tree_key}) = ({old})
            AND NOT EXISTS (SELECT 1 FROM ONLY {table} s WHERE ({source_key}) = ({old}));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO {tree} ({columns}) SELECT {source} FROM ONLY {table} s WHERE ({source_old_key}) = ({new_old_key})
            ON CONFLICT ({key}) {update};
    END IF;
    RETURN NULL;
END""",
            tree=self.root.identifier,
            table=self.table.identifier,
            columns=idents(self.columns),
            source=idents(self.columns, "s"),
            old_row=idents(self.columns, "OLD"),
            key=idents(self.key),
            same=stmt("{0} = EXCLUDED.{0}", sql.Identifier(self.key[0])),
            tree_key=idents(self.key, "t"),
            source_key=idents(self.key, "s"),
            old=idents(self.key, "OLD"),
            new=idents(self.key, "NEW"),
            source_old_key=idents(self.old_key, "s"),
            new_old_key=idents(self.old_key, "NEW"),
            update=self._update(frozenset()),
        )

    def back_body(self) -> sql.Composed:
        """Tree to ordinary table, once the tree is the table; the old key is still enforced there."""
        more = tuple(name for name in self.key if name not in self.old_key)
        where = stmt(" WHERE ({}) = ({})", idents(more, "p"), idents(more, "EXCLUDED")) if more else sql.SQL("")
        return stmt(
            """BEGIN
    IF TG_OP = 'TRUNCATE' THEN TRUNCATE {parked}; RETURN NULL; END IF;
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND ({old}) IS DISTINCT FROM ({new})) THEN
        DELETE FROM ONLY {parked} p WHERE ({parked_key}) = ({old})
            AND NOT EXISTS (SELECT 1 FROM {table} t WHERE ({tree_key}) = ({old}));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO {parked} AS p ({columns}) OVERRIDING SYSTEM VALUE
            SELECT {source} FROM {table} t WHERE ({tree_key}) = ({new})
            ON CONFLICT ({old_key}) {update}{where};
        IF NOT FOUND AND EXISTS (SELECT 1 FROM {table} t WHERE ({tree_key}) = ({new})) THEN
            RAISE unique_violation USING MESSAGE = 'duplicate key: the table is being partitioned, and until that is '
                'finished its old primary key is enforced';
        END IF;
    END IF;
    RETURN NULL;
END""",
            parked=self.parked.identifier,
            table=self.table.identifier,
            columns=idents(self.columns),
            source=idents(self.columns, "t"),
            old_key=idents(self.old_key),
            parked_key=idents(self.key, "p"),
            tree_key=idents(self.key, "t"),
            old=idents(self.key, "OLD"),
            new=idents(self.key, "NEW"),
            update=self._update(self.always_identity),
            where=where,
        )

    def _update(self, but: frozenset[str]) -> sql.Composable:
        names = [name for name in self.columns if name not in self.key and name not in but]
        # A row of keys alone cannot differ; the assignment makes the conflict known all the same.
        names = names or [name for name in self.key if name not in but]
        each = [stmt("{0} = EXCLUDED.{0}", sql.Identifier(name)) for name in names]
        return stmt("DO UPDATE SET {}", sql.SQL(", ").join(each))

    def function(self, conn: Connection, name: sql.Identifier, body: sql.Composable) -> sql.Composed:
        """Runs with the rights of whoever partitions, since a writer has none on the other table."""
        return stmt(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_custom_plan"
            " AS {}",
            name,
            sql.Literal(body.as_string(conn)),
        )

    def triggers(self, on: Name, function: sql.Identifier) -> list[sql.Composed]:
        """ALWAYS: a logical replication worker is a writer too."""
        made = [
            stmt(
                "CREATE TRIGGER {} AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION {}()",
                TRIGGER,
                on.identifier,
                function,
            ),
            stmt(
                "CREATE TRIGGER {} AFTER TRUNCATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION {}()",
                TRUNCATE_TRIGGER,
                on.identifier,
                function,
            ),
        ]
        return made + [
            stmt("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}", on.identifier, name) for name in (TRIGGER, TRUNCATE_TRIGGER)
        ]

    def drop_triggers(self, on: Name) -> list[sql.Composed]:
        return [stmt("DROP TRIGGER IF EXISTS {} ON {}", name, on.identifier) for name in (TRIGGER, TRUNCATE_TRIGGER)]

    def drop_functions(self) -> list[sql.Composed]:
        return [stmt("DROP FUNCTION IF EXISTS {}()", name) for name in (self.forward, self.back)]
