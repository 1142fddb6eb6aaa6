"""The machine: architecture, C library, processor, memory, Python, GPU. Pure."""

from __future__ import annotations

from typing import Final

from appliance.bundle.manifest import Manifest
from appliance.bundle.preflight.facts import Check, Facts, Level, Wanted

MIN_DRIVER: Final = 580  # of CUDA 13: docs.nvidia.com, minor version compatibility
_PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
_GIB: Final = 1 << 30
# x86-64 psABI, levels of the microarchitecture, in the words of /proc/cpuinfo.
_V2: Final = frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"})
_V3: Final = frozenset({"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"})
_V4: Final = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
_SSE: Final = frozenset({"sse4_2"})
_HASWELL: Final = _SSE | {"avx", "f16c", "fma", "avx2", "bmi2"}
# ggml's variants of its CPU backend, best last (llama.cpp 0.5.0, ggml/src/CMakeLists.txt). It chooses by a
# score of its own among those that the processor can run, which is the last of these on most machines.
_VARIANTS: Final[tuple[tuple[str, frozenset[str]], ...]] = (
    ("x64", frozenset()),
    ("sse42", _SSE),
    ("sandybridge", _SSE | {"avx"}),
    ("ivybridge", _SSE | {"avx", "f16c"}),
    ("piledriver", _SSE | {"avx", "f16c", "fma"}),
    ("haswell", _HASWELL),
    ("alderlake", _HASWELL | {"avx_vnni"}),
    ("skylakex", _HASWELL | _V4),
    ("cannonlake", _HASWELL | _V4 | {"avx512vbmi"}),
    ("cascadelake", _HASWELL | _V4 | {"avx512_vnni"}),
    ("cooperlake", _HASWELL | _V4 | {"avx512_vnni", "avx512_bf16"}),
    ("icelake", _HASWELL | _V4 | {"avx512vbmi", "avx512_vnni"}),
    ("zen4", _HASWELL | _V4 | {"avx512vbmi", "avx512_vnni", "avx512_bf16"}),
    (
        "sapphirerapids",
        _HASWELL | _V4 | {"avx512vbmi", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8"},
    ),
)


def level(flags: frozenset[str]) -> int:
    """The processor's x86-64 level, 1 to 4."""
    if not flags >= _V2:
        return 1
    if not flags >= _V3:
        return 2
    return 4 if flags >= _V4 else 3


def variant(flags: frozenset[str]) -> str:
    """The name of the CPU backend that llama.cpp is expected to load here."""
    return [name for name, needed in _VARIANTS if flags >= needed][-1]


def checks(facts: Facts, wanted: Wanted) -> list[Check]:
    """In the order in which a person would ask."""
    manifest = wanted.manifest
    return [
        _architecture(facts, manifest),
        _glibc(facts, manifest),
        _processor(facts),
        _memory(facts, manifest),
        _gpu(facts, needs_gpu=wanted.needs_gpu),
        _python(facts, manifest),
        _modules(facts),
        _openssl(facts),
    ]


def _architecture(facts: Facts, manifest: Manifest | None) -> Check:
    found = f"{facts.os} {facts.arch}"
    if manifest is None or found == f"{manifest.platform.os} {manifest.platform.arch}":
        return Check("platform", Level.OK, found)
    needed = f"{manifest.platform.os} {manifest.platform.arch}"
    return Check("platform", Level.FAIL, found, f"this bundle is for {needed}", is_platform=True)


def _glibc(facts: Facts, manifest: Manifest | None) -> Check:
    found = f"glibc {facts.glibc}" if facts.glibc else "no glibc (musl?)"
    needed = manifest.platform.glibc if manifest is not None else ""
    if facts.glibc and _version(facts.glibc) >= _version(needed):
        return Check("C library", Level.OK, found)
    return Check(
        "C library",
        Level.FAIL,
        found,
        f"glibc {needed or '2.34'} or newer is needed: RHEL 9, Debian 12 or newer",
        is_platform=True,
    )


def _processor(facts: Facts) -> Check:
    if facts.arch != "x86_64":
        return Check("processor", Level.OK, facts.arch)
    found = f"x86-64-v{level(facts.cpu_flags)}, llama.cpp's variant {variant(facts.cpu_flags)}"
    if level(facts.cpu_flags) == 1:
        return Check(
            "processor",
            Level.FAIL,
            found,
            "numpy needs x86-64-v2 (SSE4.2); a virtual machine may hide it: CPU type host",
            is_platform=True,
        )
    if level(facts.cpu_flags) == 2:
        return Check("processor", Level.WARN, found, "without AVX2 answers take several times as long")
    return Check("processor", Level.OK, found)


def _memory(facts: Facts, manifest: Manifest | None) -> Check:
    needed = manifest.needs.ram_bytes if manifest is not None else 0
    found = f"{_gib(facts.ram_bytes)} GiB, {_gib(facts.free_ram_bytes)} of them free"
    if facts.ram_bytes < needed:
        return Check(
            "memory", Level.FAIL, found, f"{_gib(needed)} GiB are needed: more memory, or a smaller model"
        )
    if facts.free_ram_bytes < needed:
        return Check("memory", Level.WARN, found, f"{_gib(needed)} GiB are needed: what else runs here?")
    return Check("memory", Level.OK, found)


def _gpu(facts: Facts, *, needs_gpu: bool) -> Check:
    name = "GPU driver"
    if not facts.nvidia_driver:
        if needs_gpu:
            return Check(
                name,
                Level.FAIL,
                "no NVIDIA driver",
                f"install the driver {MIN_DRIVER} or newer from the distribution's or NVIDIA's medium",
            )
        return Check(name, Level.OK, "no NVIDIA driver: the processor computes")
    found = f"{facts.nvidia_driver}, {facts.nvidia_devices} GPUs"
    bad = Level.FAIL if needs_gpu else Level.WARN
    if _version(facts.nvidia_driver) < (MIN_DRIVER,):
        return Check(name, bad, found, f"CUDA 13 needs driver {MIN_DRIVER} or newer")
    if not facts.nvidia_devices:
        return Check(name, bad, found, "the driver is loaded and there is no /dev/nvidia0: nvidia-modprobe")
    return Check(name, Level.OK, found)


def _python(facts: Facts, manifest: Manifest | None) -> Check:
    pythons = manifest.platform.pythons if manifest is not None else _PYTHONS
    if ".".join(facts.python.split(".")[:2]) in pythons:
        return Check("Python", Level.OK, facts.python)
    return Check(
        "Python",
        Level.FAIL,
        facts.python or "none",
        f"one of {', '.join(pythons)} is needed. Debian: apt install python3 · RHEL: dnf install python3.11",
    )


def _modules(facts: Facts) -> Check:
    if not facts.python_missing:
        return Check("Python modules", Level.OK, "venv, ssl, sqlite3, ctypes")
    return Check(
        "Python modules",
        Level.FAIL,
        f"without {', '.join(facts.python_missing)}",
        "Debian: apt install python3 (not python3-minimal) · RHEL: dnf install python3.11-libs",
    )


def _openssl(facts: Facts) -> Check:
    if facts.openssl and _version(facts.openssl) >= (3,):
        return Check("openssl", Level.OK, facts.openssl)
    return Check(
        "openssl",
        Level.WARN,
        facts.openssl or "not installed",
        "verify.sh needs openssl 3.0 or newer for Ed25519; what is installed already verifies without it",
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(".") if each.isdigit())


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f}"
