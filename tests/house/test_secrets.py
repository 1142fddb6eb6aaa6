"""Secret files are read and written by `keyring` alone: a new one is sealed though nobody thinks of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent / "appliance"
# Public halves, and what works with files as they are.
AS_THEY_ARE = {
    ("audit/files.py", "write_verifiers"),
    ("audit/lineage.py", "write_verifiers"),
    ("keyring.py", ""),
    ("resealing.py", ""),
}
_METHODS = {"read_bytes", "read_text", "write_bytes", "write_text", "open", "replace", "rename"}
_FUNCTIONS = {"write_file", "open"}


def _is_secret(node: ast.AST, names: set[str]) -> bool:
    """`home.keys / …`, or a name that was given it."""
    return any(
        (isinstance(each, ast.Name) and each.id in names)
        or (
            isinstance(each, ast.BinOp)
            and isinstance(each.op, ast.Div)
            and isinstance(each.left, ast.Attribute)
            and each.left.attr == "keys"
        )
        for each in ast.walk(node)
    )


def touched(text: str) -> Iterator[str]:
    """Functions that read or write a file of `keys/` themselves."""
    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names: set[str] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and _is_secret(node.value, names):
                is_path = isinstance(node.value, ast.BinOp | ast.Tuple)
                names |= {
                    n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name) and is_path
                }
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Attribute):
                is_method = called.attr in _METHODS and _is_secret(called.value, names)
                is_function = called.attr in _FUNCTIONS and any(
                    _is_secret(each, names) for each in node.args[:1]
                )
                is_ours = isinstance(called.value, ast.Name) and called.value.id == "keyring"
                if (is_method or is_function) and not is_ours:
                    yield function.name


def test_no_module_goes_around_the_keyring() -> None:
    """Whoever reads or writes a secret file by itself would leave it in the clear in a sealed home."""
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in ROOT.rglob("*.py")
        for name in touched(path.read_text())
    }

    assert {each for each in found - AS_THEY_ARE if (each[0], "") not in AS_THEY_ARE} == set()


def test_this_test_finds_what_goes_around() -> None:
    """The control."""
    around = (
        "def f(home):\n    path = home.keys / 'x'\n    durable.write_file(path, b'')\n",
        "def f(home):\n    return (home.keys / 'x').read_bytes()\n",
        "def f(home):\n    one, two = home.keys / 'x', home.keys / 'y'\n    two.write_bytes(b'')\n",
    )
    assert [list(touched(each)) for each in around] == [["f"]] * 3
    assert list(touched("def f(home):\n    keyring.write(home, home.keys / 'x', b'')\n")) == []
