"""What the guard does where somebody calls out: the control of all that is run without a network."""

from __future__ import annotations

import socket

from tests.contract.clients.checks import check


@check
def calls_outside() -> None:
    socket.create_connection(("192.0.2.1", 9), 5)  # TEST-NET-1 of RFC 5737: nobody is there
