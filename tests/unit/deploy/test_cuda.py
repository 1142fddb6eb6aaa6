"""`make cuda` without its two hours: what it refuses, and what its libraries may need."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from appliance.bundle import elf
from tests import computing

ROOT = Path(__file__).resolve().parents[3]
BOOTSTRAP = ROOT / "deploy" / "bootstrap"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Set-up's module, over a cache of its own."""
    monkeypatch.syspath_prepend(str(BOOTSTRAP))
    monkeypatch.setenv("APPLIANCE_CACHE", str(tmp_path / "cache"))
    import cuda as module  # noqa: PLC0415 - a program's folder and no package

    return module


def test_each_library_of_the_build_runs_on_the_oldest_host() -> None:
    """Every variant for the processor, and what they stand on: nothing is newer than RHEL 9's."""
    libraries = sorted(computing.LIBRARIES.glob("*.so"))
    beside = {each.name for each in libraries} | {"libgomp.so.1"}
    found = [
        problem for each in libraries for problem in elf.problems_of(each.name, each.read_bytes(), beside)
    ]

    assert found == []
    assert sum(each.name.startswith("libggml-cpu-") for each in libraries) >= 10


def test_the_backends_floor_is_that_of_the_others(cuda: ModuleType, tmp_path: Path) -> None:
    """The driver's library is the host's; what no host has, or only a newer one, is told."""
    library = computing.compiled(tmp_path, computing.NEEDS_DRIVER)
    assert cuda.floor(library) == []

    foreign = tmp_path / "foreign.so"
    foreign.write_bytes(library.read_bytes().replace(b"libcuda.so.1\0", b"libother.so\0\0"))
    assert "needs libother.so, which is neither in the wheel nor on a bare host" in cuda.floor(foreign)[0]


def test_what_is_missing_for_it_is_told_at_once(cuda: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another kind of machine and too small a disk are two reasons in one sentence."""
    cuda.check()
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(cuda, "_ROOM_BYTES", 1 << 60)

    with pytest.raises(cuda.host.SetupFailed, match=r"aarch64; \d+ GiB are free for the cache"):
        cuda.backend()


def test_it_says_that_the_processors_build_is_whole(tmp_path: Path) -> None:
    """Where it can not be built the program ends with 1 and the reason; what is installed is not touched."""
    before = {each: each.stat().st_mtime_ns for each in computing.LIBRARIES.iterdir()}
    done = subprocess.run(
        [sys.executable, str(BOOTSTRAP / "cuda.py")],
        env={"PATH": str(tmp_path), "APPLIANCE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("cuda: the CUDA backend is not built: some programs are missing")
    assert "llama.cpp computes on the processor without it" in done.stderr
    assert {each: each.stat().st_mtime_ns for each in computing.LIBRARIES.iterdir()} == before


def test_the_cache_knows_what_it_was_made_of(cuda: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other switches are another key; a library that was altered in the cache is not taken."""
    key = cuda.key()
    folder = cuda._folder()
    folder.mkdir(parents=True)
    library = folder / cuda.LIBRARY
    library.write_bytes(b"made")
    (folder / "SHA256").write_text(cuda.host.sha256_of(library) + "\n")
    assert cuda.find() == library

    library.write_bytes(b"altered")
    assert cuda.find() is None
    assert not folder.exists()
    monkeypatch.setattr(cuda, "SWITCHES", (*cuda.SWITCHES, "-DMORE=ON"))
    assert cuda.key() != key


def test_a_wheel_with_the_backend_has_all_that_it_computes_with(
    cuda: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The backend and NVIDIA's libraries beside the variants, their terms and versions in its papers; one
    that no host could load is not packed.
    """
    import portable  # noqa: PLC0415 - beside `cuda`

    for name in ("nvidia", "made"):
        (tmp_path / name).mkdir()
    runtime = [shared(tmp_path / "nvidia" / name) for name in cuda.RUNTIME]
    monkeypatch.setattr(cuda, "runtime", lambda: runtime)
    monkeypatch.setattr(cuda, "terms", lambda: {"nvidia-cublas/License.txt": b"terms"})
    monkeypatch.setattr(portable, "_texts", lambda _staging: {"vendor/llama.cpp/LICENSE": b"MIT"})
    compiled = tmp_path / "llama_cpp_python-0-py3-none-any.whl"
    version = b'set(PACKAGE_VERSION "1.2.3")'
    with zipfile.ZipFile(compiled, "w") as archive:
        archive.writestr("llama_cpp_python-0.dist-info/WHEEL", "Tag: py3-none-any\n")
        for name in ("llama", "ggml"):
            archive.writestr(f"llama_cpp/lib/cmake/{name}/{name}-config-version.cmake", version)
    parts = (compiled, shared(tmp_path / "libgomp.so.1"), compiled)

    backend = shared(tmp_path / "made" / cuda.LIBRARY, *runtime)
    with zipfile.ZipFile(portable._make(tmp_path / "whole", *parts, backend)) as archive:
        names = set(archive.namelist())
        bill = archive.read("llama_cpp_python-0.dist-info/sboms/vendored.cdx.json").decode()
    libraries = {cuda.LIBRARY, "libgomp.so.1", *cuda.RUNTIME}
    assert names >= {f"llama_cpp/lib/{each}" for each in libraries}
    assert "llama_cpp_python-0.dist-info/licenses/nvidia-cublas/License.txt" in names
    assert all(f"pkg:pypi/{name}@{version}" in bill for name, version in cuda.versions().items())

    backend = shared(tmp_path / "made" / cuda.LIBRARY, shared(tmp_path / "libabsent.so.1"))
    with pytest.raises(cuda.host.SetupFailed, match=r"libggml-cuda\.so: needs libabsent\.so\.1"):
        portable._make(tmp_path / "broken", *parts, backend)


def shared(path: Path, *needs: Path) -> Path:
    """A library of that name, which needs those."""
    words = ["gcc", "-shared", "-fPIC", "-x", "c", "/dev/null", "-o", str(path), f"-Wl,-soname,{path.name}"]
    subprocess.run([*words, "-x", "none", "-Wl,--no-as-needed", *map(str, needs)], check=True)
    return path


def test_the_worker_and_the_build_name_the_same_libraries(cuda: ModuleType) -> None:
    """What is linked is what is loaded before it."""
    from appliance.engine import devices  # noqa: PLC0415

    named: Any = cuda.RUNTIME
    assert set(named) == set(devices.RUNTIME)
    assert cuda.LIBRARY == devices.GPU_LIBRARY
