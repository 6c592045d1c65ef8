"""Writes .env for docker compose: .env.example with a random value for every secret that is empty there."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def filled(example: str) -> str:
    """The example with a fresh secret after every bare `NAME=`; 64 bytes or more, as Airflow's JWT secret needs."""
    lines = example.splitlines()
    return "\n".join(
        f"{line}{secrets.token_hex(36)}" if line.endswith("=") and not line.startswith("#") else line for line in lines
    )


def main() -> None:
    target = ROOT / ".env"
    if target.exists():
        sys.exit(".env exists already; remove it first to get new secrets")
    text = filled((ROOT / ".env.example").read_text(encoding="utf-8")) + "\n"
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    print(f"wrote {target.name}; the login is admin with the ADMIN_PASSWORD in it")


if __name__ == "__main__":
    main()
