"""A release that costs nothing: the commands that an installer gives, over a real home with a real database.

It lies in a bundle as `app/appliance/__main__.py`. `fate.json` beside it says its schema and what goes wrong.
The record is a chain of SHA-256 in SQLite; `head` remembers size and root, as the real one does.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FATE = json.loads(Path(__file__).with_name("fate.json").read_text(encoding="utf-8"))
KEY = "apk_" + secrets.token_hex(8)
_WRITING = threading.Lock()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def fails(what: str) -> bool:
    return what in FATE["fails"]


@contextlib.contextmanager
def opened(home: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(home / "appliance.db", isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        yield database
    finally:
        database.close()


def schema(database: sqlite3.Connection) -> str:
    return str(database.execute("SELECT revision FROM version").fetchone()[0])


def append(home: Path, text: str) -> int:
    """One entry; its number."""
    with _WRITING, opened(home) as database:
        size, root = last(database)
        database.execute("INSERT INTO entry VALUES (?, ?, ?)", (size, text, link(root, text)))
        (home / ".head").write_text(f"fake/1\n{size + 1}\n{link(root, text)}\n", encoding="utf-8")
        (home / ".head").replace(home / "head")
        return size


def last(database: sqlite3.Connection) -> tuple[int, str]:
    row = database.execute("SELECT seq, root FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
    return (row[0] + 1, row[1]) if row else (0, "")


def link(root: str, text: str) -> str:
    return hashlib.sha256(f"{root}\n{text}".encode()).hexdigest()


def init(home: Path) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    if (home / "head").exists():
        return
    (home / "keys").mkdir(exist_ok=True)
    (home / "keys/log.ed25519").write_bytes(b"secret")
    (home / "keys/log.vkey").write_bytes(b"public")
    (home / "lock").touch()
    if not (home / "appliance.toml").exists():
        (home / "appliance.toml").write_text("", encoding="utf-8")
    with sqlite3.connect(home / "shares.db") as shares:
        shares.execute("CREATE TABLE share (id)")
    with opened(home) as database:
        database.execute("CREATE TABLE version (revision)")
        database.execute("INSERT INTO version VALUES (?)", (FATE["schema"],))
        database.execute("CREATE TABLE entry (seq INTEGER PRIMARY KEY, text, root)")
    append(home, "begun")


def upgrade(home: Path) -> None:
    if (home / "keys/home.slots").exists() and sys.stdin.read() != "what opens it":
        sys.exit("the home is sealed")
    with opened(home) as database:
        if schema(database) == FATE["schema"]:
            return
        database.execute("UPDATE version SET revision = ?", (FATE["schema"],))
        if fails("migration"):
            sys.exit("the migration failed half way")
    append(home, f"upgraded to {FATE['schema']}")


def verify(home: Path) -> None:
    with opened(home) as database:
        root = ""
        for seq, (text, found) in enumerate(database.execute("SELECT text, root FROM entry ORDER BY seq")):
            root = link(root, text)
            if root != found:
                sys.exit(f"entry {seq} is not what it was")
        size, _ = last(database)
    if (home / "head").read_text(encoding="utf-8").splitlines()[1:] != [str(size), root]:
        sys.exit("the head remembers another log")


class Gateway(BaseHTTPRequestHandler):
    home: Path

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if (self.home / "probation").exists():
            self.send_error(503)
            return
        seq = append(self.home, "a caller's question")
        body = json.dumps({"choices": [{"finish_reason": "stop", "message": {"content": "yes"}}]}).encode()
        self.send_response(500 if fails("answer") else 200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-audit-record", f"fake/1/{seq}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: Any) -> None:
        pass


def serve(home: Path, words: list[str]) -> None:
    if fails("start") and "--kiosk-key" not in words:
        sys.exit("does not start")
    with (home / "lock").open("r+") as lock, opened(home) as database:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if schema(database) != FATE["schema"]:
            sys.exit("the schema is another one")
        verify(home)
        append(home, "started")
        Gateway.home = home
        server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (home / "port").write_text(str(server.server_port), encoding="utf-8")
        (home / "control.sock").unlink(missing_ok=True)
        control = socket.socket(socket.AF_UNIX)
        fd = os.open(home, os.O_RDONLY)
        control.bind(f"/proc/self/fd/{fd}/control.sock")
        control.listen()
        threading.Thread(target=answer, args=(control, home), daemon=True).start()
        say(f"listening on http://127.0.0.1:{server.server_port} (home {home})")
        say(f"kiosk key (24 hours, shown this once): {KEY}")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            while True:
                time.sleep(3600)
        finally:
            append(home, "stopped")


def answer(control: socket.socket, home: Path) -> None:
    while True:
        peer, _ = control.accept()
        with peer, peer.makefile("rw") as stream:
            asked = json.loads(stream.readline())
            if asked["ask"] == "test":
                found: dict[str, Any] = {"ready": not fails("health"), "model": "tiny"}
                if asked["generate"]:
                    found["record"] = f"fake/1/{append(home, 'its own test')}"
            elif asked["ask"] == "open":
                (home / "probation").unlink(missing_ok=True)
                found = {"ready": True}
            else:
                found = {"ready": True, "record": f"fake/1/{append(home, asked['text'])}"}
            stream.write(json.dumps(found) + "\n")


def ask(home: Path, **asked: Any) -> dict[str, Any] | None:
    """What the running gateway answers; None where none runs."""
    fd = os.open(home, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(f"/proc/self/fd/{fd}/control.sock")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        with peer.makefile("rw") as stream:
            stream.write(json.dumps(asked) + "\n")
            stream.flush()
            found: dict[str, Any] = json.loads(stream.readline())
            return found


def restore(home: Path, copy: Path) -> None:
    (home / "archive").mkdir(exist_ok=True)
    (home / "appliance.db").replace(home / "archive/appliance.db")
    (home / "appliance.db").write_bytes(copy.read_bytes())


def main(words: list[str]) -> None:
    home = Path(words[words.index("--home") + 1]) if "--home" in words else Path()
    result: dict[str, Any] = {}
    match words[:2]:
        case ["init", *_]:
            init(home)
        case ["serve", *_]:
            serve(home, words)
        case ["db", "status"]:
            with opened(home) as database:
                result = {"revision": schema(database), "database": str(home / "appliance.db")}
        case ["db", "upgrade"]:
            upgrade(home)
        case ["db", "restore"]:
            restore(home, Path(words[2]))
        case ["audit", "verify"]:
            verify(home)
        case ["doctor", "--live"]:
            result = ask(home, ask="test", generate="--no-answer" not in words) or {}
            if not result.get("ready"):
                sys.exit("the gateway is not ready")
        case ["bundle", "open"]:
            if ask(home, ask="open") is None:
                sys.exit("no gateway runs")
        case ["bundle", "tell"]:
            text = sys.stdin.read()
            if ask(home, ask="tell", text=text) is None:
                append(home, text)
        case ["bundle", "settle"]:
            pass
        case ["bundle", "install"]:  # what install.sh hands over to
            result = {"words": words}
        case _:
            sys.exit(f"what is {words}?")
    say(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
