"""The formats of objects that hold many records, told by the end of their names."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from lifecycle.stores.s3 import jsonl, parquet
from lifecycle.stores.s3.records import LogFields, Tally, UnreadableObjectError


class Form(Protocol):
    """What a file format must be able to do; the modules jsonl and parquet are such."""

    def scan(self, path: Path, fields: LogFields, tally: Tally) -> None: ...
    def rewrite(self, source: Path, target: Path, fields: LogFields, tally: Tally) -> None: ...
    def differences(self, one: Path, other: Path) -> list[str]: ...
    def unlike(self, source: Path, target: Path, fields: LogFields, changed: int) -> list[str]: ...


_FORMS: dict[str, ModuleType] = {".jsonl": jsonl, ".jsonl.gz": jsonl, ".jsonl.zst": jsonl, ".parquet": parquet}


def form_of(key: str) -> Form:
    """The format of an object.

    Raises:
        UnreadableObjectError: its name does not tell.
    """
    for suffix, module in _FORMS.items():
        if key.endswith(suffix):
            return cast(Form, module)
    raise UnreadableObjectError(
        "an object's name does not tell its format",
        f"give it a name that ends in {', '.join(_FORMS)}, or keep it out of the dataset's prefix",
    )
