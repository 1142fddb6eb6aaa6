"""A sealed home: its disk opens nothing by itself, and everything else goes on as ever."""

from __future__ import annotations

import fnmatch
import json
import os
import pty
import select
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance import config, keyring, keyslots, resealing
from appliance.alone import open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.audit.recipients import Identity
from appliance.config import Home
from appliance.core import Role
from tests.acts import dev_auditor, erase, signed, with_member
from tests.clocks import ManualClock
from tests.harness import PROGRAM, Gateway, appliance, gateway, stored_response, wait_until
from tests.records import assert_verified
from tests.restored import agreed, begin, renamed, said, set_back, with_past
from tests.sealed import (
    CREDENTIAL,
    OTHER,
    PASSPHRASE,
    files_of,
    found_on,
    inventory,
    make_sealed,
    opened_by,
    secrets_of,
)

pytestmark = pytest.mark.integration
FIPS = '[audit]\norigin = "sealed.example/audit/1"\n[crypto]\nprofile = "fips"\n'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A passphrase and credentials in files, as an operator hands them over."""
    folder = tmp_path_factory.mktemp("secrets")
    for name, secret in (("passphrase", PASSPHRASE), ("credential", CREDENTIAL), ("other", OTHER)):
        (folder / name).write_text(f"{secret}\n")
        (folder / name).chmod(0o600)
    return folder


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of credentials as systemd makes it for a service: read-only, for its user alone."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "appliance-home-key").write_text(CREDENTIAL)
    (folder / "appliance-home-key").chmod(0o400)
    folder.chmod(0o500)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def lived(running: Gateway, unlock: tuple[str, ...]) -> str:
    """Whatever makes secret files: a stored response, a hold, an authority, a backup. A request's id."""
    running.key(Role.KIOSK, stores_responses=True)
    answered = running.chat("echo: canary", user="someone")
    assert answered.status_code == 200
    stored_response(running)
    home = running.home
    appliance("audit", "hold", "place", "--user", "else", "--reason", "r", home=home)
    appliance("tls", "init", "--permit", "localhost", *unlock, home=home)
    appliance("db", "backup", home=home)
    return str(answered.headers["x-request-id"])


def carried_away(home: Home, folder: Path) -> str:
    """The recovery key lies in its safe, as the guide says."""
    return str(shutil.move(home.keys / keyring.RECOVERY, folder / keyring.RECOVERY))


def ending(*words: str, home: Home, **given: Any) -> tuple[int, str]:
    """A command's exit code, and what it said of its failure."""
    done = appliance(*words, home=home, check=False, **given)
    return done.returncode, done.stderr


def untold(home: Home) -> list[str]:
    """Files of a home that the guide's table does not name once, or of which it says what is not so."""
    table, wrong = inventory(), []
    for path in files_of(home.root):
        name = str(path.relative_to(home.root))
        rows = [word for pattern, word in table.items() if fnmatch.fnmatch(name, pattern)]
        if len(rows) != 1 or (rows[0] == "sealed") != keyslots.is_sealed(path.read_bytes()):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("way", ["passphrase", "credential"])
def test_disk_of_a_whole_life(files: Path, credentials: Path, tmp_path: Path, way: str) -> None:
    """Served, killed, served again, backed up: no file holds a secret, and nobody else's environment does."""
    secret, unlock = (PASSPHRASE, ("--unlock", str(files / way))) if way == "passphrase" else (CREDENTIAL, ())
    home = make_sealed(tmp_path / "home", secret)
    carried_away(home, tmp_path)
    running = Gateway(home=home, options=unlock).start()
    try:
        request_id = lived(running, unlock)
        running.kill()
        running.start()
        assert running.chat("echo: again").status_code == 200
        for pid in (running.pid, running.worker_pid):
            for told in ("environ", "cmdline"):
                assert secret.encode() not in Path(f"/proc/{pid}/{told}").read_bytes()
    finally:
        running.stop()
    shown = appliance("audit", "show", request_id, *unlock, home=home).stdout
    assert "canary" in shown
    assert_verified(home)
    secrets = secrets_of(home)
    assert {each.partition("-")[0] for each in secrets} == {
        "keys/dev", "keys/holds.key", "keys/index", "keys/log.ed25519", "keys/responses.key", "keys/shares",
        "tls/ca.key",
    }  # fmt: skip
    assert untold(home) == []
    known = secrets | {"way": secret.encode(), "home key": next(iter(home.unlocking.keys.values()))}
    assert found_on(home.root, known) == set()
    log = {"log": running.log_file.read_bytes() + "".join(running.output).encode()}
    assert not any(each in text for text in log.values() for each in known.values())
    resealing.unseal(home)  # the control: in the clear each of them is found
    assert found_on(home.root, secrets) == set(secrets)


