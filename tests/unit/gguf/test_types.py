"""The table of tensor types says what the locked library says."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path

import pytest

from appliance.gguf.types import TENSOR_TYPES, TensorType


@pytest.fixture(scope="module")
def ggml() -> ctypes.CDLL:
    """The library that llama-cpp-python brings, asked for nothing but its tables."""
    spec = find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    library = ctypes.CDLL(str(Path(spec.origin).parent / "lib" / "libggml-base.so"))
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_size.restype = ctypes.c_size_t
    library.ggml_type_name.restype = ctypes.c_char_p
    return library


@pytest.mark.parametrize(("kind", "known"), TENSOR_TYPES.items(), ids=str)
def test_blocks_are_the_librarys(kind: int, known: TensorType, ggml: ctypes.CDLL) -> None:
    """Numbers of a block, and its bytes."""
    assert (ggml.ggml_blck_size(kind), ggml.ggml_type_size(kind)) == (known.block, known.num_bytes)
    assert ggml.ggml_type_name(kind).decode().upper() == known.name.upper()
