"""Figures on a GPU, for `tests/bench/gpu.md`: nothing is asserted about time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import gpu

pytestmark = pytest.mark.gpu


@pytest.mark.timeout(3600)
def test_the_ratios_are_measured_and_kept(large: Path, tmp_path: Path) -> None:
    """This engine and llama-server on the same file, 1, 8 and 32 at once; the table has each of them."""
    if not gpu.has_server():
        pytest.skip("llama-server is not built: make llama-server")
    text = gpu.measure(large, tmp_path)

    assert [f"| {batch} |" in text for batch in gpu.BATCHES] == [True] * len(gpu.BATCHES)
