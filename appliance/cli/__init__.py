"""The `appliance` program: one file per command group, imported when it is asked for.

Exit codes: 0 done · 1 a check found something · 2 wrong usage or a request that can not be met ·
3 this host is not set up for it · 4 not now, try again · 70 a bug of ours.
"""

from __future__ import annotations

import importlib
import sys

import click

import appliance
from appliance import log as logging_setup
from appliance import unseen
from appliance.cli.base import report
from appliance.config import Log
from appliance.errors import ApplianceError

_COMMANDS = {
    "init": ("appliance.cli.init", "init"),
    "serve": ("appliance.cli.serve", "serve"),
    "key": ("appliance.cli.key", "key"),
    "prompt": ("appliance.cli.prompt", "prompt"),
    "policy": ("appliance.cli.policy", "policy"),
    "account": ("appliance.cli.account", "account"),
    "auditor": ("appliance.cli.auditor", "auditor"),
    "model": ("appliance.cli.model", "model"),
    "audit": ("appliance.cli.audit", "audit"),
    "tls": ("appliance.cli.tls", "tls"),
    "secrets": ("appliance.cli.secrets", "secrets"),
    "bundle": ("appliance.cli.bundle", "bundle"),
    "db": ("appliance.cli.db", "database"),
    "bench": ("appliance.cli.bench", "bench"),
    "doctor": ("appliance.cli.doctor", "doctor"),
}


class _Lazy(click.Group):
    """Commands load when they are used: `appliance key list` needs no web framework."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(appliance.__version__, prog_name="appliance")
def program() -> None:
    """An on-prem, air-gapped inference appliance.

    \b
    appliance init                         set up a home in ./var
    appliance serve                        answer on 127.0.0.1:8080
    appliance key create lobby --role kiosk
    appliance audit verify                 is the record whole?
    """


def main() -> None:
    """Entry point: errors of ours end in one line, a hint and an exit code, never in a traceback."""
    unseen.close_memory()  # a key, a passphrase, a record: most commands hold one for a moment
    logging_setup.configure(Log(level="error"))
    try:
        program.main(standalone_mode=False)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except ApplianceError as error:
        sys.exit(report(error))