def test_a_copy_of_the_disk_opens_nothing(files: Path, tmp_path: Path) -> None:
    """Without what opens it no record is read and nothing is signed or served; what is public is there."""
    home = make_sealed(tmp_path / "home", CREDENTIAL)
    carried_away(home, tmp_path)
    unlock = ("--unlock", str(files / "credential"))
    running = Gateway(home=home, options=unlock).start()
    request_id = running.chat("echo: canary").headers["x-request-id"]
    running.stop()
    copy = Home(shutil.copytree(home.root, tmp_path / "copy", symlinks=True))
    before = {each: each.read_bytes() for each in copy.keys.iterdir()}
    for words in (
        ("audit", "show", request_id),
        ("audit", "search", "--user", "someone"),
        ("audit", "release", request_id, "--purpose", "a case", "--out", str(tmp_path / "x.release")),
        ("key", "create", "mallory", "--role", "admin"),
        ("account", "create", "mallory", "--role", "admin"),
        ("secrets", "unseal"),
        ("secrets", "add", "--with", str(files / "other")),
        ("secrets", "rotate", "--with", str(files / "other")),
        ("serve", "--port", "0", "--console-port", "0"),
    ):
        code, said = ending(*words, home=copy)
        assert (code, "nothing that opens it was given" in said) == (3, True), (words, said)
        code, said = ending(*words, "--unlock", str(files / "other"), home=copy)
        assert (code, "does not open this home" in said) == (3, True), (words, said)
        assert "canary" not in said
    assert {each: each.read_bytes() for each in copy.keys.iterdir()} == before
    assert_verified(copy)
    told = json.loads(appliance("secrets", "status", "--json", home=copy).stdout)
    assert (told["sealed"], told["in_the_clear"]) == (True, [])
    assert [each["name"] for each in told["slots"]] == ["credential-1"]
    assert appliance("db", "status", home=copy).returncode == 0
    assert "canary" in appliance("audit", "show", request_id, *unlock, home=copy).stdout  # the control


def test_what_opens_it_is_handed_over(files: Path, tmp_path: Path) -> None:
    """By a file, by standard input or by a descriptor; a word of the command is never the secret itself."""
    home = make_sealed(tmp_path / "home", CREDENTIAL)
    words = [str(PROGRAM), "key", "list", "--home", str(home.root), "--unlock"]
    assert subprocess.run([*words, "-"], input=CREDENTIAL, text=True, check=False).returncode == 0
    reading, writing = os.pipe()
    os.write(writing, CREDENTIAL.encode())
    os.close(writing)
    done = subprocess.run([*words, f"/dev/fd/{reading}"], pass_fds=[reading], check=False)
    os.close(reading)
    assert done.returncode == 0
    code, said = ending("key", "list", "--unlock", CREDENTIAL, home=home)
    assert (code, "can not be read" in said) == (3, True)
    folder = files / "no-such-file"
    assert ending("key", "list", "--unlock", str(folder), home=home)[0] == 3


def test_a_person_is_asked(tmp_path: Path) -> None:
    """At a terminal: nothing that is typed is shown, and a slip may be mended."""
    home = make_sealed(tmp_path / "home", PASSPHRASE)
    child, terminal = pty.fork()
    if child == 0:
        os.execv(str(PROGRAM), [str(PROGRAM), "key", "list", "--home", str(home.root)])  # noqa: S606
    shown = b""
    answers = [b"wrong words here", PASSPHRASE.encode()]
    while select.select([terminal], [], [], 60)[0]:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if answers and shown.count(b"passphrase of") == 3 - len(answers):
            os.write(terminal, answers.pop(0) + b"\n")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert b"ROLE" in shown
    assert b"horse" not in shown
    assert b"wrong words" not in shown


