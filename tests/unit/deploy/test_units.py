"""The units: what they name exists in the layout, systemd understands them, and their sandbox stays tight."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import config
from appliance.bundle.install.service import Init
from appliance.bundle.layout import Site
from appliance.bundle.preflight import gather
from appliance.engine import process

ROOT = Path(__file__).resolve().parent.parent.parent.parent
UNITS = ROOT / "deploy" / "units"
MAX_EXPOSURE = 2.0
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and "CI" not in os.environ, reason="systemd is not installed"
)
OURS = re.compile(r"(?:/opt/appliance|/var/lib/appliance|/run/appliance)[\w./-]*")


def files() -> list[Path]:
    return sorted(path for path in UNITS.rglob("*") if path.is_file())


def settings(path: Path) -> list[tuple[str, str]]:
    return settings_of(path.read_text())


def settings_of(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if re.match(r"[A-Za-z]+=", line)]
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)]


def exposure(folder: Path, unit: str) -> float:
    """Systemd's own score, 0 (closed) to 10 (open)."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(folder / unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for .*: ([0-9.]+) ", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return float(found[1])


def verified(folder: Path) -> list[str]:
    """What `systemd-analyze verify` complains of, but that the program is not installed here."""
    names = ["appliance.service", "appliance-worker.socket", "appliance-worker@.service"]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(folder / name) for name in names)],
        capture_output=True,
        text=True,
        check=False,
    )
    known = re.compile(r"Command /opt/appliance/current/\S+ is not executable: No such file")
    return [line for line in done.stderr.splitlines() if "appliance" in line and not known.search(line)]


def with_drop_in(folder: Path, unit: str, drop_in: str) -> Path:
    """The unit and a drop-in as one file: what systemd reads in the end."""
    copy = folder / unit
    copy.write_text((UNITS / unit).read_text() + (UNITS / "drop-ins" / drop_in).read_text())
    return folder


def test_every_path_is_one_of_the_layout() -> None:
    """A path that the layout does not have is a path that the installer does not make."""
    site = Site()
    roots = {
        site.current,
        site.releases,
        site.home,
        site.store,
        site.trust,
        site.receipts,
        site.staging,
        site.backups,
        site.run,
        site.state,
        site.current.parent,
    }
    inside = {
        site.current / "bin/appliance",
        site.current / "venv/bin/python",
        site.current / "app/deploy/guides/host.md",
        site.home / "models",
        site.home / "serve.log",
        site.run / "worker.sock",
    }
    named = {Path(found.rstrip("/.")) for path in files() for found in OURS.findall(path.read_text())}

    assert named - roots - inside == set()
    assert {site.current / "bin/appliance", site.home, site.run / "worker.sock"} <= named
    assert (ROOT / "deploy/guides/host.md").exists()


def test_folders_are_made_as_the_layout_owns_them() -> None:
    """Root owns all but the home; what others must not read is closed."""
    lines = [line.split() for line in (UNITS / "appliance.tmpfiles").read_text().splitlines()]
    made = {Path(line[1]): (line[2], line[3]) for line in lines if line and line[0] == "d"}
    site = Site()

    assert made.pop(site.home) == ("0700", "appliance")
    assert {owner for _, owner in made.values()} == {"root"}
    assert {path for path, (mode, _) in made.items() if mode == "0700"} == {site.staging, site.backups}
    assert {site.run, site.releases, site.store, site.trust, site.receipts} <= made.keys()


@needs_systemd
@pytest.mark.parametrize("unit", ["appliance.service", "appliance-worker@.service"])
def test_sandbox_is_tight(unit: str) -> None:
    """A line that is lost or undone by a later one is seen."""
    assert exposure(UNITS, unit) < MAX_EXPOSURE


@needs_systemd
@pytest.mark.parametrize(
    ("unit", "drop_in"),
    [("appliance.service", "network.conf"), ("appliance-worker@.service", "gpu.conf")],
)
def test_sandbox_is_tight_with_its_drop_in(tmp_path: Path, unit: str, drop_in: str) -> None:
    """What a host needs in addition opens little."""
    assert exposure(with_drop_in(tmp_path, unit, drop_in), unit) < MAX_EXPOSURE


@needs_systemd
def test_score_is_a_measure(tmp_path: Path) -> None:
    """The control: a unit with nothing but its program is what systemd calls unsafe."""
    (tmp_path / "bare.service").write_text("[Service]\nExecStart=/bin/true\n")

    assert exposure(tmp_path, "bare.service") > 8


@needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """And the control: a misspelt directive is one that does nothing."""
    assert verified(UNITS) == []
    for path in UNITS.glob("appliance*"):
        shutil.copy(path, tmp_path)
    service = tmp_path / "appliance.service"
    service.write_text(service.read_text().replace("PrivateUsers=", "PrivateUser="))

    assert any("PrivateUser" in line for line in verified(tmp_path))


