"""The wheelhouse: markers for each Python, tags for the oldest host, and no wheel missing anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle import hashing, layout, wheelhouse
from appliance.errors import RequestError
from tests.bundles import ROOT, built

RUNTIME = (ROOT / "deploy" / "lock" / "runtime.txt").read_text()
A, B = "a" * 64, "b" * 64


def lock(text: str) -> tuple[wheelhouse.Locked, ...]:
    return wheelhouse.parse_lock(text)


def test_each_python_installs_its_own_half_of_a_fork() -> None:
    """Numpy has one version for 3.11 and another from 3.12 on; what is for Windows is for none of ours."""
    locked = lock(RUNTIME)
    names = {
        python: [str(each) for each in wheelhouse.wanted(locked, python)] for python in wheelhouse.PYTHONS
    }
    numpys = {python: [name for name in found if name.startswith("numpy")] for python, found in names.items()}

    assert [len(found) for found in numpys.values()] == [1, 1, 1, 1]
    assert numpys["3.11"] != numpys["3.12"] == numpys["3.13"] == numpys["3.14"]
    assert not any("tzdata" in name for found in names.values() for name in found)
    assert any(each.name == "tzdata" for each in locked)


def test_a_marker_of_a_patch_release_counts_for_the_whole_version() -> None:
    """A host may have the first 3.11 or the last: what either of them needs is packed."""
    locked = lock(
        f"early==1 ; python_full_version < '3.11.3' --hash=sha256:{A}\n"
        f"late==1 ; python_full_version >= '3.11.3' --hash=sha256:{A}\n"
        f"never==1 ; python_version < '3.11' --hash=sha256:{A}\n"
    )

    assert [each.name for each in wheelhouse.wanted(locked, "3.11")] == ["early", "late"]


@pytest.mark.parametrize(
    ("wheel", "fits"),
    [
        ("p-1-py3-none-any.whl", {"3.11", "3.12", "3.13", "3.14"}),
        ("p-1-py2.py3-none-any.whl", {"3.11", "3.12", "3.13", "3.14"}),
        ("p-1-cp312-cp312-manylinux_2_34_x86_64.whl", {"3.12"}),
        ("p-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", {"3.12"}),
        ("p-1-cp311-abi3-manylinux_2_28_x86_64.whl", {"3.11", "3.12", "3.13", "3.14"}),
        ("p-1-cp313-abi3-manylinux_2_28_x86_64.whl", {"3.13", "3.14"}),
        ("p-1-py3-none-manylinux_2_34_x86_64.whl", {"3.11", "3.12", "3.13", "3.14"}),
        ("p-1-cp312-cp312-manylinux_2_35_x86_64.whl", set()),
        ("p-1-cp312-cp312-manylinux_2_28_aarch64.whl", set()),
        ("p-1-cp312-cp312-musllinux_1_2_x86_64.whl", set()),
        ("p-1-cp312-cp312-macosx_11_0_arm64.whl", set()),
        ("p-1-cp312-cp312-linux_x86_64.whl", set()),
        ("p-1-cp313-cp313t-manylinux_2_28_x86_64.whl", set()),
        ("p-1-pp311-pypy311_pp73-manylinux_2_28_x86_64.whl", set()),
        ("p-2-py3-none-any.whl", set()),
        ("q-1-py3-none-any.whl", set()),
    ],
)
def test_a_wheel_counts_where_its_tags_fit_an_old_host(wheel: str, fits: set[str]) -> None:
    """A glibc newer than RHEL 9's, another architecture or another interpreter is no wheel for ours."""
    locked = lock(f"p==1 --hash=sha256:{A}\n")
    found = {
        python
        for python in wheelhouse.PYTHONS
        if wheelhouse.choose(locked, {wheel: A}, python).wheels == (wheel,)
    }

    assert found == fits


def test_the_best_of_several_wheels_is_taken() -> None:
    """As pip would: the interpreter's own before abi3, a newer C library before an older one."""
    offered = {
        "p-1-cp311-abi3-manylinux_2_28_x86_64.whl": A,
        "p-1-cp312-cp312-manylinux_2_17_x86_64.whl": A,
        "p-1-cp312-cp312-manylinux_2_28_x86_64.whl": A,
        "p-1-py3-none-any.whl": A,
    }
    locked = lock(f"p==1 --hash=sha256:{A}\n")

    assert wheelhouse.choose(locked, offered, "3.12").wheels == ("p-1-cp312-cp312-manylinux_2_28_x86_64.whl",)
    assert wheelhouse.choose(locked, offered, "3.13").wheels == ("p-1-cp311-abi3-manylinux_2_28_x86_64.whl",)


def test_a_wheel_is_known_by_its_digest() -> None:
    """The right name with a digest that the lock has not is no wheel of the lock."""
    locked = lock(f"p==1 --hash=sha256:{A} --hash=sha256:{'c' * 64}\n")

    assert wheelhouse.choose(locked, {"p-1-py3-none-any.whl": B}, "3.12").missing == locked


