"""A command that only asks the running gateway starts at once: it loads no database and no web framework."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"sqlalchemy", "alembic", "fastapi", "pydantic"}


@pytest.mark.parametrize("command", ["key", "account", "model", "prompt", "policy", "tls", "bundle"])
def test_a_command_loads_what_it_needs(command: str) -> None:
    """Nor does the program itself, for whoever asks for help."""
    code = f"import sys, appliance.cli.{command}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not HEAVY & set(done.stdout.split())