def test_ways_change_on_the_record(files: Path, tmp_path: Path) -> None:
    """Sealed, another slot, one less, another key, unsealed: each on the record first, none beside a gateway
    that would need the old key.
    """
    passphrase, credential, other = (str(files / each) for each in ("passphrase", "credential", "other"))
    with gateway(tmp_path / "home") as running:
        home = running.home
        code, said = ending("secrets", "seal", "--with", credential, home=home)
        assert (code, "another appliance process" in said) == (3, True)
    clear = secrets_of(home)
    carried_away(home, tmp_path)
    assert level_of(home) == "warn"
    weak = tmp_path / "weak"
    weak.write_text("password")
    assert ending("secrets", "seal", "--with", str(weak), home=home)[0] == 2
    assert not keyring.is_sealed(home)
    appliance("secrets", "seal", "--with", credential, home=home)
    assert (level_of(home), found_on(home.root, clear)) == ("ok", set())
    assert ending("secrets", "seal", "--with", other, home=home)[0] == 3
    again = Gateway(home=home, options=("--unlock", credential)).start()
    try:
        appliance("secrets", "add", "--with", passphrase, "--name", "safe", "--unlock", credential, home=home)
        appliance("secrets", "remove", "credential-1", "--unlock", passphrase, home=home)
        code, said = ending("secrets", "rotate", "--with", other, "--unlock", passphrase, home=home)
        assert (code, "another appliance process" in said) == (3, True)
        assert again.chat("echo: x").status_code == 200
    finally:
        again.stop()
    assert ending("key", "list", "--unlock", credential, home=home)[0] == 3
    appliance("secrets", "rotate", "--with", other, "--unlock", passphrase, home=home)
    assert ending("key", "list", "--unlock", passphrase, home=home)[0] == 3
    assert secrets_of(opened_by(home.root, OTHER)).items() >= clear.items()
    appliance("secrets", "unseal", "--unlock", other, home=home)
    assert secrets_of(opened_by(home.root, None)).items() >= clear.items()
    found = reversed(query.search(home.database, kind=Kind.SECRETS_CHANGED, limit=100))
    assert [(each.public["action"], each.public["num_passphrases"], each.public["num_credentials"])
            for each in found] == [("sealed", 0, 1), ("added", 1, 1), ("removed", 1, 0), ("rotated", 0, 1),
                                   ("unsealed", 0, 0)]  # fmt: skip
    assert_verified(home)


def level_of(home: Home) -> str:
    """What doctor says of the secrets."""
    told = json.loads(appliance("doctor", "--json", home=home, check=False).stdout)
    return str(next(each["level"] for each in told["checks"] if each["name"] == "secrets"))


def test_doctor_finds_what_is_planted(tmp_path: Path) -> None:
    """A secret in the clear in a sealed home is red; the recovery key that waits for its safe, a warning."""
    home = make_sealed(tmp_path / "home", CREDENTIAL)
    assert level_of(home) == "warn"
    carried_away(home, tmp_path)
    assert level_of(home) == "ok"
    (home.keys / "index-2027-01.key").write_bytes(bytes(range(32)))
    assert level_of(home) == "fail"


def test_in_profile_fips(files: Path, tmp_path: Path) -> None:
    """PBKDF2 in the place of scrypt, the second signature's key sealed as well, and it serves."""
    home = make_sealed(tmp_path / "home", PASSPHRASE, toml=FIPS)
    assert keyring.slots_of(home).ways[0].kdf.startswith("pbkdf2-sha256$")
    running = Gateway(home=home, options=("--unlock", str(files / "passphrase"))).start()
    try:
        assert running.chat("echo: x").status_code == 200
    finally:
        running.stop()
    assert_verified(home)
    assert "keys/log.p256" in secrets_of(home)
    assert found_on(home.root, secrets_of(home)) == set()


