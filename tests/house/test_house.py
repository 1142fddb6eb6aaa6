"""What is written must be true: help, README, settings, targets, versions, sizes."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

import appliance
from appliance import config, statuses
from appliance.api import app, openapi
from appliance.catalog import CATALOGUE, read_model
from appliance.cli import program
from appliance.config import Settings
from appliance.console import app as console
from tests.harness import appliance as run_program

ROOT = Path(__file__).resolve().parent.parent.parent
MAX_LINES = 400


def tracked(*suffixes: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and (not suffixes or path.suffix in suffixes)]


def test_no_file_has_two_subjects() -> None:
    """A Python file has at most 400 lines."""
    long = {
        str(p.relative_to(ROOT)): n
        for p in tracked(".py")
        if (n := len(p.read_text().splitlines())) > MAX_LINES
    }

    assert long == {}


def test_nothing_tracked_is_heavy_or_names_a_registry() -> None:
    """No weights, no builds, no host of a package registry, no index option."""
    heavy = [path.name for path in tracked() if path.stat().st_size > 1_500_000]
    hosts = re.compile(
        r"pypi\.org|pythonhosted|registry\.npmjs|huggingface\.co|--(?:extra-)?index-url[ =]http"
    )
    named = [
        str(path.relative_to(ROOT))
        for path in tracked(".py", ".md", ".toml", ".txt", ".sh", "")
        if path != Path(__file__) and hosts.search(path.read_text(encoding="utf-8"))
    ]

    assert (heavy, named) == ([], [])


def test_example_configuration_is_the_defaults_and_explains_each() -> None:
    """It loads to exactly the defaults, names every setting, and has words above each group."""
    text = (ROOT / "deploy" / "appliance.example.toml").read_text()
    raw = tomllib.loads(text)
    named = {f"{s}.{k}" for s, v in raw.items() if isinstance(v, dict) for k in v} | {
        k for k, v in raw.items() if not isinstance(v, dict)
    }
    sections = {name: getattr(Settings(), name) for name in Settings.__struct_fields__}
    known = {
        f"{name}.{field}" if hasattr(value, "__struct_fields__") else name
        for name, value in sections.items()
        for field in getattr(value, "__struct_fields__", ("",))
    }

    assert config.parse(text) == Settings()
    assert named == known


def test_makefile_targets_are_documented_and_readme_names_real_ones() -> None:
    """Every target has its line in `make help`; every `make x` of the README exists."""
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    documented = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))

    assert phony == documented
    assert named <= documented


def test_readme_tree_names_what_is_there() -> None:
    """Each entry of the tree exists, and each Python file of the package's top is in it."""
    block = (ROOT / "README.md").read_text().split("## The tree")[1].split("```")[1]
    names = [
        name for line in block.splitlines()[2:] for name in re.findall(r"^ ?[ ]?((?:[\w.]+(?:/| |$))+)", line)
    ]
    words = {word for name in names for word in name.split()} - {"text"}
    missing = [w for w in words if not any((base / w).exists() for base in (ROOT, ROOT / "appliance"))]
    modules = {path.name for path in (ROOT / "appliance").glob("*.py")} - {"__init__.py"}

    assert missing == []
    assert modules <= words


def help_blocks() -> list[tuple[str, str]]:
    found = []
    for path in tracked(".md"):
        found += re.findall(r"<!-- help: (.*?) -->\n```text\n(.*?)```", path.read_text(), re.DOTALL)
    return found


@pytest.mark.parametrize(("command", "shown"), help_blocks())
def test_help_in_documents_is_the_programs_own(command: str, shown: str) -> None:
    """`make help-blocks` is not needed: this test says what to paste."""
    done = run_program(*command.split()[1:])

    assert shown == done.stdout


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
        else:
            found.append(((*path, name), command))
    return found


ALL_COMMANDS = commands(program)
# They run on machines of auditors, witnesses and courts.
WITHOUT_A_HOME = {
    ("auditor", "keygen"),
    ("auditor", "sign"),
    ("audit", "check-evidence"),
    ("audit", "open"),
    ("audit", "witness", "keygen"),
    ("audit", "witness", "cosign"),
    ("bundle", "build"),
    # They are about media, and about the host rather than a home.
    ("bundle", "split"),
    ("bundle", "import"),
    ("bundle", "inventory"),
    ("bundle", "delta"),
    ("bundle", "install"),
    ("bundle", "upgrade"),
    ("bundle", "rollback"),
    ("bundle", "repair"),
    ("bundle", "uninstall"),
    ("bundle", "list"),
    ("bundle", "settle"),
    ("secrets", "credential"),
}


