"""A kiosk, or a lobby full of them: a program of Python's own library that asks until it is told to stop.

`python kiosk.py URL KEY CALLERS SECONDS STOP`: each attempt is one line of JSON, `{"status": 200, "record":
…}`, or `{"refused": why}` where nobody answered. It stops when the file STOP is there.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

QUESTION = {
    "model": "default",
    "messages": [{"role": "user", "content": "Where is room 12?"}],
    "max_tokens": 4,
    "temperature": 0,
}


def ask(url: str, key: str) -> dict[str, Any]:
    """One question and what became of it. A failure behind the first byte of an answer is "cut"."""
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    begun = False
    try:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(QUESTION), headers)
        answer = connection.getresponse()
        begun = True
        body = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        return {"cut" if begun else "refused": type(error).__name__}
    finally:
        connection.close()
    found = {"status": answer.status, "record": answer.getheader("x-audit-record", "")}
    if answer.status != http.HTTPStatus.OK:
        return found | {"code": body["error"]["code"]}
    return found | {"finish_reason": body["choices"][0]["finish_reason"]}


def main(url: str, key: str, callers: int, seconds: float, stop: Path) -> None:
    """Ask, one after the other, with so many callers."""
    deadline = time.monotonic() + seconds
    writing = threading.Lock()

    def call() -> None:
        while time.monotonic() < deadline and not stop.exists():
            line = json.dumps(ask(url, key))
            with writing:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
            time.sleep(0.1 if '"finish_reason"' in line else 0.3)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5]))
