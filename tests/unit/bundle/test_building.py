"""Building: only what is given, the same bytes each time, and a refusal for whatever is not fit to travel."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.bundle import building, folder, hashing, layout, manifest, sums
from appliance.bundle.refusals import Exit
from appliance.errors import RequestError, SetupError
from tests.bundles import BUILT_SECONDS, built, wheel
from tests.harness import appliance
from tests.unit.bundle import projects
from tests.unit.bundle.projects import LLAMA, NATIVE, PIP, PURE, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects.make(tmp_path)


def read(bundle: Path) -> manifest.Manifest:
    return manifest.parse((bundle / layout.MANIFEST).read_bytes())


def state(bundle: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time and content of every file and folder."""
    found = {}
    for path in (bundle, *sorted(bundle.rglob("*"))):
        about = path.stat()
        content = b"" if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(bundle))] = (about.st_mode, int(about.st_mtime), content)
    return found


def test_a_bundle_holds_what_was_given_and_nothing_else(project: Project) -> None:
    """The project without its tests and set-up, every wheel, the model in parts, and both lists agree."""
    bundle = building.build(project.inputs())
    found = read(bundle)
    paths = set(folder.paths(bundle))
    packed = {path for path in paths if path.startswith("app/") and "/migrations/" not in path}

    assert bundle.name == "appliance-2.4.0-7-linux-x86_64"
    assert packed == {
        "app/appliance/__init__.py",
        "app/deploy/CHANGELOG.md",
        "app/deploy/guides/bundles.md",
        "app/deploy/verify.sh",
        "app/deploy/install.sh",
        "app/deploy/ed25519_verify.py",
        "app/models/tiny.toml",
    }
    assert {path for path in paths if path.startswith("wheels/")} == {
        f"wheels/{name}" for name in (PIP, PURE, *NATIVE, LLAMA)
    }
    assert set(manifest.digests(found)) == paths - {layout.MANIFEST, layout.SUMS}
    assert sums.parse((bundle / layout.SUMS).read_bytes()) == {
        path: hashing.digest(bundle / path)[0] for path in paths - {layout.SUMS}
    }
    assert {each.path: each.role for each in found.files if "/" not in each.path} == {
        "README.txt": "document",
        "RELEASE-NOTES.md": "document",
        "ed25519_verify.py": "tool",
        "install.sh": "tool",
        "sbom.cdx.json": "sbom",
        "verify.sh": "tool",
    }


def test_the_manifest_says_what_a_host_must_know(project: Project) -> None:
    """Commit, time, schema, Pythons, room, and the model with its licence."""
    found = read(building.build(project.inputs(pythons=("3.11", "3.13"))))
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=project.tree, capture_output=True, text=True, check=True
    )
    [blob] = found.blobs
    packed = sum(size for _, size in manifest.digests(found).values())

    assert (found.git_commit, found.built) == (commit.stdout.strip(), "2026-11-21T12:00:00Z")
    assert (
        found.db.alembic_head
        == found.db.reads_since
        == max(path.name[:4] for path in (project.tree / "migrations" / "versions").glob("*.py"))
    )
    assert found.platform.pythons == ("3.11", "3.13")
    assert sum(each.role == "wheel" for each in found.files) == 5  # pure, pip, llama and one for each Python
    assert found.needs.disk_bytes > packed
    assert found.needs.disk_peak_bytes > found.needs.disk_bytes + blob.size
    assert (blob.size, blob.part_size, len(blob.parts)) == (projects.MODEL_BYTES, 4096, 3)
    assert blob.model == manifest.Model(
        id="tiny",
        quant="Q4_K_M",
        arch="llama",
        licence="LicenseRef-tiny",
        licence_file="licences/models/tiny.txt",
        source="made-up 1 (tiny.gguf)",
        ram_bytes=blob.size + blob.size // 4 + 256 * 1024 * 1024,
    )


def test_two_builds_of_one_commit_are_the_same_bytes(project: Project, tmp_path: Path) -> None:
    """Whatever the umask, the time of day, the order of names and the times of the given files."""
    first = building.build(project.inputs())
    for path in project.wheels.iterdir():
        os.utime(path, (1, 1))
    for path in project.tree.rglob("*.py"):
        path.touch()
    before = os.umask(0o077)
    try:
        second = building.build(project.inputs(out=tmp_path / "again"))
    finally:
        os.umask(before)

    assert state(first) == state(second)
    assert {seconds for _, seconds, _ in state(first).values()} == {BUILT_SECONDS}
    assert {mode & 0o7777 for mode, _, _ in state(first).values()} == {0o644, 0o755}