def test_tls_with_a_sealed_key(files: Path, tmp_path: Path) -> None:
    """The server's key lies sealed, is served, and is renewed under a running gateway."""
    home = make_sealed(tmp_path / "home", CREDENTIAL)
    unlock = ("--unlock", str(files / "credential"))
    appliance("tls", "init", *unlock, home=home)
    appliance("tls", "issue", "--name", "localhost", "--name", "127.0.0.1", *unlock, home=home)
    with home.config.open("a") as file:
        file.write(
            f'[server]\ntls_certificate = "{home.tls}/server.crt"\ntls_key = "{home.tls}/server.key"\n'
        )
    running = Gateway(home=home, options=unlock).start()
    try:
        context = ssl.create_default_context(cafile=str(home.tls / "ca.crt"))
        assert httpx.get(f"{running.url}/healthz", verify=context).status_code == 200
        before = served(running)
        appliance("tls", "renew", "--force", *unlock, home=home)
        wait_until(lambda: served(running) != before, seconds=30)
        assert httpx.get(f"{running.url}/healthz", verify=context).status_code == 200
    finally:
        running.stop()
    assert {"tls/ca.key", "tls/server.key"} <= secrets_of(home).keys()
    assert found_on(home.root, secrets_of(home)) == set()
    told = json.loads(appliance("doctor", "--json", home=home, check=False).stdout)
    assert all(each["green"] for each in told["checks"] if each["name"] in {"tls", "log keys", "secrets"})


def served(running: Gateway) -> str:
    """The certificate that a new connection is shown."""
    address = httpx.URL(running.url)
    return ssl.get_server_certificate((address.host, address.port or 443))


def test_its_box_comes_back_elsewhere(files: Path, tmp_path: Path) -> None:
    """Backups of a sealed home open for the recovery key alone; the home they make is sealed anew, or not."""
    home = make_sealed(tmp_path / "home", CREDENTIAL)
    unlock = ("--unlock", str(files / "credential"))
    appliance("key", "create", "lobby", "--role", "kiosk", *unlock, home=home)
    recovery = carried_away(home, tmp_path)
    saved = json.loads(appliance("db", "backup", "--json", *unlock, home=home).stdout)
    back = Home(tmp_path / "back")
    appliance("db", "restore-box", saved["box"], "--identity", recovery, home=back)
    assert_verified(back)
    key = keyring.read(home, home.keys / "log.ed25519")
    assert (back.keys / "log.ed25519").read_bytes() == key
    appliance("secrets", "seal", "--with", str(files / "other"), home=back)
    assert found_on(back.root, {"key": key}) == set()
    again = appliance("key", "list", "--unlock", str(files / "other"), home=back)
    assert "lobby" in again.stdout


async def test_a_log_begins_anew_in_a_sealed_home(clock: ManualClock, tmp_path: Path) -> None:
    """The ceremony's fresh key is sealed too, under its own name, and signs from then on."""
    home = make_sealed(tmp_path / "home", CREDENTIAL)
    past = await with_past(home, clock, tmp_path)
    before = secrets_of(home)["keys/log.ed25519"]
    set_back(home, past)
    begun = begin(home, clock, agreed(home))
    renamed(home, past.origin, begun.origin)
    assert secrets_of(home)["keys/log.ed25519"] != before
    assert [each.name for each in home.keys.glob("next-*")] == []
    with open_log_alone(home, config.load(home), clock) as alone:
        assert alone.audit.append_sync(said("canary-new")).seq > 0
    assert found_on(home.root, secrets_of(home)) == set()
    assert_verified(home)


async def test_erased_is_erased(clock: ManualClock, tmp_path: Path) -> None:
    """The key that an erasure leaves behind is gone, sealed or not: its number opens nothing any more."""
    home = make_sealed(tmp_path / "home", CREDENTIAL)
    auditor, privacy = dev_auditor(home), Identity.generate("privacy")
    with open_log_alone(home, config.load(home), clock) as alone:
        draft = with_member(alone.audit.policy, alone.audit.origin, privacy)
        await alone.custody.change_policy(signed(draft, auditor))
        alone.audit.append_sync(said("canary", "doomed"))
        old = keyring.read(home, home.keys / "shares-1.kek")
        assert await erase(alone, auditor, privacy, key="key", user="doomed") == 1
    assert {"keys/shares-2.kek"} == {each for each in secrets_of(home) if "shares" in each}
    assert found_on(home.root, secrets_of(home) | {"old": old}) == set()
    assert not any(each.name.startswith(".") for each in home.keys.iterdir())
