"""``--store`` on every command: one store, or several one after the other, each with an outcome of its own.

There is no transaction across databases. What several stores are asked for is done in each by itself, told for each,
and may be asked for again: a store in which it stands already is left as it is.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import typer

from lifecycle.cli.failures import TRACEBACK, in_store, told
from lifecycle.cli.output import collecting, emit, say
from lifecycle.deployment import ALL, STORE_VARIABLE, Store, store_named, stores, using
from lifecycle.errors import LifecycleError

if TYPE_CHECKING:
    from lifecycle.stores.postgres.connect import Connection

Command = TypeVar("Command", bound=Callable[..., Any])
_SEVERAL, _EVERY = "of_several_stores", "of_every_store"
_ONE = Annotated[
    str | None,
    typer.Option("--store", metavar="NAME", envvar=STORE_VARIABLE, show_envvar=True, help="Which store to work on."),
]
_MANY = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="NAME",
        envvar=STORE_VARIABLE,
        show_envvar=True,
        help="Which store to work on; several with commas, or `all`.",
    ),
]
# The names of the stores of this invocation, where there are several, and what they have in common.
_names: ContextVar[tuple[str, ...]] = ContextVar("names_of_stores", default=())
_common: ContextVar[dict[str, Any] | None] = ContextVar("common_to_stores", default=None)


@dataclass
class Outcome:
    """What became of a command in one store."""

    store: str
    passed: bool = True
    error: str | None = None
    results: list[Any] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        result = self.results[0] if len(self.results) == 1 else (self.results or None)
        return {"store": self.store, "passed": self.passed, "error": self.error, "result": result}


def several(command: Command) -> Command:
    """Mark a command as one that may be asked of several stores at once: it reads, or doing it twice is as once."""
    setattr(command, _SEVERAL, True)
    return command


def of_every_store(command: Command) -> Command:
    """Mark a command that looks at all stores by itself: it takes no ``--store``."""
    setattr(command, _EVERY, True)
    return command


def in_common(name: str, find: Callable[[Sequence[str]], Any]) -> Any:
    """Something that all stores of this invocation share; None where there is one store.

    Args:
        find: makes it of the names of the stores, the first time.
    """
    shared = _common.get()
    if shared is None:
        return None
    if name not in shared:
        shared[name] = find(_names.get())
    return shared[name]


def earlier_in(names: Sequence[str], look: Callable[[Connection], UUID | None]) -> UUID | None:
    """The first id that one of the stores knows. A store that cannot be asked says so when its turn comes."""
    import psycopg

    from lifecycle.stores.postgres.connect import connect

    for name in names:
        try:
            with using(name), connect() as conn:
                found = look(conn)
        except (LifecycleError, psycopg.Error):
            continue
        if found is not None:
            return found
    return None


def in_several() -> bool:
    """Is this one of several stores that the command is asked of?"""
    return _common.get() is not None


def give_store(app: typer.Typer) -> None:
    """Give every command below an application the option ``--store``."""
    for command in app.registered_commands:
        command.callback = with_store(command.callback) if command.callback is not None else None
    for group in app.registered_groups:
        inner = group.typer_instance
        if inner is None:
            continue
        if (own := inner.registered_callback) is not None and own.callback is not None:
            own.callback = with_store(own.callback)
        give_store(inner)


def with_store(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same command with ``--store``."""
    if getattr(command, _EVERY, False):
        return command
    signature = inspect.signature(command, eval_str=True)
    many = getattr(command, _SEVERAL, False)
    option = inspect.Parameter(
        "store", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_MANY if many else _ONE
    )

    @wraps(command)
    def chosen(*args: Any, store: str | None = None, **named: Any) -> Any:
        names = _wanted(store)
        if len(names) < 2:
            with in_store(names[0] if names else None):
                return command(*args, **named)
        if not many:
            raise typer.BadParameter("this command works on one store at a time", param_hint="--store")
        return _in_each(names, command, args, named)

    chosen.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), option]
    )
    return chosen


def _wanted(given: str | None) -> list[str]:
    """The stores that are meant, each once; an unknown name is refused before anything is done."""
    if not given:
        return []
    if given.strip() == ALL:
        return [store.name for store in stores()]
    names = list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    return [store_named(name).name for name in names]


def _in_each(names: Sequence[str], command: Callable[..., Any], args: Any, named: dict[str, Any]) -> None:
    json = bool(named.get("json", False))
    with _shared(names):
        outcomes = [_outcome(name, command, args, named, json) for name in names]
    failed = [outcome.store for outcome in outcomes if not outcome.passed]
    if json:
        emit({"passed": not failed, "stores": [outcome.as_dict() for outcome in outcomes]}, True, str)
    if failed:
        say(f"failed in {len(failed)} of {len(outcomes)} stores: {', '.join(failed)}")
        raise typer.Exit(1)


@contextmanager
def _shared(names: Sequence[str]) -> Iterator[None]:
    before = _names.set(tuple(names)), _common.set({})
    try:
        yield
    finally:
        _names.reset(before[0])
        _common.reset(before[1])


def _outcome(name: str, command: Callable[..., Any], args: Any, named: dict[str, Any], json: bool) -> Outcome:
    """Run the command in one store. Whatever goes wrong there is told, and the next store has its turn."""
    outcome = Outcome(name)
    if not json:
        emit(name, False, lambda shown: f"-- store {shown}")
    try:
        with in_store(name), collecting(outcome.results if json else None):
            command(*args, **named)
    except typer.Exit as ended:
        outcome.passed = ended.exit_code == 0
        outcome.error = None if outcome.passed else "said no: see its result"
    except typer.BadParameter as error:
        _failed(outcome, f"error: {error.message}")
    except LifecycleError as error:
        _failed(outcome, told(error))
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        _failed(outcome, told(error))
    return outcome


def _failed(outcome: Outcome, message: str) -> None:
    outcome.passed, outcome.error = False, message
    say(f"store {outcome.store}: {message}")


def each_store() -> Iterator[Store]:
    """Every store in turn, as the current one."""
    for store in stores():
        with using(store.name if store.declared else None):
            yield store
