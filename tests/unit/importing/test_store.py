"""Copies into the store: whole, hashed as they are read, or nothing."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from appliance import durable
from appliance.catalog import file_digest, store_path
from appliance.config import Home
from appliance.errors import SetupError, Unavailable
from appliance.importing import store
from appliance.importing.refusals import FileRefused
from appliance.models.specs import split_folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A folder is all that a store needs."""
    (tmp_path / "home").mkdir()
    return Home(root=tmp_path / "home")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"big-0000{at}-of-00002.gguf" for at in (1, 2)]
    for at, path in enumerate(made):
        path.write_bytes(bytes([at]) * 100_000)
    return made


def lying(home: Home) -> list[str]:
    """Every file below the store but the lock."""
    found = (path for path in home.models.rglob("*") if path.is_file() and path.name != ".importing")
    return sorted(str(path.relative_to(home.models)) for path in found)


def take(home: Home, sources: Sequence[Path]) -> store.Copied:
    with store.copied(home, sources) as made:
        store.keep(home, made)
        return made


def test_one_file_lies_under_its_digest_and_several_in_a_folder(home: Home, files: list[Path]) -> None:
    """As the catalogue looks for them; nothing else stays, and nobody writes to them."""
    one = take(home, files[:1])
    both = take(home, files)

    path = store_path(home, one.sha256)
    assert file_digest(path) == one.sha256 == one.files[0].sha256
    folder = split_folder(home, both.sha256)
    assert [file_digest(folder / each.name) for each in both.files] == [each.sha256 for each in both.files]
    assert len(lying(home)) == 3
    assert {each.stat().st_mode & 0o777 for each in (path, *folder.iterdir())} == {0o444}


def test_the_same_again_changes_nothing_and_an_altered_one_is_mended(home: Home, files: list[Path]) -> None:
    """What lies in the store is hashed before it is believed to be there."""
    for sources in (files[:1], files):
        made = take(home, sources)
        with store.copied(home, sources) as again:
            assert store.keep(home, again) == []
        lies = split_folder(home, made.sha256) / made.files[0].name
        lies = lies if len(sources) > 1 else store_path(home, made.sha256)
        lies.chmod(0o600)
        lies.write_bytes(b"altered")
        with store.copied(home, sources) as again:
            assert len(store.keep(home, again)) == 1
        assert file_digest(lies) == made.files[0].sha256


def test_what_is_not_kept_is_gone(home: Home, files: list[Path]) -> None:
    """A refusal leaves nothing behind."""
    with store.copied(home, files) as made:
        assert all(path.exists() for path in made.paths)
    assert lying(home) == []


def test_removed_is_gone(home: Home, files: list[Path]) -> None:
    """One file, or the folder of a split model; twice does no harm."""
    one, both = take(home, files[:1]), take(home, files)
    for _ in range(2):
        store.remove(home, one.sha256, is_split=False)
        store.remove(home, both.sha256, is_split=True)

    assert lying(home) == []


def test_progress_is_of_all_files_together(home: Home, files: list[Path]) -> None:
    """A bar that ends once."""
    seen: list[tuple[int, int]] = []
    with store.copied(home, files, lambda done, total: seen.append((done, total))):
        pass
    assert seen == [(100_000, 200_000), (200_000, 200_000)]


def test_two_imports_do_not_meet(home: Home, files: list[Path]) -> None:
    """The second one waits for nobody: it says so."""
    with store.copied(home, files[:1]), pytest.raises(Unavailable) as refused, store.copied(home, files):
        pass
    assert refused.value.code == "import_running"


class _Disk(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_without_room_is_told_before_anything_is_copied(
    home: Home, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the numbers, and a reserve for the record."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: _Disk(10**9, 0, store._RESERVE_BYTES + 199_999))
    with (
        pytest.raises(SetupError, match="200000 bytes, and 199999 are free") as refused,
        store.copied(home, files),
    ):
        pass
    assert refused.value.code == "no_room"
    assert lying(home) == []


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "no_room"), (errno.EDQUOT, "no_room"), (errno.EIO, "copy_failed")]
)
def test_a_disk_that_fails_in_the_middle_leaves_nothing(
    home: Home, files: list[Path], monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    """Full or broken: an error with what to do, and no half of a model."""
    written = []

    def write_all(fd: int, data: Any) -> None:
        written.append(os.write(fd, data[:1000]))
        if len(written) > 1:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable, "write_all", write_all)
    with pytest.raises(SetupError) as refused, store.copied(home, files):
        pass
    assert refused.value.code == code
    assert lying(home) == []


def test_a_file_that_changes_while_it_is_read_is_refused(home: Home, files: list[Path]) -> None:
    """What was hashed must be what was offered."""

    def grow(done: int, _total: int) -> None:
        if done == 100_000:
            with files[0].open("ab") as file:
                file.write(b"more")

    with pytest.raises(FileRefused) as refused, store.copied(home, files, grow):
        pass
    assert refused.value.code == "model_altered"


SLOW = """
import sys
import time
from pathlib import Path
from appliance.config import Home
from appliance.importing import store
def wait(done, total):
    print(done, flush=True)
    time.sleep(60 if done == {at} else 0)
sources = [Path(each) for each in sys.argv[2:]]
with store.copied(Home(root=Path(sys.argv[1])), sources, wait) as made:
    store.keep(Home(root=Path(sys.argv[1])), made)
"""


@pytest.fixture
def killed() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for each in started:
        each.kill()
        each.wait()


def test_a_kill_in_the_middle_leaves_no_half_of_a_model(
    home: Home, files: list[Path], killed: list[subprocess.Popen[str]]
) -> None:
    """Nothing where the catalogue looks, and the next import begins as if nothing had been."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(at=100_000), str(home.root), *map(str, files)],
        stdout=subprocess.PIPE,
        text=True,
    )
    killed.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "100000\n"
    process.kill()
    process.wait()
    process.stdout.close()

    assert [name.partition("/")[0] for name in lying(home)] == ["incoming"]
    made = take(home, files)
    assert [file_digest(split_folder(home, made.sha256) / each.name) for each in made.files] == [
        each.sha256 for each in made.files
    ]
    assert len(lying(home)) == 2
