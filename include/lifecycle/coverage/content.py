"""What the values of a column look like, by column statistics; where there are none, by a bounded sample.

The values stay in the database, in temporary tables of this session: what leaves are counts, and the names of columns
whose ids were found. Only names of JSON keys come out, to be compared with names that are known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from psycopg import errors, sql

from lifecycle.catalog.models import Catalog
from lifecycle.coverage.bindings import Identifier, bound_by, identifiers_of
from lifecycle.coverage.facts import Column, Content, Form, Relation, Sign
from lifecycle.stores.postgres.connect import Connection

SAMPLE_ROWS = 1_000
# A partition tree shows what it holds in its largest partitions; all of them would cost thousands of statistics.
LEAVES = 5
VALUE_CHARS = 10_000
TOKENS_PER_COLUMN = 50
SAMPLE_SECONDS = 20
# An identifier column without an index is compared only while its table is small.
SMALL_ROWS = 200_000
_KEYS_PER_COLUMN = 500
_UUID = r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}"
_ANY_ID = r"[A-Za-z0-9][A-Za-z0-9_-]{11,63}"
_PATTERNS: Mapping[Sign, str] = {
    Sign.EMAIL: r"[a-z0-9._%+-]+@[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,}",
    Sign.PHONE: r'^"?((\+|00)[1-9][0-9 ()./-]{6,18}[0-9]|\(?[0-9]{3}\)?[ .-][0-9]{3}[ .-][0-9]{4})"?$',
    Sign.IP: r'^"?((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}(/[0-9]{1,2})?'
    r'|(?=[0-9a-f:]*([a-f]|::))([0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(/[0-9]{1,3})?)"?$',
    Sign.OBJECT: r"(s3a?|gs)://|^[A-Za-z0-9=._-]+/([A-Za-z0-9=._-]+/)*[^/ ]*[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}",
}
# A single address in a price list is no list of people: so many values, or such a share of them, must look alike.
_ENOUGH, _SHARE = 5, 0.1
_READ_CATEGORIES = frozenset("SUAXCI")
_STATISTICS: Final = """
    WITH wanted AS (
        SELECT * FROM unnest(%(oids)s::bigint[], %(names)s::text[]) AS w (relation, name)
    ), parts AS (
        SELECT w.relation, n.nspname, c.relname, row_number() OVER (
                   PARTITION BY w.relation ORDER BY c.oid = w.relation DESC, c.reltuples DESC, c.oid DESC) AS place
          FROM (SELECT DISTINCT relation FROM wanted) w
          CROSS JOIN LATERAL (
              SELECT w.relation::oid AS oid
              UNION SELECT t.relid FROM pg_partition_tree(w.relation::oid) t WHERE t.isleaf) p
          JOIN pg_class c ON c.oid = p.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    )
    INSERT INTO {} SELECT w.relation, w.name, left(v.value, %(chars)s)
      FROM parts p JOIN wanted w USING (relation)
      JOIN pg_stats s ON s.schemaname = p.nspname AND s.tablename = p.relname AND s.attname = w.name
      CROSS JOIN LATERAL unnest(coalesce(s.most_common_vals::text::text[], '{{}}')
          || coalesce(s.histogram_bounds::text::text[], '{{}}')
          || coalesce(s.most_common_elems::text::text[], '{{}}')) AS v (value)
     WHERE p.place <= %(leaves)s AND v.value IS NOT NULL