def test_the_real_bundle_is_the_same_bytes_when_built_again(tmp_path: Path) -> None:
    """This tree, its wheels and the starter model: built at another place and in another order of hashes."""
    first = built()
    script = (
        "from pathlib import Path; from tests import bundles; import sys; bundles.again(Path(sys.argv[1]))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "again")], env=env, check=True)
    [second] = (tmp_path / "again").glob("appliance-*")

    assert (first / layout.SUMS).read_bytes() == (second / layout.SUMS).read_bytes()
    assert {path: hashing.digest(second / path)[0] for path in folder.paths(second)} == {
        path: hashing.digest(first / path)[0] for path in folder.paths(first)
    }


def test_wheels_that_no_python_needs_stay_out(project: Project) -> None:
    """A wheel that lies in the folder and that no line of the lock names is not packed."""
    (project.wheels / "stray-1.0-py3-none-any.whl").write_bytes(wheel("stray-1.0-py3-none-any.whl"))

    bundle = building.build(project.inputs())

    assert not (bundle / "wheels" / "stray-1.0-py3-none-any.whl").exists()


def test_the_lock_travels_with_the_wheel_that_was_made_here(project: Project) -> None:
    """The lock as the project has it, and a line for llama.cpp's wheel by its digest; pip's lies apart."""
    bundle = building.build(project.inputs())
    runtime = (project.tree / "deploy" / "lock" / "runtime.txt").read_text()
    llama = hashing.digest(project.root / LLAMA)[0]

    assert (bundle / layout.LOCK).read_text() == (
        f"{runtime}llama-cpp-python==0.3.36 \\\n    --hash=sha256:{llama}\n"
    )
    assert (bundle / "lock/installer.txt").read_text().startswith("pip==26.3")


def test_a_wheel_that_one_python_lacks_is_told(project: Project) -> None:
    """The requirement and the Python are named, and nothing is left behind."""
    (project.wheels / NATIVE[2]).unlink()

    with pytest.raises(RequestError, match=r"not complete: Python 3\.13: native==2\.0$"):
        building.build(project.inputs())

    assert list((project.root / "dist").iterdir()) == []


def test_a_wheel_of_other_bytes_than_the_lock_names_is_not_packed(project: Project) -> None:
    """Its name is right, its digest is not: to the lock it is missing."""
    (project.wheels / PURE).write_bytes(wheel(PURE, {"more.py": b"evil"}))

    with pytest.raises(RequestError, match=r"Python 3\.11: pure==1\.0; Python 3\.12: pure==1\.0"):
        building.build(project.inputs())


def test_llamas_wheel_must_be_of_the_locked_version(project: Project) -> None:
    """The bindings' layouts belong to one version of the library."""
    other = project.root / LLAMA.replace("0.3.36", "0.3.37")
    other.write_bytes(wheel(other.name))

    with pytest.raises(RequestError, match="not the version that is locked"):
        building.build(project.inputs(llama=other))


def test_a_package_without_a_licence_is_refused(project: Project) -> None:
    """Nobody may hand it on."""
    (project.root / LLAMA).write_bytes(wheel(LLAMA, licence=""))

    with pytest.raises(RequestError, match="carries no licence"):
        building.build(project.inputs())


def test_a_model_without_a_licence_is_refused(project: Project) -> None:
    """No file, an empty file and a missing file are all no licence; one kept with the project is."""
    model = project.model
    empty = project.root / "empty"
    empty.write_text(" \n")
    for licence in (None, empty, project.root / "missing"):
        with pytest.raises(RequestError, match="no licence on file for tiny"):
            building.build(project.inputs(models=[dataclasses.replace(model, licence=licence)]))

    kept = project.tree / "models" / "licences" / "LicenseRef-tiny.txt"
    kept.parent.mkdir()
    kept.write_text("kept\n")
    project.commit()
    bundle = building.build(project.inputs(models=[building.GivenModel(model.file)]))

    assert (bundle / "licences/models/tiny.txt").read_text() == "kept\n"


def test_a_model_that_the_catalogue_does_not_pin_is_refused(project: Project) -> None:
    """Another size is refused at once; another content of that size once it was read."""
    for content in (b"GGUF", projects.model("evil")):
        project.model.file.write_bytes(content)
        with pytest.raises(RequestError, match="no model of the catalogue"):
            building.build(project.inputs())

    assert list((project.root / "dist").iterdir()) == []


def test_changes_that_no_commit_has_are_refused_or_said(project: Project) -> None:
    """A release's bytes are those of its commit; a trial says in its name that it is one."""
    (project.tree / "appliance" / "__init__.py").write_text("changed = True\n")

    with pytest.raises(RequestError, match="changes that no commit has"):
        building.build(project.inputs())
    trial = building.build(project.inputs(allow_dirty=True))

    assert read(trial).release == "2.4.0+dirty"
    assert (trial / "app/appliance/__init__.py").read_text() == "changed = True\n"


def test_new_files_that_nobody_added_are_changes_too(project: Project) -> None:
    """A module that lies there and is in no commit would be missing in the bundle."""
    (project.tree / "appliance" / "new.py").write_text("")

    with pytest.raises(RequestError, match="changes that no commit has"):
        building.build(project.inputs())


def test_a_link_in_the_project_is_refused(project: Project) -> None:
    """A bundle holds files and folders only."""
    (project.tree / "appliance" / "link.py").symlink_to("/etc/passwd")
    project.commit()

    with pytest.raises(RequestError, match="link"):
        building.build(project.inputs())


def test_what_is_no_checkout_is_told(project: Project) -> None:
    """The folder and the remedy are named."""
    shutil.rmtree(project.tree / ".git")

    with pytest.raises(SetupError, match="not a checkout"):
        building.build(project.inputs())


@pytest.mark.parametrize("tool", building.TOOLS)
def test_a_release_without_its_tools_is_refused(tool: str, project: Project) -> None:
    """A bare host would have nothing to verify it with, or to install it with."""
    (project.tree / "deploy" / tool).unlink()
    project.commit()

    with pytest.raises(RequestError, match=f"the project has no deploy/{tool}"):
        building.build(project.inputs())


def test_a_release_is_not_built_over_another(project: Project) -> None:
    """The one that is there may be signed already."""
    bundle = building.build(project.inputs())
    (bundle / "SHA256SUMS").write_text("signed")

    with pytest.raises(RequestError, match="is not overwritten"):
        building.build(project.inputs())

    assert (bundle / "SHA256SUMS").read_text() == "signed"


def test_a_bundle_can_carry_an_operating_systems_packages(project: Project) -> None:
    """They lie under os/ and stand in both lists."""
    packages = project.root / "os" / "debian12"
    packages.mkdir(parents=True)
    (packages / "openssl_3.0.deb").write_bytes(b"deb")

    found = read(building.build(project.inputs(os_packages=project.root / "os")))

    assert [each.path for each in found.files if each.role == "os"] == ["os/debian12/openssl_3.0.deb"]


def test_the_readme_and_the_notes_are_of_this_release(project: Project) -> None:
    """Serial, commit, commands and exit codes in one; this version's changes in the other."""
    bundle = building.build(project.inputs())
    readme = (bundle / "README.txt").read_text()

    codes = {int(number) for number in re.findall(r"\b(\d{1,3})  (?=[a-z])", readme)}

    assert readme.startswith("appliance 2.4.0 (serial 7), built 2026-11-21T12:00:00Z")
    assert max(map(len, readme.splitlines())) <= 80
    assert codes >= {*map(int, Exit)}
    assert "--staged /var/lib/appliance/staging/7" in readme
    assert "openssl pkeyutl -verify -pubin" in readme
    assert "sha256sum --check --strict --quiet SHA256SUMS" in readme
    assert (bundle / "RELEASE-NOTES.md").read_text() == (
        "# Release notes\n\n## 0.1.0 — now\n\n### Added\n- All.\n"
    )


def test_the_program_builds(project: Project) -> None:
    """`appliance bundle build --json` names the folder and counts what is in it."""
    done = appliance(
        *("bundle", "build", "--json", "--out", str(project.root / "dist"), "--serial", "7"),
        *("--release", "2.4.0", "--tree", str(project.tree), "--wheels", str(project.wheels)),
        *("--llama", str(project.root / LLAMA), "--model", str(project.model.file)),
        *("--licence", str(project.model.licence), "--python", "3.12", "--min-serial", "3", "--via", "5"),
    )
    result = json.loads(done.stdout)
    found = read(Path(result["bundle"]))

    assert done.returncode == 0
    assert (result["models"], result["pythons"], result["num_wheels"]) == (["tiny"], ["3.12"], 4)
    assert result["num_files"] == len(folder.paths(Path(result["bundle"]))) - 1
    assert found.upgrade_from == manifest.UpgradeFrom(min_serial=3, via=(5,))


def test_the_program_refuses_with_a_reason(project: Project) -> None:
    """A model without a licence ends with exit code 2, the reason and what to do."""
    done = appliance(
        *("bundle", "build", "--out", str(project.root / "dist"), "--serial", "7"),
        *("--tree", str(project.tree), "--wheels", str(project.wheels)),
        *("--llama", str(project.root / LLAMA), "--model", str(project.model.file)),
        check=False,
    )

    assert done.returncode == 2
    assert "no licence on file for tiny" in done.stderr
    assert "--licence FILE" in done.stderr
