"""A copy of a log's schema by `pg_dump`, which the server's vendor keeps and everybody can restore."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from appliance import durable
from appliance.errors import SetupError


def passfile(directory: Path, password: str) -> Path:
    """A libpq password file that fits every host: a password must stand in no command line."""
    path = directory / "pgpass"
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    durable.write_file(path, f"*:*:*:*:{escaped}\n".encode())
    return path


def dump(conninfo: str, schema: str, role: str | None, target: Path) -> None:
    """One consistent snapshot of the schema, in pg_dump's own format. SetupError where it fails."""
    program = shutil.which("pg_dump")
    arguments = [
        "--format=custom",
        f"--schema={schema}",
        "--no-password",
        *([f"--role={role}"] if role else []),
    ]
    if program is None:
        raise SetupError(
            "pg_dump is not installed on this host",
            code="backup_tool_missing",
            hint=f"install the server's client package, or run where it is: pg_dump {' '.join(arguments)} "
            "--file=FILE, and pass --backup FILE to appliance db upgrade",
        )
    # Made for its owner only, before pg_dump would make it with the process's umask.
    durable.write_file(target, b"")
    done = subprocess.run(  # noqa: S603 - a list, and a program of the host
        [program, *arguments, f"--file={target}", f"--dbname={conninfo}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        target.unlink()
        raise SetupError(
            f"the backup failed: {' '.join(done.stderr.split())}",
            code="backup_failed",
            hint="pg_dump must be of the server's version or newer",
        )
