"""A release that calls home, for the controls of test_egress: one packet of the kind that LEAK names.

Only in the gateway's own process; nobody else is made to.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys

_OUTSIDE, _OUTSIDE6 = "198.51.100.7", "2001:db8:1::7"


def _leak(kind: str) -> None:
    if kind == "name":
        socket.getaddrinfo("updates.example", 443)
    elif kind == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"alive", (_OUTSIDE, 4318))
    else:
        family = socket.AF_INET6 if kind == "tcp6" else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(0.5)
            sock.connect((_OUTSIDE6 if kind == "tcp6" else _OUTSIDE, 443))


if "tests.fakes.serve" in sys.orig_argv:
    with contextlib.suppress(OSError):
        _leak(os.environ["LEAK"])