"""
_VALUES, _TOKENS = sql.Identifier("pg_temp", "coverage_values"), sql.Identifier("pg_temp", "coverage_tokens")


def read_content(
    conn: Connection, relations: Mapping[int, Relation], catalog: Catalog
) -> dict[tuple[int, str], Content]:
    """Content of the undeclared columns of every readable relation but views, by oid and name of the column."""
    wanted = dict(_wanted(relations, catalog))
    with _tables(conn):
        _load_statistics(conn, wanted)
        for oid, relation in relations.items():
            missing = [column for column in wanted.get(oid, ()) if not _has_values(conn, oid, column.name)]
            if missing:
                _sample(conn, oid, relation.name, missing)
        signs = _signs(conn)
        keys = _json_keys(conn)
        identifiers = _overlaps(conn, relations, catalog)
    return {
        place: Content(
            frozenset(signs.get(place, ())), frozenset(identifiers.get(place, ())), frozenset(keys.get(place, ()))
        )
        for place in {*signs, *keys, *identifiers}
    }


def _wanted(relations: Mapping[int, Relation], catalog: Catalog) -> Iterator[tuple[int, tuple[Column, ...]]]:
    bound = bound_by(catalog)
    for oid, relation in relations.items():
        if relation.form is Form.VIEW or not relation.readable:
            continue
        declared = bound[relation.name].declared if relation.name in bound else frozenset()
        columns = tuple(
            column for column in relation.columns if column.category in _READ_CATEGORIES and column.name not in declared
        )
        if columns:
            yield oid, columns


@contextmanager
def _tables(conn: Connection) -> Iterator[None]:
    for table, columns in (
        (_VALUES, "(relation bigint NOT NULL, name text NOT NULL, value text NOT NULL)"),
        (_TOKENS, "(relation bigint NOT NULL, name text NOT NULL, token text NOT NULL, id uuid)"),
    ):
        conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        conn.execute(sql.SQL("CREATE TEMPORARY TABLE {} {}").format(table, sql.SQL(columns)))
    try:
        yield
    finally:
        for table in (_VALUES, _TOKENS):
            conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))


def _load_statistics(conn: Connection, wanted: Mapping[int, tuple[Column, ...]]) -> None:
    """Common values, histogram bounds and common elements of the wanted columns; of a tree those of its parts too."""
    pairs = [(oid, column.name) for oid, columns in wanted.items() for column in columns]
    conn.execute(
        sql.SQL(_STATISTICS).format(_VALUES),
        {
            "oids": [oid for oid, _ in pairs],
            "names": [name for _, name in pairs],
            "chars": VALUE_CHARS,
            "leaves": LEAVES + 1,
        },
    )


def _has_values(conn: Connection, oid: int, name: str) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE relation = %s AND name = %s)").format(_VALUES)
    row = conn.execute(query, (oid, name)).fetchone()
    return bool(row and row[0])


def _sample(conn: Connection, oid: int, table: str, columns: Iterable[Column]) -> None:
    """The first rows of a table that nobody analysed, or of columns that statistics leave out (json, wide values)."""
    shown = sql.SQL(", ").join(
        sql.SQL("({}, {})").format(sql.Literal(column.name), _as_text(column)) for column in columns
    )
    query = sql.SQL(
        "INSERT INTO {} SELECT %s, x.name, left(x.value, %s) FROM (SELECT * FROM {} LIMIT %s) AS r"
        " CROSS JOIN LATERAL (VALUES {}) AS x (name, value) WHERE x.value IS NOT NULL"
    ).format(_VALUES, sql.Identifier(*table.split(".", 1)), shown)
    try:
        with conn.transaction():
            conn.execute("SELECT set_config('statement_timeout', %s, true)", (f"{SAMPLE_SECONDS}s",))
            conn.execute(query, (oid, VALUE_CHARS, SAMPLE_ROWS))
    except (
        errors.InsufficientPrivilege,
        errors.QueryCanceled,
        errors.LockNotAvailable,
        errors.UndefinedTable,  # dropped since it was listed
        errors.UndefinedColumn,
    ):
        # Names and types still speak; a table of which no column may be read is a difference by itself.
        return


def _as_text(column: Column) -> sql.Composable:
    name = sql.Identifier("r", column.name)
    if column.type == "bytea":
        return sql.SQL("encode(substring({} FROM 1 FOR {}), 'escape')").format(name, sql.Literal(VALUE_CHARS))
    return sql.SQL("{}::text").format(name)


def _signs(conn: Connection) -> dict[tuple[int, str], set[Sign]]:
    counts = sql.SQL(", ").join(
        sql.SQL("count(*) FILTER (WHERE value ~* {})").format(sql.Literal(pattern)) for pattern in _PATTERNS.values()
    )
    rows = conn.execute(
        sql.SQL("SELECT relation, name, count(*), {} FROM {} GROUP BY 1, 2").format(counts, _VALUES)
    ).fetchall()
    found: dict[tuple[int, str], set[Sign]] = defaultdict(set)
    for relation, name, total, *matching in rows:
        for sign, count in zip(_PATTERNS, matching, strict=True):
            if count >= _ENOUGH or count > _SHARE * total:
                found[(relation, name)].add(sign)
    return found


def _json_keys(conn: Connection) -> dict[tuple[int, str], set[str]]:
    """Names of keys in values that look like JSON objects or lists, and no more than a bounded number of them."""
    rows = conn.execute(
        sql.SQL(
            "SELECT k.relation, k.name, k.key FROM (SELECT d.*, row_number() OVER (PARTITION BY d.relation, d.name) AS"
            " place FROM (SELECT DISTINCT v.relation, v.name, m.found[1] AS key FROM {} v"
            " CROSS JOIN LATERAL regexp_matches(v.value, %s, 'g') AS m (found)"
            " WHERE left(ltrim(v.value), 1) IN ('{{', '[')) d) k WHERE k.place <= %s"
        ).format(_VALUES),
        (r'"([A-Za-z_][A-Za-z0-9_]{0,40})"\s*:', _KEYS_PER_COLUMN),
    ).fetchall()
    found: dict[tuple[int, str], set[str]] = defaultdict(set)
    for relation, name, key in rows:
        found[(relation, name)].add(key)
    return found


def _overlaps(conn: Connection, relations: Mapping[int, Relation], catalog: Catalog) -> dict[tuple[int, str], set[str]]:
    """Which columns hold ids of configured tables: what reads as an id in their values is looked up there."""
    _load_tokens(conn)
    found: dict[tuple[int, str], set[str]] = defaultdict(set)
    oids = {relation.name: oid for oid, relation in relations.items()}
    for identifier in identifiers_of(catalog, relations.values()):
        oid = oids[identifier.table]
        if not _may_look_up(conn, oid, relations[oid], identifier):
            continue
        rows: list[tuple[int, str]] = conn.execute(_lookup(identifier), {"own": oid}).fetchall()
        for relation, name in rows:
            found[(relation, name)].add(identifier.name)
    return found


def _load_tokens(conn: Connection) -> None:
    conn.execute(
        sql.SQL(
            "INSERT INTO {tokens} SELECT t.relation, t.name, t.token,"
            " CASE WHEN t.token ~* {whole} THEN t.token::uuid END"
            " FROM (SELECT d.*, row_number() OVER (PARTITION BY d.relation, d.name, d.token ~* {whole}) AS place FROM"
            " (SELECT DISTINCT v.relation, v.name, m.found[1] AS token FROM {values} v"
            " CROSS JOIN LATERAL regexp_matches(v.value, {any}, 'gi') AS m (found)) d) t"
            " WHERE t.place <= {most}"
        ).format(
            tokens=_TOKENS,
            values=_VALUES,
            whole=sql.Literal(f"^{_UUID}$"),
            any=sql.Literal(f"({_UUID}|{_ANY_ID})"),
            most=sql.Literal(TOKENS_PER_COLUMN),
        )
    )
    conn.execute(sql.SQL("ANALYZE {}").format(_TOKENS))


def _may_look_up(conn: Connection, oid: int, relation: Relation, identifier: Identifier) -> bool:
    """Whether looking values up is cheap, and whether they are distinctive: small numbers are in every table."""
    if not relation.readable or identifier.type not in ("uuid", "text", "character varying"):
        return False
    if relation.rows <= SMALL_ROWS:
        return True
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
        " AND a.attnum = i.indkey[0] WHERE i.indrelid = %s::bigint::oid AND a.attname = %s AND i.indpred IS NULL"
        " AND i.indisvalid)",
        (oid, identifier.column),
    ).fetchone()
    return bool(row and row[0])


def _lookup(identifier: Identifier) -> sql.Composed:
    """The columns of other tables that hold a value of an identifier."""
    value = sql.SQL("t.id") if identifier.type == "uuid" else sql.SQL("t.token")
    return sql.SQL(
        "SELECT DISTINCT t.relation, t.name FROM {tokens} t WHERE t.relation <> %(own)s AND {value} IS NOT NULL"
        " AND EXISTS (SELECT FROM {table} r WHERE {column} = {value})"
    ).format(
        tokens=_TOKENS,
        value=value,
        table=sql.Identifier(*identifier.table.split(".", 1)),
        column=sql.Identifier("r", identifier.column),
    )