def test_worker_has_the_environment_of_a_child() -> None:
    """Threads that spin for as long as they like cost a step a second (DESIGN.md of the engine)."""
    given = dict(
        pair.split("=", 1)
        for key, value in settings(UNITS / "appliance-worker@.service")
        if key == "Environment"
        for pair in value.split()
    )

    assert given == process.VARIABLES


def test_no_execution_rule_covers_what_another_rule_closed() -> None:
    """Systemd 252 mounts each path of NoExecPaths anew, writable, over what lies there: seen live."""
    for unit in ("appliance.service", "appliance-worker@.service"):
        found = settings(UNITS / unit)
        marked = [path for key, value in found if key == "NoExecPaths" for path in value.split()]
        writable = {path for key, value in found if key == "ReadWritePaths" for path in value.split()}

        assert set(marked) <= writable | {"/tmp", "/var/tmp"}  # noqa: S108 - systemd's own for the unit


def test_init_script_says_what_lsb_says() -> None:
    """Its header is complete, its shell is plain, and its words for misuse have their exit codes."""
    script = UNITS / "appliance.init"
    header = script.read_text().split("### END INIT INFO")[0]
    fields = {"Provides", "Required-Start", "Required-Stop", "Default-Start", "Default-Stop"}
    misuse = subprocess.run(["sh", str(script), "dream"], capture_output=True, text=True, check=False)

    assert all(f"# {field}:" in header for field in fields)
    assert os.access(script, os.X_OK)
    assert (misuse.returncode, misuse.stdout) == (2, "")
    assert "start|stop|restart|force-reload|status" in misuse.stderr


@pytest.mark.parametrize(("enabled", "expected"), [(0, True), (1, False)])
def test_labels_are_restored_where_selinux_is_on(tmp_path: Path, enabled: int, expected: object) -> None:
    """The installer runs this on every host; only one with SELinux is changed."""
    asked = tmp_path / "asked"
    for name, words in {
        "selinuxenabled": f"exit {enabled}",
        "restorecon": f'echo "$@" >> {asked}',
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{words}\n")
        program.chmod(0o755)
    done = subprocess.run(
        ["sh", str(UNITS / "label.sh")],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0
    assert asked.exists() == expected
    assert not expected or "-R /etc/systemd/system" in asked.read_text()


def test_label_script_fails_where_labels_can_not_be_restored(tmp_path: Path) -> None:
    """Without restorecon a program in the right place has the wrong label, and would not start."""
    for name in ("selinuxenabled",):
        (tmp_path / name).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / name).chmod(0o755)
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run(
        [shell, str(UNITS / "label.sh")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "policycoreutils" in done.stderr


@pytest.mark.parametrize("name", ["appliance.service", "appliance-worker@.service"])
def test_units_leave_what_a_worker_shuts_itself_in_with(name: str) -> None:
    """Systemd 252 has these calls in no group: without them a worker would find no layer at all."""
    said = settings(UNITS / name)
    filters = [value.split() for key, value in said if key == "SystemCallFilter"]
    calls = {"seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
    assert filters[-1:] == [each for each in filters if calls == set(each)]
    assert {("MemorySwapMax", "0"), ("LimitCORE", "0"), ("NoNewPrivileges", "yes")} <= set(said)


def test_worker_program_takes_what_the_unit_hands_it() -> None:
    """The options in the unit are options of the program."""
    (line,) = [v for k, v in settings(UNITS / "appliance-worker@.service") if k == "ExecStart"]
    shown = subprocess.run(
        [sys.executable, "-m", "tests.fakes.fake_worker", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert line.endswith("-m appliance.engine.worker --fd 0 --leashed")
    assert "--fd" in shown
    assert "--leashed" in shown


def test_guide_shows_the_drop_in_that_is_delivered() -> None:
    """What a person copies from the guide is what the tests score."""
    guide = (ROOT / "deploy/guides/host.md").read_text()
    (shown,) = re.findall(r"```ini\n(.*?)```", guide, re.DOTALL)
    (given,) = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)

    assert settings_of(shown) == settings(UNITS / "drop-ins/network.conf")
    assert (
        config.parse(given).engine.worker_socket
        == dict(settings(UNITS / "appliance-worker.socket"))["ListenStream"]
    )
    assert all(
        (ROOT / name).is_file() for name in re.findall(r"deploy/units/[\w./-]*\w", guide) if "." in name
    )


def test_preflight_names_the_place_of_the_rules() -> None:
    """Rules of fapolicyd are looked for where the guide puts them."""
    place = "/etc/fapolicyd/rules.d/35-appliance.rules"

    assert place in (UNITS / "appliance.fapolicyd").read_text()
    assert place in (ROOT / "deploy/guides/host.md").read_text()
    assert place.lstrip("/") in Path(str(gather.__file__)).read_text()


def test_the_installer_puts_the_rules_there(tmp_path: Path) -> None:
    """Where a host has fapolicyd, an installation brings the rules to the place that is looked at."""
    rules = tmp_path / "etc/fapolicyd/rules.d"
    rules.mkdir(parents=True)
    Init(tmp_path).put(ROOT)

    assert [each.name for each in rules.iterdir()] == ["35-appliance.rules"]
