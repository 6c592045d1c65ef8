"""How the tests are spread over workers: nothing is lost, modules stay whole, one Airflow for all that need it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import pytest

from support.spread import END_TO_END, one_scheduler, slow_first


@dataclass(frozen=True)
class Item:
    nodeid: str
    marks: frozenset[str] = frozenset()

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


COLLECTED = [
    Item("tests/cli/test_a.py::one"),
    Item("tests/e2e/test_b.py::one", frozenset({"e2e"})),
    Item("tests/e2e/test_c.py::one", frozenset({"e2e", "browser"})),
    Item("tests/faults/test_d.py::quick"),
    Item("tests/faults/test_d.py::long", frozenset({"kill", "slow"})),
    Item("tests/named/test_e.py::one", frozenset({"slow"})),
    Item("tests/policy/test_f.py::one"),
]


def ordered(items: list[Item]) -> list[str]:
    return [item.nodeid for item in slow_first(cast("list[pytest.Item]", items))]


def test_end_to_end_first_then_kills_then_what_is_slow_then_the_rest_as_it_was() -> None:
    assert ordered([COLLECTED[0], *reversed(COLLECTED[1:])]) == [
        "tests/e2e/test_c.py::one",
        "tests/e2e/test_b.py::one",
        "tests/faults/test_d.py::long",
        "tests/faults/test_d.py::quick",
        "tests/named/test_e.py::one",
        "tests/cli/test_a.py::one",
        "tests/policy/test_f.py::one",
    ]


def test_nothing_is_lost_and_modules_stay_whole() -> None:
    found = ordered(COLLECTED)
    assert sorted(found) == sorted(item.nodeid for item in COLLECTED)
    modules = [nodeid.split("::")[0] for nodeid in found]
    assert len(set(modules)) == 1 + sum(one != other for one, other in pairwise(modules))


def scopes(pytestconfig: pytest.Config, dist: str) -> Any:
    """The scheduler for a command line with --dist."""

    class Config:
        option = pytestconfig.option

        def getvalue(self, name: str) -> Any:
            return {"dist": dist, "tx": ["2*popen"]}.get(name, False)

    return one_scheduler(cast("pytest.Config", Config()), None)


def test_all_end_to_end_tests_are_one_scope_and_other_modules_one_each(pytestconfig: pytest.Config) -> None:
    scope = scopes(pytestconfig, "loadscope")._split_scope
    assert {scope(f"{END_TO_END}/test_b.py::one"), scope(f"{END_TO_END}/test_c.py::one[x]")} == {END_TO_END}
    assert {scope("tests/policy/test_f.py::one"), scope("tests/policy/test_f.py::one[a::b]")} == {
        "tests/policy/test_f.py"
    }


def test_another_way_to_spread_is_left_alone(pytestconfig: pytest.Config) -> None:
    assert scopes(pytestconfig, "load") is None
