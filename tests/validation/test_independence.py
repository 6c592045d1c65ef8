"""The auditor shares nothing with the deleting code but the connection (hard case 7)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import lifecycle.backstop
import lifecycle.coverage
import lifecycle.validation

PACKAGE = Path(lifecycle.validation.__file__).parent
# What the auditor calls to compare what exists with what is configured.
COVERAGE = Path(lifecycle.coverage.__file__).parent
# And to compare the rules that S3 carries out with those that the policy asks for.
BACKSTOP = Path(lifecycle.backstop.__file__).parent
# What deletes, what decides what is deleted, and the SQL and S3 code they use.
FORBIDDEN = (
    "lifecycle.planning",
    "lifecycle.dispositions",
    "lifecycle.orchestration",
    "lifecycle.ledger",
    "lifecycle.policy.decide",
    "lifecycle.stores",
)
CONNECTION = "lifecycle.stores.postgres.connect"


def is_forbidden(name: str) -> bool:
    """Whether a module, or a name in a module, is not the auditor's business."""
    if name == CONNECTION or name.startswith(f"{CONNECTION}.") or CONNECTION.startswith(f"{name}."):
        return False
    return any(name == root or name.startswith(f"{root}.") for root in FORBIDDEN)


def imports_of(file: Path) -> set[str]:
    """Every module that a file names in an import, those inside functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("lifecycle")}


def test_no_module_names_the_deleting_code() -> None:
    files = sorted([*PACKAGE.rglob("*.py"), *COVERAGE.rglob("*.py"), *BACKSTOP.rglob("*.py")])
    assert len(files) > 25
    assert {file.name: bad for file in files if (bad := sorted(filter(is_forbidden, imports_of(file))))} == {}


def test_importing_the_auditor_loads_none_of_it() -> None:
    """The whole import graph, not only the first step of it. Nothing heavy is loaded either."""
    script = (
        "import sys, importlib, pkgutil, lifecycle.validation as v, lifecycle.coverage as c, lifecycle.backstop as b\n"
        "for package in (v, c, b):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "print('\\n'.join(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if is_forbidden(name)] == []
    heavy = {"great_expectations", "pandas", "boto3", "pyarrow", "airflow", "jinja2"}
    assert heavy.isdisjoint(loaded)


def test_no_query_calls_the_deleting_codes_functions() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py"))
    assert "period_end" not in text
