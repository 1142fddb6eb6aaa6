"""The console's pages as a whole: each names its permission, and none is open that need not be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.routing import Route

from appliance.accounts.roles import Permission, allows
from appliance.console import app
from appliance.console.render import STATIC
from appliance.core import PEOPLE, Role
from tests.visitor import routes

TEMPLATES = sorted((Path(app.__file__).parent / "templates").rglob("*.html"))
# Everybody's, also without a session: the way in and out, and the lobby's screen, which has its own key.
OPEN = {"/", "/login", "/logout", "/passphrase"}
LOBBY = "/kiosk"


def test_every_page_names_a_permission() -> None:
    """Deny by default: a page without a permission is one of the entrance's, or the lobby's."""
    unguarded = {path for (_, path), permission in routes().items() if permission is None}

    assert len(app.ROUTES) >= 15
    assert {path for path in unguarded if not path.startswith(LOBBY)} == OPEN
    assert all(isinstance(each, Route) for each in app.ROUTES)


def test_every_role_of_people_has_a_first_page_that_is_theirs() -> None:
    """Whoever logs in lands somewhere: each entry of the menu is a page, with the permission of its entry."""
    pages = routes()

    assert all(pages[("GET", each.path)] is each.permission for each in app.MENU)
    assert [role for role in PEOPLE if not any(allows(role, each.permission) for each in app.MENU)] == []


def test_nobody_who_runs_the_appliance_may_do_what_an_auditor_may() -> None:
    """No permission belongs to both, but for how the appliance and its log are."""
    runs = {each for each in Permission if allows(Role.ADMIN, each) or allows(Role.OPERATOR, each)}
    reads = {each for each in Permission if allows(Role.AUDITOR, each)}

    assert runs & reads == {
        Permission.SEE_READINESS,
        Permission.SEE_AUDIT_STATUS,
        Permission.SEE_OWN_ACCOUNT,
    }
    assert not allows(Role.AUDITOR, Permission.INFER)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_style_script_or_foreign_address(path: Path) -> None:
    """The content security policy would stop it in a browser; here it is found before."""
    text = path.read_text()

    assert (
        re.findall(r"\sstyle=|<style|<script(?! src=\"\{\{ static)|\son[a-z]+=|https?://|\|\s*safe", text)
        == []
    )


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_form_that_changes_something_carries_its_token(path: Path) -> None:
    """A form that posts has the session's token in it; the log-in has no session yet."""
    forms = re.findall(r"<form[^>]*method=\"post\".*?</form>", path.read_text(), re.DOTALL)

    tokens = ('name="csrf"', "parts.csrf(session)", 'action="/login"')
    assert [each[:60] for each in forms if not any(token in each for token in tokens)] == []


def test_static_files_name_no_other_host() -> None:
    """Styles and scripts fetch nothing from elsewhere."""
    address = re.compile(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}")
    named = {found for path in STATIC.iterdir() for found in address.findall(path.read_text())}

    assert named <= {"http://www.w3.org"}  # the name of SVG, which nobody fetches
