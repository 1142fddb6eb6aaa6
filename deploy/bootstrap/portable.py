"""llama.cpp's wheel for hosts that have no compiler: the same libraries, and libgomp beside them.

A bare Debian has no `libgomp.so.1`. It goes into the folder of the libraries that ask for it: the first of
them finds it there by its run path (`$ORIGIN`), and the loader takes it for every later one by its name. So
no library is changed, and what was measured is what travels. The wheel is tagged for the oldest C library
that it runs with, which the gate of `appliance.bundle.elf` has read from each of its libraries.

With a CUDA backend (cuda.py) it has that, too, and NVIDIA's libraries that the backend computes with, under
their terms: the same wheel then computes on a processor and on a GPU.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

import cuda
import host
import llama

from appliance.bundle import elf

TAG = "py3-none-manylinux_2_34_x86_64"
_LIBRARIES = "llama_cpp/lib"
_LIBGOMP = "libgomp.so.1"
_TEXTS = ("vendor/llama.cpp/LICENSE", "vendor/llama.cpp/AUTHORS")
_LIBGOMP_TERMS = ("/usr/share/doc/libgomp1/copyright", "/usr/share/licenses/libgomp/COPYING.RUNTIME")
_FORM = 1  # of this file's work: raise it when the wheel is made in another way
_TIME = (1980, 1, 1, 0, 0, 0)


def wheel(backend: Path | None = None) -> Path:
    """The wheel, from the cache or made now; with this CUDA backend. The same parts give the same bytes."""
    compiled = llama.wheel()
    libgomp = Path(_output("gcc", f"-print-file-name={_LIBGOMP}")).resolve()
    terms = next((path for path in map(Path, _LIBGOMP_TERMS) if path.is_file()), None)
    if not libgomp.is_file() or terms is None:
        raise host.SetupFailed(f"{_LIBGOMP} or its licence is not where Debian and RHEL keep it")
    salt = f"{TAG} {_FORM}" if backend is None else f"{TAG} {_FORM} {host.sha256_of(backend)}"
    key = host.digest_of(compiled, libgomp, terms, salt=salt)
    folder = host.cache_dir() / "wheels" / f"portable-{key}"
    with host.locked(folder.with_suffix(".lock")):
        found = llama.cached(folder)
        if found is None:
            host.say("making llama.cpp's wheel portable")
            found = _make(folder, compiled, libgomp, terms, backend)
    return found


def _make(folder: Path, compiled: Path, libgomp: Path, terms: Path, backend: Path | None) -> Path:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as scratch:
        staging = Path(scratch)
        with zipfile.ZipFile(compiled) as archive:
            files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
        information = next(name for name in files if name.endswith(".dist-info/WHEEL")).rpartition("/")[0]
        files[f"{_LIBRARIES}/{_LIBGOMP}"] = libgomp.read_bytes()
        for name, text in _texts(staging).items():
            files[f"{information}/licenses/{name}"] = text
        files[f"{information}/licenses/libgomp/copyright"] = terms.read_bytes()
        if backend is not None:
            for library in (backend, *cuda.runtime()):
                files[f"{_LIBRARIES}/{library.name}"] = library.read_bytes()
            for name, text in cuda.terms().items():
                files[f"{information}/licenses/{name}"] = text
        files[f"{information}/sboms/vendored.cdx.json"] = _bill(files, cuda.versions() if backend else {})
        files[f"{information}/WHEEL"] = re.sub(
            rb"(?m)^Tag: .*$", b"Tag: " + TAG.encode(), files[f"{information}/WHEEL"]
        )
        name = "-".join([*compiled.name.split("-")[:2], TAG]) + ".whl"
        publish = staging / "publish"
        publish.mkdir()
        _pack(publish / name, files, f"{information}/RECORD")
        if problems := elf.problems(publish / name):
            raise host.SetupFailed(
                "llama.cpp's wheel would not run on the oldest host:\n" + "\n".join(problems)
            )
        (publish / "SHA256").write_text(host.sha256_of(publish / name) + "\n", encoding="ascii")
        publish.replace(folder)  # one rename: a half-made folder is never found
    return folder / name


def _texts(staging: Path) -> dict[str, bytes]:
    """The terms of what is vendored: the compiled wheel has the bindings' own only."""
    with tarfile.open(llama.source(staging)) as archive:
        found = {
            name: file.read()
            for member in archive
            if (name := member.name.partition("/")[2]) in _TEXTS and (file := archive.extractfile(member))
        }
    if missing := sorted(set(_TEXTS) - found.keys()):
        raise host.SetupFailed(f"llama.cpp's source distribution has no {', '.join(missing)}")
    return found


def _bill(files: dict[str, bytes], packages: dict[str, str]) -> bytes:
    """What is built into the wheel, for its reader (PEP 770); NVIDIA's packages by their versions."""
    libgomp = hashlib.sha256(files[f"{_LIBRARIES}/{_LIBGOMP}"]).hexdigest()
    gcc = _output("gcc", "-dumpfullversion")
    components = [
        _component("llama.cpp", _version(files, "llama"), "MIT"),
        _component("ggml", _version(files, "ggml"), "MIT"),
        _component("libgomp", gcc, "GPL-3.0-or-later WITH GCC-exception-3.1")
        | {"purl": f"pkg:generic/libgomp@{gcc}", "hashes": [{"alg": "SHA-256", "content": libgomp}]},
    ]
    components += [
        _component(name, version, "LicenseRef-NVIDIA-CUDA-EULA") | {"purl": f"pkg:pypi/{name}@{version}"}
        for name, version in packages.items()
    ]
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _component(name: str, version: str, licence: str) -> dict[str, object]:
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:github/ggml-org/{name}@{version}",
        "licenses": [{"expression": licence}],
    }


def _version(files: dict[str, bytes], name: str) -> str:
    text = files[f"{_LIBRARIES}/cmake/{name}/{name}-config-version.cmake"]
    match = re.search(rb'set\(PACKAGE_VERSION "([^"]+)"\)', text)
    if match is None:
        raise host.SetupFailed(f"the version of the vendored {name} is not told by its build")
    return match[1].decode()


def _pack(target: Path, files: dict[str, bytes], record: str) -> None:
    """Sorted, of one time, and not compressed, so that no version of a compressor is in the bytes."""
    files.pop(record, None)
    lines = []
    for name in sorted(files):
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(files[name])}\n")
    listed = {**files, record: "".join([*lines, f"{record},,\n"]).encode()}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(listed):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, listed[name])


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
