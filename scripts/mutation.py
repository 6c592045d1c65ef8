"""Mutation testing of the pure core: every mutant that Cosmic Ray's operators make of it is judged by its fast tests.

    python scripts/mutation.py [FILE ...] [--json report.json]

Cosmic Ray makes the mutants; this script judges them. A mutant lives in a forked process only, in place of the module
it was made from, so that nothing on disk changes, and what the tests need beside the package is imported once: a mutant
costs about a second. What could not change the behaviour is not counted, and is said so: mutants of annotations, which
nothing evaluates, and `is` written as `==` (or the reverse) where None and members of enumerations are compared.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.abc
import importlib.machinery
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "include"
TESTS = ROOT / "tests"
TIMEOUT_SECONDS = 120
# Examples of a property test; the tables come first and kill most.
FEW, MANY = 20, 300
DECIDE, PERIODS, CHECKS, CUTOFFS = (
    "policy/test_decide.py",
    "policy/test_periods.py",
    "policy/test_checks.py",
    "planning/test_cutoffs.py",
)
# Which tests judge the mutants of a file, those that are likely to notice first.
TARGETS = {
    "policy/decide.py": (DECIDE, CUTOFFS),
    "policy/periods.py": (PERIODS, DECIDE, CHECKS),
    "policy/models.py": (CHECKS, DECIDE),
    "policy/checks.py": (CHECKS,),
    "policy/more_checks.py": (CHECKS,),
    "planning/cutoffs.py": (CUTOFFS, DECIDE),
}
# Pydantic reads the annotations of its models; elsewhere nobody evaluates them.
ANNOTATIONS_MATTER = ("policy/models.py",)
KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"


@dataclass(frozen=True)
class Mutant:
    file: str
    operator: str
    source: str
    line: int
    diff: str


class Bare(ast.NodeTransformer):
    """Takes out what nobody evaluates, and writes identity and equality alike."""

    def __init__(self, *, fields: bool) -> None:
        self._fields = fields

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if self._fields:
            node.annotation = ast.Constant(value=None)
        return self.generic_visit(node)


class Alike(ast.NodeTransformer):
    """``is`` as ``==``: the core compares with None and with members of enumerations, which are one object each."""

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        alike: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Is: ast.Eq, ast.IsNot: ast.NotEq}
        if all(_single(side) for side in node.comparators):
            node.ops = [alike.get(type(op), type(op))() for op in node.ops]
        return self.generic_visit(node)


def _single(side: ast.expr) -> bool:
    """None, a member of an enumeration, or a name that holds one (``trigger``)."""
    if isinstance(side, ast.Constant):
        return side.value is None
    if isinstance(side, ast.Attribute):
        return isinstance(side.value, ast.Name) and side.value.id[0].isupper()
    return isinstance(side, ast.Name) and side.id == "trigger"


def meaning(source: str, file: str) -> tuple[str, str]:
    """The source as far as it is evaluated, and the same with identity and equality alike."""
    tree = Bare(fields=file not in ANNOTATIONS_MATTER).visit(ast.parse(source))
    bare = ast.dump(tree)
    return bare, ast.dump(Alike().visit(tree))


def mutants_of(file: str) -> Iterator[Mutant | str]:
    """Every mutant; the reason instead of one that cannot behave otherwise."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    original = (PACKAGE / "lifecycle" / file).read_text(encoding="utf-8")
    bare, alike = meaning(original, file)
    seen = {bare}
    for name in sorted(operator_names()):
        operator_class = get_operator(name)
        if operator_class.arguments():
            continue
        operator = operator_class()
        count = sum(1 for node in ast_nodes(get_ast(original)) for _ in operator.mutation_positions(node))
        for occurrence in range(count):
            source = mutate_code(original, operator, occurrence)
            if source is None:
                continue
            try:
                this, this_alike = meaning(source, file)
            except SyntaxError:
                continue
            if this == bare:
                yield "only an annotation"
            elif this_alike == alike:
                yield "identity as equality"
            elif this not in seen:
                seen.add(this)
                yield _mutant(file, name, original, source)


def _mutant(file: str, operator: str, original: str, source: str) -> Mutant:
    old, new = original.splitlines(), source.splitlines()
    line = next((n for n, pair in enumerate(zip(old, new, strict=False), 1) if pair[0] != pair[1]), len(old))
    diff = [text for text in difflib.unified_diff(old, new, n=0, lineterm="") if text[:2] not in ("--", "++", "@@")]
    return Mutant(file, operator, source, line, "\n".join(diff))


