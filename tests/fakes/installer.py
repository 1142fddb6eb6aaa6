"""`python -m tests.fakes.installer STATE bundle …`: the program, which kills itself behind a journal's line.

`STATE`: as the journal writes it; `before:STATE` kills just before that line is written; `sh:STATE:WORDS`
runs a shell's command behind it instead; empty: it lives.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from appliance.bundle.install import journal
from appliance.cli import main

append = journal.append


def killing(path: Path, line: journal.Line) -> None:
    if wanted == f"before:{line.state}":
        os.kill(os.getpid(), signal.SIGKILL)
    append(path, line)
    if wanted.startswith(f"sh:{line.state}:"):
        subprocess.run(["/bin/sh", "-c", wanted.split(":", 2)[2]], check=True)
    if wanted == str(line.state):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    wanted = sys.argv.pop(1)
    journal.append = killing
    main()
