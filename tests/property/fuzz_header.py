"""`python -m tests.property.fuzz_header -runs=N`: the parser of headers under atheris, led by its branches.

Nothing but Malformed, or a header that agrees with itself, comes of any bytes; else the program ends badly.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["appliance.gguf"]):
    from appliance.gguf import header
    from appliance.gguf.reading import Malformed

from tests import ggufs
from tests.hostile import lora, tensors, tiny


def one(data: bytes) -> None:
    """One file."""
    try:
        found = header.parse(io.BytesIO(data), len(data))
    except Malformed:
        return
    last = found.tensors[-1] if found.tensors else None
    if last is not None and found.data_at + last.offset + last.num_bytes > len(data):
        raise AssertionError("a tensor behind the end of its file")


def main() -> None:
    """Begins with files that are good, so that mutations get far."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = {"small": ggufs.make(), "tiny": ggufs.make(tiny(), tensors()), "lora": lora()}
        for name, made in seeds.items():
            (Path(folder) / name).write_bytes(made.data)
        atheris.Setup([*sys.argv, f"-artifact_prefix={folder}/", "-max_len=20000", folder], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