@pytest.mark.parametrize("python", wheelhouse.PYTHONS)
def test_a_missing_wheel_is_told_with_its_python(python: str) -> None:
    """Every package in turn: without its wheels the wheelhouse is not complete, and says which it lacks."""
    locked = lock(RUNTIME)
    minor = python.replace(".", "")
    whole = {
        f"{each.name.replace('-', '_')}-{each.version}-py3-none-any.whl": min(each.sha256) for each in locked
    }
    assert wheelhouse.choose(locked, whole, python).missing == ()
    for each in wheelhouse.wanted(locked, python):
        name = f"{each.name.replace('-', '_')}-{each.version}-py3-none-any.whl"
        other = {key: value for key, value in whole.items() if key != name}
        # A wheel for another version of Python does not help.
        other[name.replace("py3-none-any", "cp310-cp310-manylinux2014_x86_64")] = min(each.sha256)
        with pytest.raises(RequestError, match=rf"Python {python}: {each.name}=={each.version}$"):
            wheelhouse.require_complete([wheelhouse.choose(locked, other, python)])
        other[name.replace("py3-none-any", f"cp{minor}-cp{minor}-manylinux2014_x86_64")] = min(each.sha256)
        assert wheelhouse.choose(locked, other, python).missing == ()


def test_pip_is_told_every_tag() -> None:
    """With one platform only it takes whatever old release carries that very tag."""
    options = wheelhouse.download_options("3.13")

    assert [each for each in options if each.startswith("--platform=")] == [
        *(f"--platform=manylinux_2_{minor}_x86_64" for minor in range(34, 16, -1)),
        "--platform=manylinux2014_x86_64",
    ]
    assert {"--only-binary=:all:", "--python-version=3.13", "--abi=cp313", "--abi=abi3", "--abi=none"} < {
        *options
    }


@pytest.mark.parametrize(
    "line",
    [
        "p",
        "p==1",
        f"p>=1 --hash=sha256:{A}",
        f"p==1,==1 --hash=sha256:{A}",
        f"p==1 --hash=sha256:{A[1:]}",
        f"p==1 --hash=md5:{A}",
        f"p==1 --hash=sha256:{A.upper()}",
        f"p @ https://example.org/p.whl --hash=sha256:{A}",
        "-r other.txt",
        "--find-links https://example.org",
    ],
)
def test_a_line_that_pins_nothing_is_refused(line: str) -> None:
    """A lock is one version with its digests in each line, and nothing that leads elsewhere."""
    with pytest.raises(RequestError, match="not "):
        lock(line + "\n")


@given(st.text(max_size=200))
def test_any_text_is_a_lock_or_refused(text: str) -> None:
    """Nothing but a refusal comes of text that is no lock."""
    try:
        found = lock(text)
    except RequestError:
        return
    assert all(each.sha256 for each in found)


@pytest.mark.parametrize("python", ["", "3", "3.1.2", "2.7", "py3", "3.111"])
def test_what_is_no_python_is_refused(python: str) -> None:
    """A typing error is no version without wheels."""
    with pytest.raises(RequestError, match="not a version of Python"):
        wheelhouse.tags(python)


@pytest.mark.parametrize("python", sorted({"3.11", "3.13", f"3.{sys.version_info.minor}"}))
def test_pip_finds_everything_in_the_bundle(python: str, tmp_path: Path) -> None:
    """For a Python that need not be here: dependencies too, by digest, from the bundle's folder alone."""
    bundle = built()
    locked = [*lock((bundle / layout.LOCK).read_text())]
    (tmp_path / "lock.txt").write_text(wheelhouse.lock_for(locked, python))
    pip = next((bundle / layout.WHEELS).glob("pip-*.whl")) / "pip"
    command = [sys.executable, "-I", str(pip), "--isolated", "install", "--dry-run", "--no-index"]
    done = subprocess.run(
        [
            *command,
            f"--find-links={bundle / layout.WHEELS}",
            f"--target={tmp_path / 'target'}",
            "--require-hashes",
            *wheelhouse.download_options(python),
            "-r",
            str(tmp_path / "lock.txt"),
        ],
        env={"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    would = done.stdout.rpartition("Would install ")[2].split()

    assert done.returncode == 0, done.stderr
    assert len(would) == len(wheelhouse.wanted(locked, python))


def test_a_bundles_wheelhouse_is_complete_and_holds_no_more(tmp_path: Path) -> None:
    """Each wheel of the bundle is the choice of one of its Pythons, or pip's."""
    bundle = built()
    locks = [(bundle / layout.LOCK).read_text(), (bundle / "lock" / "installer.txt").read_text()]
    locked = [each for text in locks for each in lock(text)]
    offered = {each.name: hashing.digest(each)[0] for each in (bundle / layout.WHEELS).iterdir()}
    pythons = {"3.11", "3.13", f"3.{sys.version_info.minor}"}

    names = wheelhouse.require_complete(wheelhouse.choose(locked, offered, python) for python in pythons)

    assert names == sorted(offered)
