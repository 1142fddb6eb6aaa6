"""Whoever runs the appliance, witnesses it or guards its privacy sees nothing of what was asked and answered.

Every page that their roles reach, from the table of all pages, on a home whose record holds canaries in every
field that comes from outside.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Mapping

import httpx
import pytest

from appliance.accounts.roles import allows
from appliance.core import Role
from tests.harness import Gateway, appliance, gateway, question
from tests.integration.test_console_events import PAGES, Stage
from tests.visitor import Visitor, routes

pytestmark = pytest.mark.integration
BLIND_ROLES = (Role.OPERATOR, Role.ADMIN, Role.WITNESS, Role.PRIVACY)
PROMPT = "zebra-quartz-8842-lantern"
ANSWER = "heron-basalt-1193-candle"
USER = "citizen-otter-5531"
AGENT = "browser-of-maple-7714"
ADDRESS = "127.77.88.99"  # the whole network 127.0.0.0/8 is this machine
STRANGER = "visitor-named-juniper-3306"
# Shown to those who manage keys and accounts, and so no canary; what would run or hide text stays text.
HOSTILE = "<script>alert(1)</script>{{7*7}}"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A home whose record holds every canary."""
    folder = tmp_path_factory.mktemp("canary")
    with gateway(folder / "home") as running:
        appliance("audit", "witness", "keygen", "w", "--out", str(folder))
        appliance("audit", "witness", "add", str(folder / "w.vkey"), home=running.home)
        people = {role: Visitor(running, role) for role in BLIND_ROLES}
        plant(running)
        yield Stage(running, folder, people)
        for each in people.values():
            each.close()


def plant(running: Gateway) -> None:
    """Questions, answers, people, addresses; good calls, refused ones, and one that kills the worker."""
    transport = httpx.HTTPTransport(local_address=ADDRESS)
    with running.client(transport=transport, headers={"user-agent": AGENT}) as client:
        path = "/v1/chat/completions"
        said = question(f"{PROMPT} echo: {ANSWER}", user=USER)
        assert ANSWER in client.post(path, json=said).text
        assert client.post(path, json=said | {"stream": True}).status_code == 200
        assert client.post(path, json=said | {"temperature": PROMPT}).status_code == 400
        assert client.get(f"/v1/{PROMPT}").status_code == 404
        assert client.post(path, json=question(f"{PROMPT} please crash say 9 tokens", user=USER)).is_error
    with httpx.Client(base_url=running.console_url) as stranger:
        wrong = {"name": STRANGER, "passphrase": PROMPT}
        assert stranger.post("/login", data=wrong).status_code == 401
    running.wait_ready()
    assert running.chat("say 5 tokens").status_code == 200


def canaries(stage: Stage) -> dict[str, str]:
    key = stage.running.key()
    return {
        "prompt": PROMPT,
        "answer": ANSWER,
        "user": USER,
        "user agent": AGENT,
        "address": ADDRESS,
        "stranger": STRANGER,
        "secret": key.rsplit("_", 1)[1],
        **{f"secret {n}": each.rsplit("_", 1)[1] for n, each in enumerate(stage.secrets)},
    }


def reached(stage: Stage) -> Iterator[tuple[str, httpx.Response]]:
    """Every page that one of these roles may see, forms that are sent included."""
    for (method, path), permission in routes().items():
        case = PAGES.get((method, path))
        for role, person in stage.people.items():
            if case is None or permission is None or not allows(role, permission):
                continue
            address = path.format(**case.ids(stage))
            form = case.form(stage)
            form |= {"name": f"of {role}"} if "name" in form else {}
            answer = person.get(address) if method == "GET" else person.post(address, form)
            yield f"{method} {path} as {role}", answer
            if answer.is_redirect:
                yield f"behind {method} {path} as {role}", person.get(answer.headers["location"])


def test_canaries_are_on_no_page(stage: Stage) -> None:
    """No body, header or address of any page holds one. The auditor's tool finds them: they were there."""
    found = {}
    num_pages = 0
    answers = list(reached(stage))  # first all of them: what is made on the way is a canary for the others
    secrets = canaries(stage)
    for where, answer in answers:
        assert answer.status_code in {200, 303, 400}, f"{where}: {answer.status_code}"
        num_pages += answer.status_code == 200
        # A screen's key goes to the one browser that is set up with it, in a cookie that no page reads.
        headers = [each for each in answer.headers.multi_items() if not each[1].startswith("kiosk=")]
        told = answer.text + str(headers) + urllib.parse.unquote(str(answer.url))
        if hits := [name for name, value in secrets.items() if value in told]:
            found[where] = hits

    assert found == {}
    assert num_pages >= 20
    opened = appliance(
        "audit", "search", "--kind", "request:opened", "--json", home=stage.running.home
    ).stdout
    first = re.findall(r'"seq": (\d+)', opened)[-1]
    assert PROMPT in appliance("audit", "show", first, home=stage.running.home).stdout


def test_secret_of_a_new_key_is_on_its_own_page_only(stage: Stage) -> None:
    """Shown where it was made, not kept by the browser, on no other page, and not in the log."""
    person = stage.people[Role.OPERATOR]
    made = person.post("/keys", {"name": "shown once", "role": "kiosk", "days": ""})
    token = re.search(r"apk_[a-z2-7]{10}_[a-z2-7]{52}", made.text)
    assert token is not None
    assert made.headers["cache-control"] == "no-store"
    secret = token[0].rsplit("_", 1)[1]

    assert [where for where, answer in reached(stage) if secret in answer.text] == []
    assert secret not in stage.running.log_file.read_text()
    with stage.running.client(None, headers={"authorization": f"Bearer {token[0]}"}) as client:
        assert client.get("/v1/models").status_code == 200


def test_foreign_words_stay_words(stage: Stage) -> None:
    """A name that is markup, a template or a script stands on every page as it was typed."""
    operator, admin = stage.people[Role.OPERATOR], stage.people[Role.ADMIN]
    assert operator.post("/keys", {"name": HOSTILE, "role": "kiosk", "days": "30"}).status_code == 200
    assert admin.post("/people", {"name": HOSTILE, "role": "privacy", "days": "30"}).status_code == 200

    for answer in (operator.get("/keys"), admin.get("/people")):
        assert "&lt;script&gt;alert(1)&lt;/script&gt;{{7*7}}" in answer.text
        assert "<script>alert" not in answer.text


HIDDEN: Mapping[str, str] = {"line": "a\r\nb", "escape": "a\x1b[2Jb", "null": "a\x00b", "turned": "a\u202eb"}


@pytest.mark.parametrize("name", HIDDEN)
def test_names_that_steer_or_hide_are_refused_and_shown_inert(stage: Stage, name: str) -> None:
    """No key or account is made; the form that comes back shows the characters as numbers."""
    form = {"name": HIDDEN[name], "days": "30"}
    for answer in (
        stage.people[Role.OPERATOR].post("/keys", form | {"role": "kiosk"}),
        stage.people[Role.ADMIN].post("/people", form | {"role": "privacy"}),
    ):
        assert answer.status_code == 400
        assert "1 to 64 printable characters" in answer.text
        assert not set("\x1b\x00\u202e") & set(answer.text)


def test_health_page_tells_of_the_crash_without_its_words(stage: Stage) -> None:
    """The worker that died is an alarm with a code; what it died of is in no sentence."""
    page = stage.people[Role.OPERATOR].get("/health").text

    assert "failed" in page
    assert "worker_died" in page
    assert "1 of 1" in page
