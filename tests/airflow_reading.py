"""Run as a process: reads connections (a JSON list of texts on stdin) as Airflow does; the answer goes to a file.

Not to stdout: Airflow logs there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def read(text: str) -> dict[str, Any]:
    from airflow.models.connection import Connection

    text = text.strip()
    try:
        found = Connection.from_json(text) if text[0] == "{" else Connection(uri=text)
        fields = ("conn_type", "host", "login", "password", "schema", "port")
        return {name: getattr(found, name, None) for name in fields} | {"extra": found.extra_dejson}
    except Exception as error:  # noqa: BLE001 - whatever Airflow raises, it refuses
        return {"refused": type(error).__name__}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps([read(text) for text in json.load(sys.stdin)]), encoding="utf-8")
