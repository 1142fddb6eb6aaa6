"""The connected side: from a commit, wheels and models to an unsigned bundle. Fetches nothing.

Only what is given is packed, and each of it is checked before: wheels against the lock and the oldest host,
models against the catalogue, licences for their text. The same commit and the same files give the same
bytes: names are sorted, modes and times fixed, and nothing asks for the time of day.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import appliance
from appliance.bundle import (
    blobs,
    elf,
    folder,
    hashing,
    layout,
    licences,
    manifest,
    papers,
    sbom,
    source,
    wheelhouse,
)
from appliance.bundle.meter import Meter, Progress, Told
from appliance.catalog import ModelFile, read_model
from appliance.errors import RequestError
from appliance.gguf import header

TOOLS: Final = ("verify.sh", "install.sh", "ed25519_verify.py")
_LLAMA: Final = "llama-cpp-python"
_MIB: Final = 1024 * 1024
_BASE_RAM_BYTES: Final = 512 * _MIB


@dataclass(frozen=True, slots=True)
class GivenModel:
    """A GGUF file that the catalogue pins, and its licence's text where it is not kept with the project."""

    file: Path
    licence: Path | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that goes into a bundle. `out` is the folder that the bundle's own folder is made in.

    `release` is for people (default: the project's version); `serial` alone says what is newer. `tools` are
    the files of `deploy/` that lie beside the lists, where a person on a bare host looks for them.
    """

    out: Path
    serial: int
    wheels: Path
    llama: Path
    tree: Path
    release: str = appliance.__version__
    models: Sequence[GivenModel] = ()
    pythons: Sequence[str] = wheelhouse.PYTHONS
    os_packages: Path | None = None
    upgrade_from: manifest.UpgradeFrom = field(default_factory=manifest.UpgradeFrom)
    tools: Sequence[str] = TOOLS
    part_bytes: int = layout.PART_BYTES
    allow_dirty: bool = False


@dataclass(frozen=True, slots=True)
class _Wheel:
    """A wheel to pack: where it lies, what it says of itself, its bytes once unpacked."""

    place: Path
    package: licences.Package
    unpacked_bytes: int


def build(inputs: Inputs, bar: Callable[[str], Progress | None] = lambda _: None) -> Path:
    """An unsigned bundle, at its name under `inputs.out`. RequestError says what was not fit to be packed.

    `bar` gives for a word what hears of bytes. What is unfinished bears another name and is removed.
    """
    found = source.read(inputs.tree)
    release = _release(inputs, found)
    place = inputs.out / f"appliance-{release}-{inputs.serial}-linux-x86_64"
    if place.exists():
        raise RequestError(f"{place} exists; it is not overwritten", code="file_exists")
    unfinished = place.with_name(f".{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        _fill(unfinished, inputs, found, release, bar)
        unfinished.rename(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return place


def _fill(
    place: Path, inputs: Inputs, found: source.Source, release: str, bar: Callable[[str], Progress | None]
) -> None:
    built = manifest.moment(found.seconds * 1_000_000)
    subject = sbom.Subject(release, inputs.serial, built, found.commit)
    _pack_project(place, inputs, found)
    wheels, needed = _pack_wheels(place, inputs)
    licences.write(place, [each.package for each in wheels])
    models = tuple(_pack_models(place, inputs, bar("packing models")))
    if inputs.os_packages is not None:
        shutil.copytree(inputs.os_packages, place / "os", symlinks=True)
    _write(
        place,
        "README.txt",
        papers.readme(release=release, serial=inputs.serial, built=built, commit=found.commit),
    )
    changelog = (inputs.tree / "deploy" / "CHANGELOG.md").read_text(encoding="utf-8")
    _write(place, "RELEASE-NOTES.md", papers.release_notes(changelog, appliance.__version__))
    by_path = {f"{layout.WHEELS}/{each.place.name}": each.package for each in wheels}
    listed = folder.describe_all(place)
    (place / layout.SBOM).write_bytes(sbom.make(subject, listed, by_path, models))
    listed = tuple(sorted((*listed, folder.describe(place, layout.SBOM)), key=lambda each: each.path))
    folder.write_manifest(
        place,
        manifest.Manifest(
            format=manifest.FORMAT,
            product="appliance",
            release=release,
            serial=inputs.serial,
            built=built,
            git_commit=found.commit,
            platform=manifest.Platform(pythons=tuple(inputs.pythons)),
            upgrade_from=inputs.upgrade_from,
            db=_database(inputs.tree),
            needs=_needs(listed, models, needed),
            kind="full",
            files=listed,
            blobs=models,
        ),
    )
    folder.seal(place, bar("listing digests"))
    for each in (*sorted(place.rglob("*"), reverse=True), place):  # a folder after what lies in it
        folder.settle(each, found.seconds)


def _release(inputs: Inputs, found: source.Source) -> str:
    if not found.is_dirty:
        return inputs.release
    if not inputs.allow_dirty:
        raise RequestError(
            "the checkout has changes that no commit has",
            code="dirty_tree",
            hint="commit them, or try out with --allow-dirty, which says so in the release's name",
        )
    return f"{inputs.release}{'.' if '+' in inputs.release else '+'}dirty"


def _pack_project(place: Path, inputs: Inputs, found: source.Source) -> None:
    packed = {path for path, _ in found.files}
    if missing := [name for name in inputs.tools if f"deploy/{name}" not in packed]:
        raise RequestError(
            f"the project has no {', '.join(f'deploy/{name}' for name in missing)}",
            code="tool_missing",
            hint="a bare host verifies and installs with them",
        )
    for path, is_program in found.files:
        _copy(inputs.tree / path, place / layout.APP / path, is_program=is_program)
    for name in inputs.tools:
        _copy(inputs.tree / "deploy" / name, place / name, is_program=True)


def _pack_wheels(place: Path, inputs: Inputs) -> tuple[list[_Wheel], int]:
    """The wheels of every Python, llama.cpp's, and pip's; the most bytes that one Python unpacks."""
    locks = inputs.tree / "deploy" / "lock"
    runtime = (locks / "runtime.txt").read_text(encoding="utf-8")
    offered = {each.name: hashing.digest(each)[0] for each in sorted(inputs.wheels.glob("*.whl"))}
    llama_sha256 = hashing.digest(inputs.llama)[0]
    llama = wheelhouse.only(inputs.llama, llama_sha256)
    if str(llama) not in {str(each) for each in _locked(locks / "llama.txt")} or llama.name != _LLAMA:
        raise RequestError(f"{inputs.llama.name} is not the version that is locked", code="bad_wheel")
    lock = [*wheelhouse.parse_lock(runtime), *_locked(locks / "installer.txt")]
    names = wheelhouse.require_complete(wheelhouse.choose(lock, offered, each) for each in inputs.pythons)
    wheelhouse.require_complete(
        wheelhouse.choose([llama], {inputs.llama.name: llama_sha256}, each) for each in inputs.pythons
    )
    wheels = [_wheel(each) for each in (*(inputs.wheels / name for name in names), inputs.llama)]
    for each in wheels:
        _copy(each.place, place / layout.WHEELS / each.place.name)
    _write(place, layout.LOCK, f"{runtime}{llama} \\\n    --hash=sha256:{llama_sha256}\n")
    _copy(locks / "installer.txt", place / "lock" / "installer.txt")
    sizes = {each.place.name: each.unpacked_bytes for each in wheels}
    chosen = [wheelhouse.choose(lock, offered, each).wheels for each in inputs.pythons]
    return wheels, sizes[inputs.llama.name] + max(sum(sizes[name] for name in each) for each in chosen)


def _locked(lock: Path) -> tuple[wheelhouse.Locked, ...]:
    return wheelhouse.parse_lock(lock.read_text(encoding="utf-8"))


def _wheel(place: Path) -> _Wheel:
    if problems := elf.problems(place):
        raise RequestError(
            "a wheel would not run on the oldest host: " + "; ".join(problems[:5]),
            code="needs_newer_host",
            hint="make wheelhouse makes llama.cpp's wheel portable; others are chosen by the lock",
        )
    with zipfile.ZipFile(place) as archive:
        unpacked = sum(each.file_size for each in archive.infolist())
    return _Wheel(place, licences.of_wheel(place), unpacked)


def _pack_models(place: Path, inputs: Inputs, progress: Progress | None) -> list[manifest.Blob]:
    """Each model and its licence; whatever speaks against one is said before the first is copied."""
    catalogue = [read_model(path) for path in sorted((inputs.tree / "models").glob("*.toml"))]
    named = [_named(each, inputs.tree, catalogue) for each in inputs.models]
    meter = Meter(progress, sum(each.file.stat().st_size for each in inputs.models))
    return [
        _pack_model(place, inputs, given, candidates, meter.told)
        for given, candidates in zip(inputs.models, named, strict=True)
    ]


def _named(given: GivenModel, tree: Path, catalogue: Sequence[ModelFile]) -> list[tuple[ModelFile, bytes]]:
    """Those of the catalogue that a file of this size can be, each with its licence's text."""
    size = given.file.stat().st_size
    kept = tree / "models" / licences.FOLDER
    found = [
        (each, licences.for_model(each.id, each.licence, given.licence, kept))
        for each in catalogue
        if each.size_bytes == size
    ]
    if not found:
        raise _unknown(given)
    return found


def _pack_model(
    place: Path,
    inputs: Inputs,
    given: GivenModel,
    candidates: Sequence[tuple[ModelFile, bytes]],
    told: Told,
) -> manifest.Blob:
    about = header.read(given.file)
    cut = blobs.cut(given.file, place, part_bytes=inputs.part_bytes, told=told)
    pinned, text = next((each for each in candidates if each[0].sha256 == cut.sha256), (None, b""))
    if pinned is None:
        raise _unknown(given)
    path = licences.model_path(pinned.id)
    (place / path).parent.mkdir(parents=True, exist_ok=True)
    (place / path).write_bytes(text)
    return manifest.Blob(
        sha256=cut.sha256,
        size=cut.size,
        name=pinned.file,
        part_size=cut.part_size,
        parts=cut.parts,
        model=manifest.Model(
            id=pinned.id,
            quant=about.quant,
            arch=about.arch,
            licence=pinned.licence,
            licence_file=path,
            source=f"{pinned.source.package} {pinned.source.version} ({pinned.source.member})",
            # The weights, a quarter of them for what is computed and remembered, and the library.
            ram_bytes=cut.size + cut.size // 4 + 256 * _MIB,
        ),
    )


def _unknown(given: GivenModel) -> RequestError:
    return RequestError(
        f"{given.file.name} is no model of the catalogue",
        code="unknown_model",
        hint="a file in models/ pins each model by its size and sha256; nothing else is served",
    )


def _database(tree: Path) -> manifest.Database:
    """The schema that this release migrates to. No older release is promised to read it."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - of all commands about bundles, one needs it

    head = ScriptDirectory(str(tree / "migrations")).get_current_head() or ""
    return manifest.Database(alembic_head=head, reads_since=head)


def _needs(
    listed: Sequence[manifest.File], models: Sequence[manifest.Blob], unpacked_bytes: int
) -> manifest.Needs:
    """For good: the store and one release, compiled. Meanwhile: the staged copy beside it."""
    bundle = sum(each.size for each in listed) + sum(each.size for each in models)
    for_good = bundle + unpacked_bytes + unpacked_bytes // 4
    ram = max((each.model.ram_bytes for each in models if each.model is not None), default=0)
    return manifest.Needs(
        disk_bytes=for_good, disk_peak_bytes=for_good + bundle, ram_bytes=_BASE_RAM_BYTES + ram
    )


def _copy(source_file: Path, target: Path, *, is_program: bool = False) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source_file, target)
    target.chmod(folder.PROGRAM if is_program else folder.PLAIN)


def _write(place: Path, path: str, text: str) -> None:
    (place / path).parent.mkdir(parents=True, exist_ok=True)
    (place / path).write_text(text, encoding="utf-8")
