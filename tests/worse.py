"""The starter model in fewer bits, made on the spot by llama.cpp's own quantizer."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

from tests.starter import starter_model

Q2_K, Q8_0 = 10, 7  # of llama.h's enum llama_ftype


def quantized(target: Path, file_type: int = Q2_K) -> Path:
    """Another file of the starter model, as `llama-quantize` would make it; about a second."""
    command = [sys.executable, "-m", "tests.worse", str(starter_model()), str(target), str(file_type)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def _quantize(source: str, target: str, file_type: int) -> int:
    import llama_cpp  # noqa: PLC0415 - native code, in a process of its own

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type
    parameters.allow_requantize = True
    parameters.nthread = 2
    failed: int = llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters))
    return failed


if __name__ == "__main__":
    sys.exit(_quantize(sys.argv[1], sys.argv[2], int(sys.argv[3])))
