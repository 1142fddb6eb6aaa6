"""What our programs hold in memory: no core dump, no debugger, no more privileges than they were given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import gateway
from tests.needed import missing

PROGRAM = """
from appliance import unseen
import ctypes, os, sys
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
os.setgid(65534)
os.setuid(65534)
CLOSE
print(libc.prctl(3, 0, 0, 0, 0), flush=True)
sys.stdin.read()
"""


def test_gateway_is_closed_to_its_own_user(tmp_path: Path) -> None:
    """The kernel says so of the running process: its memory is root's, and no core is written."""
    with gateway(tmp_path / "home") as running:
        process = Path(f"/proc/{running.pid}")
        status = dict(line.split(":\t") for line in (process / "status").read_text().splitlines())
        assert status["NoNewPrivs"] == "1"
        assert (process / "mem").stat().st_uid == 0
        assert "Max core file size        0                    0" in (process / "limits").read_text()


@pytest.mark.parametrize("closed", [True, False])
def test_same_user_reads_no_memory_that_is_closed(*, closed: bool) -> None:
    """Another process of the same user opens the memory of one that is not closed, and of no other."""
    if os.geteuid() != 0:
        missing("only root can become somebody else")
    close = "unseen.close_memory()" if closed else ""
    reader = (
        "import os, sys\n"
        "os.setgid(65534)\n"
        "os.setuid(65534)\n"
        "try:\n"
        "    open(f'/proc/{sys.argv[1]}/mem', 'rb').close()\n"
        "except OSError as error:\n"
        "    print(type(error).__name__)\n"
        "else:\n"
        "    print('opened')\n"
    )
    # Imported before the user changes: a checkout may be closed to others. Changing it closes the memory,
    # too, so that the control opens it again.
    program = "from appliance import unseen\n" + PROGRAM.replace(
        "CLOSE", close or "libc.prctl(4, 1, 0, 0, 0)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{int(not closed)}\n"
        seen = subprocess.run(
            [sys.executable, "-c", reader, str(process.pid)], capture_output=True, text=True, check=True
        )
        process.communicate("")
    assert seen.stdout.strip() == ("PermissionError" if closed else "opened")
