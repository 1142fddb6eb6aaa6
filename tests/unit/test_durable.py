"""Files that are there or are not, and that only their owner reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import durable


def test_replaced_file_is_whole_and_private(tmp_path: Path) -> None:
    """The new content is there, nobody else can read it, and no temporary file stays."""
    path = tmp_path / "head"
    durable.write_file(path, b"one")
    durable.write_file(path, b"two")

    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """Where the temporary file can not be made, the target is untouched."""
    path = tmp_path / "head"
    durable.write_file(path, b"one")
    (tmp_path / ".head.tmp").mkdir()
    with pytest.raises(OSError, match="directory"):
        durable.write_file(path, b"two")

    assert path.read_bytes() == b"one"
