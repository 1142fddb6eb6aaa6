"""The gate for native code: what a bare, old host can not load is not packed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle import building, elf, layout
from appliance.errors import RequestError
from tests.bundles import ROOT, built, wheel
from tests.unit.bundle import projects

NAME = "native-1.0-cp311-cp311-manylinux2014_x86_64.whl"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A shared object that wants `exp` of glibc 2.29's libm."""
    folder = tmp_path_factory.mktemp("elf")
    source = folder / "a.c"
    source.write_text(
        '#include <math.h>\n#include <stdio.h>\nvoid f(double x) { puts(exp(x) > 1 ? "a" : "b"); }\n'
    )
    made = folder / "a.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(made), str(source), "-lm"], check=True)
    return made.read_bytes()


def wheel_with(tmp_path: Path, **files: bytes) -> Path:
    path = tmp_path / NAME
    path.write_bytes(wheel(NAME, {f"native/{name}.so": data for name, data in files.items()}))
    return path


def test_it_reads_what_readelf_reads(library: bytes, tmp_path: Path) -> None:
    """The libraries and the symbol versions of a library are those that binutils tells."""
    (tmp_path / "a.so").write_bytes(library)
    text = subprocess.run(
        ["readelf", "-d", "-V", "-W", str(tmp_path / "a.so")], capture_output=True, text=True, check=True
    ).stdout
    found = elf.needs(library)

    assert set(found.libraries) == {"libm.so.6", "libc.so.6"}
    assert all(f"Shared library: [{name}]" in text for name in found.libraries)
    assert sorted(version for _, version in found.versions) == sorted(
        re.findall(r"  Name: (\S+)  Flags: ", text)
    )


def test_a_library_for_old_hosts_passes(library: bytes, tmp_path: Path) -> None:
    """The control: nothing is said of it."""
    assert elf.problems(wheel_with(tmp_path, a=library)) == []


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (b"GLIBC_2.35", r"needs GLIBC_2\.35; the oldest host has GLIBC_2\.34"),
        (b"GLIBC_9.99", r"needs GLIBC_9\.99"),
        (b"GLIBD_2.29", r"for which no highest version is set"),
        (b"GLIBC_PRIV", r"for which no highest version is set"),
    ],
)
def test_a_library_for_newer_hosts_is_told(
    library: bytes, version: bytes, words: str, tmp_path: Path
) -> None:
    """The wheel, the file in it and the version that no old host has are named."""
    newer = library.replace(b"GLIBC_2.29", version)
    assert newer != library

    [problem] = elf.problems(wheel_with(tmp_path, a=newer))

    assert problem.startswith(f"{NAME}: native/a.so: needs ")
    assert re.search(words, problem)


def test_a_library_that_a_bare_host_lacks_is_told(library: bytes, tmp_path: Path) -> None:
    """Unless the wheel brings it: then nothing is asked of the host."""
    hungry = library.replace(b"libm.so.6", b"libx.so.6")
    lacking = elf.problems(wheel_with(tmp_path, a=hungry))
    path = tmp_path / NAME
    path.write_bytes(wheel(NAME, {"native/a.so": hungry, "native.libs/libx.so.6": library}))

    assert any(
        "needs libx.so.6, which is neither in the wheel nor on a bare host" in each for each in lacking
    )
    assert elf.problems(path) == []


def test_the_build_stops_at_such_a_wheel(library: bytes, tmp_path: Path) -> None:
    """The gate is in the build, for every wheel that is packed."""
    project = projects.make(tmp_path)
    newer = library.replace(b"GLIBC_2.29", b"GLIBC_2.35")
    (project.root / projects.LLAMA).write_bytes(wheel(projects.LLAMA, {"llama_cpp/lib/a.so": newer}))

    with pytest.raises(RequestError, match=r"would not run on the oldest host: .*GLIBC_2\.35"):
        building.build(project.inputs())