class InPlaceOf(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a mutant where its module is asked for."""

    def __init__(self, module: str, source: str) -> None:
        self._module, self._source = module, source

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == self._module else None

    def exec_module(self, module: Any) -> None:
        code: CodeType = compile(self._source, f"<mutant of {self._module}>", "exec")
        exec(code, module.__dict__)  # noqa: S102


def judge(mutant: Mutant, tests: Sequence[str]) -> str:
    """Run the tests on a mutant: with few examples, and with all of them if it survives those."""
    verdict = _try(mutant, tests, FEW)
    return _try(mutant, tests, MANY) if verdict == SURVIVED else verdict


def _try(mutant: Mutant, tests: Sequence[str], examples: int) -> str:
    """In a process of its own."""
    child = os.fork()
    if child == 0:
        os._exit(_run(mutant, tests, examples))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return TIMED_OUT if os.WTERMSIG(status) == signal.SIGALRM else KILLED
    return SURVIVED if os.WEXITSTATUS(status) == 0 else KILLED


def _run(mutant: Mutant, tests: Sequence[str], examples: int) -> int:
    import hypothesis
    import pytest

    # A slow machine kills no mutant, and the same examples come every time.
    hypothesis.settings.register_profile(
        "mutation", deadline=None, derandomize=True, database=None, max_examples=examples
    )
    hypothesis.settings.load_profile("mutation")
    signal.alarm(TIMEOUT_SECONDS)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    module = "lifecycle." + mutant.file.removesuffix(".py").replace("/", ".")
    sys.meta_path.insert(0, InPlaceOf(module, mutant.source))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-x", "-q", "--noconftest", "-p", "no:cacheprovider", "-c", os.devnull, "--import-mode=importlib"]
    return int(pytest.main([*options, f"--rootdir={ROOT}", *(str(TESTS / test) for test in tests)]))


def _warm() -> None:
    """What every mutant's tests import, except for the package under test."""
    sys.path[:0] = [str(PACKAGE), str(TESTS)]
    for name in ("pytest", "hypothesis.strategies", "pydantic", "yaml", "dateutil.relativedelta", "oracle.oracle"):
        __import__(name)
    ours = [name for name in sys.modules if name.split(".")[0] == "lifecycle"]
    if ours:
        raise SystemExit(f"imported too early: {', '.join(ours)}")


def examine(file: str) -> dict[str, Any]:
    """Judge every mutant of a file."""
    tests, began = TARGETS[file], time.monotonic()
    none = Mutant(file, "none", (PACKAGE / "lifecycle" / file).read_text(encoding="utf-8"), 0, "")
    if judge(none, tests) != SURVIVED:
        raise SystemExit(f"{file}: its tests fail without any mutation")
    verdicts = {KILLED: 0, SURVIVED: 0, TIMED_OUT: 0}
    same: dict[str, int] = {}
    survivors = []
    mutants = []
    for found in mutants_of(file):
        if isinstance(found, str):
            same[found] = same.get(found, 0) + 1
        else:
            mutants.append(found)
    # In an order that tells something before the end.
    random.Random(file).shuffle(mutants)
    for number, found in enumerate(mutants, 1):
        verdict = judge(found, tests)
        verdicts[verdict] += 1
        if number % 25 == 0:
            print(f"{file}: {number - verdicts[SURVIVED]} of {number} killed, {len(mutants)} in all", flush=True)
        if verdict == SURVIVED:
            survivors.append({"line": found.line, "operator": found.operator, "diff": found.diff})
            print(f"{file}:{found.line} survived ({found.operator})\n{found.diff}", flush=True)
    total = sum(verdicts.values())
    killed = total - verdicts[SURVIVED]
    seconds = time.monotonic() - began
    print(f"{file}: {killed} of {total} killed ({killed / total:.1%}), not counted {same}, {seconds:.0f} s", flush=True)
    return {"file": file, "killed": killed, "total": total, "not_counted": same, "survivors": survivors, "s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", choices=[*TARGETS, []], help="default: all")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--goal", type=float, default=0.95, help="share that must be killed")
    asked = parser.parse_args()
    _warm()
    reports = [examine(file) for file in asked.files or TARGETS]
    killed, total = sum(report["killed"] for report in reports), sum(report["total"] for report in reports)
    print(f"all: {killed} of {total} mutants killed ({killed / total:.1%})")
    if asked.json:
        asked.json.write_text(json.dumps(reports, indent=1), encoding="utf-8")
    sys.exit(0 if killed >= asked.goal * total else 1)


if __name__ == "__main__":
    main()
