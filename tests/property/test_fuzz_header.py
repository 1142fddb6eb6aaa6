"""The header's parser under a fuzzer that sees what its bytes reach: a short run, the same one each time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_no_bytes_make_the_parser_fail() -> None:
    """Twenty thousand mutations of good files: each is refused in words, or is a header that holds."""
    words = [sys.executable, "-m", "tests.property.fuzz_header", "-runs=20000", "-seed=7"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"Done 2\d{4} runs", done.stderr)
