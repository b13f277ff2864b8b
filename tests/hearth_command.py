"""`hearth` as somebody types it, run within the test: a process of its own would import for a second first."""

from __future__ import annotations

from typer.testing import CliRunner

from router.cli.main import app


def hearth_says(url: str, key: str, *words: str, code: int = 0) -> tuple[str, str]:
    """What a command for this server writes to stdout and stderr; it must end with this exit code."""
    given = {"HEARTH_URL": url, "HEARTH_API_KEY": key, "HEARTH_CONFIG": None, "COLUMNS": "200"}
    done = CliRunner().invoke(app, words, env=given)
    assert done.exit_code == code, f"exit code {done.exit_code}\n{done.output}\n{done.exception!r}"
    return done.stdout, done.stderr
