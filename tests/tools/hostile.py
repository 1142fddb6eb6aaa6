"""`python -m tests.tools.hostile`: the whole corpus of hostile files, each on the whole way of an import.

Files that pass the header in Python get a process of their own. The result is kept in tests/tools/hostile.md.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from appliance.config import Home
from appliance.engine_settings import Engine
from appliance.importing import importing
from appliance.importing.importing import Wanted
from appliance.importing.refusals import FileRefused
from tests.ggufs import make
from tests.hostile import corpus, tensors, tiny


def attempt(home: Home, folder: Path, data: bytes) -> FileRefused | None:
    """One file on the whole way of an import; None where it was taken."""
    file = folder / "offered.gguf"
    file.write_bytes(data)
    try:
        with importing.examined(home, Wanted(file), Engine(), list):
            return None
    except FileRefused as error:
        return error


def main() -> int:
    """The whole corpus; 1 where one of them was taken."""
    began = time.monotonic()
    codes: Counter[str] = Counter()
    taken = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        home = Home(root=folder / "home")
        home.root.mkdir()
        good = attempt(home, folder, bytes(make(tiny(), tensors()).data))
        if good is not None:
            sys.stdout.write(f"the control was refused: {good.code}: {good.message}\n")
            return 1
        shutil.rmtree(home.models)
        for name, data in corpus():
            refusal = attempt(home, folder, data)
            if refusal is None:
                taken.append(name)
            else:
                codes[refusal.code] += 1
            sys.stdout.write(f"{refusal.code if refusal else 'TAKEN':24}{name[:120]!r}\n")
        left = [path for path in home.models.rglob("*") if path.is_file() and path.name != ".importing"]
    sys.stdout.write(f"\n{sum(codes.values())} refused, {len(taken)} taken, {len(left)} files left behind, ")
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
    for code, count in codes.most_common():
        sys.stdout.write(f"{count:6} {code}\n")
    return 1 if taken or left else 0


if __name__ == "__main__":
    sys.exit(main())
