"""What locked packages could open connections with, read from their installed files; nothing is imported.

`python -m tests.house.dependencies` prints the list that `tests/vectors/dependencies/clients.json` keeps.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
LOCKS: Final = (ROOT / "deploy/lock/runtime.txt", ROOT / "deploy/lock/llama.txt")
CLIENTS: Final = frozenset(
    {
        *("socket", "ssl", "socketserver", "http.client", "http.server", "urllib.request", "xmlrpc.client"),
        *("xmlrpc.server", "ftplib", "smtplib", "poplib", "imaplib", "nntplib", "telnetlib", "webbrowser"),
        *("urllib3", "requests", "httpx", "httpcore", "aiohttp", "websockets", "wsproto", "grpc", "paramiko"),
        *("huggingface_hub", "boto3", "google.cloud", "azure", "hvac", "sigstore"),
        *("opentelemetry.sdk", "opentelemetry.exporter", "sentry_sdk", "logfire", "posthog", "segment"),
    }
)
# Functions that native code asks the C library for, or curl, where it speaks to a network.
NATIVE: Final = (b"getaddrinfo", b"gethostbyname", b"gethostbyname_r", b"sendto", b"curl_easy_init")
_HASHED: Final = re.compile(r"(-[0-9a-f]{8})?(\.[\w-]+)?\.so(\.\d+)*$")  # what auditwheel adds, ABI, version


def locked() -> set[str]:
    """Every package that a bundle installs."""
    lines = [line for lock in LOCKS for line in lock.read_text(encoding="utf-8").splitlines()]
    return {match[1] for line in lines if (match := re.match(r"([a-z][a-z0-9-]*)==", line))}


def clients() -> dict[str, dict[str, list[str]]]:
    """Package → module or library → the network clients that it imports. Those without any are left out."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in sorted(locked()):
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of another platform
            continue
        hits: dict[str, list[str]] = {}
        for file in package.files or []:
            path = Path(str(package.locate_file(file)))
            if file.suffix == ".py" and "tests" not in file.parts:
                hits[str(file)] = sorted(set(_imported(ast.parse(path.read_bytes()))))
            elif ".so" in file.suffixes or file.suffix == ".so":
                called = [each.decode() for each in NATIVE if b"\0" + each + b"\0" in path.read_bytes()]
                hits[_HASHED.sub(".so", str(file))] = called
        if told := {module: each for module, each in sorted(hits.items()) if each}:
            found[name] = told
    return found


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        else:
            continue
        yield from (client for name in names for client in CLIENTS if f"{name}.".startswith(f"{client}."))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(clients(), indent=1) + "\n")