@pytest.mark.parametrize(("path", "command"), ALL_COMMANDS, ids=[" ".join(path) for path, _ in ALL_COMMANDS])
def test_every_command_has_an_example_json_and_home(path: tuple[str, ...], command: click.Command) -> None:
    """Help shows an example of the command itself; programs get JSON; the home can be chosen."""
    options = {option for parameter in command.params for option in parameter.opts}

    assert f"appliance {' '.join(path)}" in (command.help or "")
    assert "--json" in options or path == ("serve",)
    assert "--home" in options or path in WITHOUT_A_HOME or path[0] == "bundle"


def test_every_route_names_a_permission() -> None:
    """Deny by default: a route without a permission is only `/healthz`."""
    routes = list(openapi._walk(app.create_routes().routes))  # also those that the document leaves out
    unguarded = [
        route.path
        for route in routes
        if not any(hasattr(each.dependency, "permission") for each in route.dependencies)
    ]

    assert {"/v1/chat/completions", "/v1/completions", "/healthz"} <= {route.path for route in routes}
    assert unguarded == ["/healthz"]


def test_every_page_names_a_permission() -> None:
    """Without one there is only the entrance, what styles it, and the lobby's page; menus lead to pages."""
    paths = {(route.path, route.permission) for route in console.ROUTES}  # type: ignore[attr-defined]
    entrance = {"/", "/login", "/logout", "/passphrase"}
    unguarded = {path for path, permission in paths if permission is None and not path.startswith("/kiosk")}

    assert unguarded == entrance
    assert {(item.path, item.permission) for item in console.MENU} <= paths


def test_guide_names_every_path_of_callers() -> None:
    """A developer finds each route in the guide."""
    guide = (ROOT / "deploy" / "guides" / "api.md").read_text()
    paths = [route.path for route in openapi.routes_of(app.create_routes())]

    assert [path for path in paths if path.replace("{name:path}", "{id}") not in guide] == []


def test_guide_names_every_error_code_of_the_border() -> None:
    """The table of errors in the guide and the table in the code list the same codes."""
    guide = (ROOT / "deploy" / "guides" / "api.md").read_text()

    assert [code for code in statuses._STATUS if f"`{code}`" not in guide] == []


def test_changelog_and_catalogue_are_current() -> None:
    """The version has its section; every model file is valid and carries a licence."""
    assert f"## {appliance.__version__}" in (ROOT / "deploy" / "CHANGELOG.md").read_text()
    pinned = [read_model(path) for path in CATALOGUE.glob("*.toml")]
    assert pinned
    assert all(model.licence for model in pinned)


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "deploy" / "lock" / name).read_text()
    assert all(
        "--hash=sha256:" in block for block in re.split(r"\n(?=[a-z0-9])", text.strip()) if "==" in block
    )
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", text, re.MULTILINE))


def test_locks_hold_what_the_project_names() -> None:
    """Every dependency of pyproject is locked with hashes; run-time versions are the same in both."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    name_of = re.compile(r"^[A-Za-z0-9._-]+")

    def names(listed: list[str]) -> set[str]:
        return {name_of.match(each)[0].lower() for each in listed}  # type: ignore[index]

    runtime, dev = locked("runtime.txt"), locked("dev.txt")
    wanted = names(project["project"]["dependencies"])
    assert wanted - runtime.keys() == {"llama-cpp-python"}
    assert locked("llama.txt") == {"llama-cpp-python": "0.3.36"}
    assert names(project["dependency-groups"]["dev"]) <= dev.keys()
    assert names(project["dependency-groups"]["build"]) <= locked("build.txt").keys()
    assert names(project["dependency-groups"]["bench"]) <= locked("bench.txt").keys()
    assert names(project["dependency-groups"]["installer"]) == locked("installer.txt").keys()
    assert {name: dev.get(name) for name in runtime} == runtime
    clients = {
        name.removeprefix("client-"): names(listed)
        for name, listed in project["dependency-groups"].items()
        if name.startswith("client-")
    }
    folder = ROOT / "deploy" / "lock" / "clients"
    assert {path.stem for path in folder.glob("*.txt")} == clients.keys()
    for name, wanted in clients.items():
        assert wanted <= locked(f"clients/{name}.txt").keys()


def test_javascript_is_locked_by_digest_and_names_no_place() -> None:
    """Every module has its integrity; where it is fetched from is the host's own affair."""
    lock = json.loads((ROOT / "deploy" / "lock" / "clients" / "js" / "package-lock.json").read_text())
    modules = {name: each for name, each in lock["packages"].items() if name}

    assert {name.removeprefix("node_modules/") for name in modules} >= lock["packages"][""][
        "dependencies"
    ].keys()
    assert all(each["integrity"].startswith("sha512-") for each in modules.values())
    assert not any("resolved" in each for each in modules.values())
