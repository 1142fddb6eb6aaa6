"""What every reading of the record does: an auditor's key, an entry of its own, a safe screen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from appliance import config
from appliance.audit.entry import Kind
from appliance.audit.recipients import Identity, parse_identity
from appliance.cli.base import command_gateway, warn
from appliance.cli.init import DEV_IDENTITY
from appliance.config import Home
from appliance.control import RecordReading
from appliance.errors import SetupError

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def on_record(
    home: Home,
    database: Path | None,
    kind: Kind,
    public: dict[str, str | int],
    content: dict[str, Any],
) -> None:
    """A reading goes on the record before its result is shown."""
    if database is not None:
        warn("reading a copy: this can not be put on the record")
        return
    command_gateway(home, RecordReading(event=str(kind), public=public, content=content))


def identity_of(home: Home, path: Path | None) -> Identity:
    """The auditor's key pair: from the file, or in profile dev the home's own."""
    if path is None:
        path = home.keys / DEV_IDENTITY
        if config.load(home).profile != "dev" or not path.is_file():
            raise SetupError(
                "reading needs an auditor's identity",
                code="identity_required",
                hint="pass --identity FILE",
            )
        warn("using the identity that profile 'dev' keeps in the home; production has none here")
    return parse_identity(path.read_text(encoding="utf-8"))


def safe(text: str) -> str:
    """Content is foreign: control characters could rewrite the auditor's screen (ASVS 16.4.1)."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
