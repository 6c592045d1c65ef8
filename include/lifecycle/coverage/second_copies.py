"""What sends rows of bound tables elsewhere, where no run reaches: subscribers, triggers, rules. Pure.

A second copy outlives the deadline of its source unless somebody ends it there (hard case 24). It is told as a warning,
since nothing here can see whether somebody does; an exclusion says that, and by when it is to be looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

from lifecycle.coverage.facts import Copier, Publication

_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_NAME = r'(?:"[^"]+"|\w+)'
_INSERTS = re.compile(rf"\binsert\s+into\s+({_NAME}(?:\s*\.\s*{_NAME})?)", re.IGNORECASE)
# Through these a function does what its text does not say.
_HIDDEN = re.compile(r"\b(execute|perform|call|copy|merge|notify|pg_notify|dblink\w*|http\w*)\b", re.IGNORECASE)
# Functions of PostgreSQL's own extensions that change the row itself and nothing else.
_HARMLESS = frozenset({"moddatetime", "autoinc", "insert_username"})


def of_publication(found: Publication) -> str | None:
    """What is wrong with the copy that subscribers have of a bound table; None where it follows by itself."""
    if found.by_partition:
        also = (
            " It sends each partition under its own name: a subscriber stops at the first row of one that it does not"
            " have, and days are not merged; ALTER PUBLICATION ... SET (publish_via_partition_root = true)."
        )
    else:
        also = ""
    if found.partitioned:
        return f"and a partition that is dropped or replaced is told to nobody.{also}"
    missing = [event for event, told in (("DELETE", found.deletes), ("UPDATE", found.updates)) if not told]
    return f"and tells them of no {' and no '.join(missing)}." if missing else None


def of_copier(found: Copier, governed: Collection[str]) -> str | None:
    """Where a trigger or rule may put what it sees of a row; None where that is nowhere, or bound or excluded.

    Args:
        governed: names of the tables that something binds or excludes.
    """
    if found.kind == "rule":
        return _targets(found.writes, governed)
    if found.function.rsplit(".", 1)[-1] in _HARMLESS:
        return None
    if found.source is None:
        return "somewhere that nobody can tell, since its source is not PL/pgSQL"
    text = _COMMENTS.sub(" ", found.source)
    if _HIDDEN.search(text):
        return "somewhere that its text does not say (dynamic SQL, a call, a notification)"
    return _targets([_plain(name) for name in _INSERTS.findall(text)], governed)


def _targets(names: Collection[str], governed: Collection[str]) -> str | None:
    loose = sorted({name for name in names if not _is_governed(name, governed)})
    return f"to {', '.join(loose)}" if loose else None


def _is_governed(name: str, governed: Collection[str]) -> bool:
    """A name without a schema is looked for in all of them: which one it is, is known at run time only."""
    return name in governed if "." in name else any(each.split(".", 1)[1] == name for each in governed)


def _plain(name: str) -> str:
    parts = re.findall(_NAME, name)
    return ".".join(part[1:-1] if part.startswith('"') else part.lower() for part in parts)


def second_copies(
    publications: Collection[Publication],
    copiers: Collection[Copier],
    bound: Collection[str],
    governed: Collection[str],
    accepted: Callable[[Publication | Copier], bool],
) -> Iterator[str]:
    """Each copy that nobody declared, in a sentence with its remedy.

    Args:
        accepted: whether an exclusion names it. Asked of everything that sees bound tables, needed or not.
    """
    for sent in publications:
        if sent.table not in bound or accepted(sent):
            continue
        wrong = of_publication(sent)
        if wrong is not None:
            yield (
                f"publication {sent.name} sends {sent.table} to subscribers, {wrong} Dispose of the rows there too,"
                f" and say so below exclusions: - {{publication: {sent.name}, reason: ..., until: ...}}"
            )
    for copier in copiers:
        if copier.table not in bound or accepted(copier):
            continue
        where = of_copier(copier, governed)
        if where is not None:
            acts = f" runs {copier.function} and" if copier.function else ""
            yield (
                f"{copier.kind} {copier.name} on {copier.table} ({' or '.join(copier.events)}){acts} may copy rows"
                f" {where}. Bind the table it writes to, or say below exclusions why no rule is needed:"
                f" - {{table: {copier.table}, trigger: {copier.name}, reason: ..., until: ...}}"
            )
