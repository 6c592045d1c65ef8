"""``python -m lifecycle``."""

from lifecycle.cli.main import app

app(prog_name="lifecycle")