def test_llamas_wheel_as_compiled_is_refused_and_the_portable_one_is_not() -> None:
    """The compiled one wants libgomp of the host; the portable one brings it, and changes no library."""
    bundle = built()
    [portable] = (bundle / layout.WHEELS).glob("llama_cpp_python-*.whl")
    script = "import sys; sys.path.insert(0, 'deploy/bootstrap'); import llama; print(llama.wheel())"
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    compiled = Path(told.stdout.strip())
    with zipfile.ZipFile(compiled) as before, zipfile.ZipFile(portable) as after:
        names = [name for name in before.namelist() if name.endswith(".so")]
        unchanged = all(before.read(name) == after.read(name) for name in names)
        added = set(after.namelist()) - set(before.namelist())

    assert any("libgomp.so.1, which is neither" in each for each in elf.problems(compiled))
    assert elf.problems(portable) == []
    assert len(names) > 10
    assert unchanged
    assert {name.partition("/")[2] for name in added} == {
        "lib/libgomp.so.1",
        "licenses/libgomp/copyright",
        "licenses/vendor/llama.cpp/AUTHORS",
        "licenses/vendor/llama.cpp/LICENSE",
        "sboms/vendored.cdx.json",
    }


def test_the_portable_wheel_loads_its_backends_with_its_own_libgomp(tmp_path: Path) -> None:
    """The engine's loader finds a device in it, and the host's libgomp is not the one that computes."""
    bundle = built()
    [portable] = (bundle / layout.WHEELS).glob("llama_cpp_python-*.whl")
    with zipfile.ZipFile(portable) as archive:
        archive.extractall(tmp_path)
    script = (
        "from appliance.engine.worker.llama import library\n"
        "label = library.init_library().label\n"
        "maps = open('/proc/self/maps').read().splitlines()\n"
        "print(label, *sorted({line.split()[-1] for line in maps if 'libgomp' in line}))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])}

    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    device, *libgomps = done.stdout.split()

    assert device.startswith("CPU+ggml-cpu-")
    assert libgomps == [str(tmp_path / "llama_cpp" / "lib" / "libgomp.so.1")]


def test_the_portable_wheel_is_packed_the_same_whatever_the_order(tmp_path: Path) -> None:
    """Sorted, of one time and mode, with a RECORD that is right: the same files are the same bytes."""
    script = (
        "import sys; sys.path.insert(0, 'deploy/bootstrap'); import portable\n"
        "from pathlib import Path\n"
        "files = {'b.py': b'b', 'a.py': b'a', 'p.dist-info/WHEEL': b'', 'p.dist-info/RECORD': b'old'}\n"
        "portable._pack(Path(sys.argv[1]), dict(files), 'p.dist-info/RECORD')\n"
        "portable._pack(Path(sys.argv[2]), dict(reversed(files.items())), 'p.dist-info/RECORD')\n"
    )
    first, second = tmp_path / "first.whl", tmp_path / "second.whl"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script, str(first), str(second)], cwd=ROOT, env=env, check=True)
    with zipfile.ZipFile(first) as archive:
        entries = archive.infolist()
        record = archive.read("p.dist-info/RECORD").decode().splitlines()

    assert first.read_bytes() == second.read_bytes()
    assert [each.filename for each in entries] == ["a.py", "b.py", "p.dist-info/RECORD", "p.dist-info/WHEEL"]
    assert {each.date_time for each in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert record == [
        "a.py,sha256=ypeBEsobvcr6wjGzmiPcTaeG7_gUfE5yuYB3ha_uSLs,1",
        "b.py,sha256=PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0,1",
        "p.dist-info/WHEEL,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0",
        "p.dist-info/RECORD,,",
    ]


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda data: b"\x7fELF\x02\x01\x01" + data))
def test_any_bytes_are_a_library_or_refused(data: bytes) -> None:
    """Nothing but a refusal comes of bytes that are no library."""
    try:
        found = elf.needs(data)
    except RequestError:
        return
    assert isinstance(found.libraries, tuple)


def test_a_library_of_another_machine_is_refused(library: bytes) -> None:
    """ARM's number in the header is enough."""
    with pytest.raises(RequestError, match="x86-64"):
        elf.needs(library[:18] + b"\xb7\x00" + library[20:])
