"""What all these programs share: where the appliance is, which checks there are, what became of each.

`python -m tests.contract.clients.checks MODULE…` runs the checks of these modules in the order in which
they stand there, and prints `{"check", "problem"}` for each; the problem is null where there is none.
Standard library only: it runs in every client's environment.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

URL = os.environ.get("APPLIANCE_URL", "")
KEY = os.environ.get("APPLIANCE_KEY", "")
OPERATOR_KEY = os.environ.get("APPLIANCE_OPERATOR_KEY", "")
AUDITOR_KEY = os.environ.get("APPLIANCE_AUDITOR_KEY", "")
MODEL = os.environ.get("APPLIANCE_MODEL", "default")
MODEL_ID = "smollm2-135m-instruct"

Check = Callable[[], None]
_CHECKS: list[Check] = []
_HERE = Path(__file__).resolve().parent


def check(function: Check) -> Check:
    """Registers a check. It fails by raising."""
    _CHECKS.append(function)
    return function


def calling(*calls: tuple[str, str]) -> str:
    """A question that the fake model answers with these calls: (name, arguments as JSON)."""
    texts = (f'<tool_call>{{"name": "{name}", "arguments": {given}}}</tool_call>' for name, given in calls)
    return f"echo: {''.join(texts)}"


def told(problem: BaseException) -> str:
    """A problem in few lines: what it is, and where in our own file it showed."""
    frames = [each for each in traceback.extract_tb(problem.__traceback__) if str(_HERE) in each.filename]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""
    return f"{type(problem).__name__}: {problem}{place}"[:2000]


def main() -> None:
    for name in sys.argv[1:]:
        module = importlib.import_module(f"tests.contract.clients.{name}")
        for function in [each for each in _CHECKS if each.__module__ == module.__name__]:
            problem = None
            try:
                function()
            except BaseException as error:
                problem = told(error)
            print(json.dumps({"check": f"{name}.{function.__name__}", "problem": problem}), flush=True)


if __name__ == "__main__":
    # As `__main__` this file is another module than the one that checks import: theirs has the list.
    importlib.import_module("tests.contract.clients.checks").main()
