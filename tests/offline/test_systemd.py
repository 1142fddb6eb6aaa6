"""The units under systemd as process 1, on Debian 12: what they promise, asked of the kernel.

The tests are steps of one life, in order. The release was installed by `install.sh` with systemd running, and
its worker is the unit's (`engine.worker_socket`). What is refused inside is tried outside as well.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.needed import missing
from tests.offline import roots
from tests.offline.booting import Booted, can_boot
from tests.offline.host import HOME, PROBATION, PROGRAM, STATE, Host
from tests.offline.lan import BOX, OUTSIDE, PEER, lan
from tests.offline.releases import Sticks
from tests.offline.roots import BOOTED, RootsMissing

pytestmark = pytest.mark.timeout(600)
CONFIG = """profile = "dev"

[server]
host = "0.0.0.0"

[engine]
worker_socket = "/run/appliance/worker.sock"
"""
FILE = "/srv/appliance.toml"
GATEWAY, WORKER = "appliance serve", "appliance.engine.worker"
UNITS = "/etc/systemd/system"
DYNAMIC_USERS = range(61184, 65520)  # systemd.exec(5), DynamicUser=
# What each may write, tried by root with the files of its sandbox.
WRITES = f"""
import errno, json, os
found = {{}}
for folder in ("/", "/etc", "/usr", "/opt/appliance/releases", "/run", "/var", "{STATE}", "{STATE}/store",
               "{STATE}/trust", "{HOME}", "{HOME}/models", "/tmp"):
    try:
        with open(os.path.join(folder, "of-a-test"), "w"):
            pass
        os.unlink(os.path.join(folder, "of-a-test"))
        found[folder] = "written"
    except OSError as error:
        found[folder] = errno.errorcode[error.errno]
print(json.dumps(found))
"""
SEES = f"""
import json, os
print(json.dumps({{each: sorted(os.listdir(each)) for each in ("{HOME}", "{STATE}/trust", "/dev")}}))
"""
# A question for a name (RFC 1035) to each address: the trap of the LAN notes what it is asked.
SENDS = """
import errno, json, socket
found = {{}}
query = bytes.fromhex("000101000001000000000000") + b"\\x06{name}\\x07example\\0\\0\\1\\0\\1"
for address in {addresses}:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(query, (address, 53))
            found[address] = "sent"
        except OSError as error:
            found[address] = errno.errorcode[error.errno]
print(json.dumps(found))
"""
KNOCKS = f"""
import socket
with socket.socket() as sock:
    sock.settimeout(3)
    print(sock.connect_ex(("{BOX}", 8080)))
"""
# A person's first log-in, and the page.
HEALTH = """
import http.cookiejar, re, sys, urllib.parse, urllib.request
passphrase, url = sys.argv[1], "http://127.0.0.1:8090"
jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
client = urllib.request.build_opener(jar)
client.addheaders = [("origin", url), ("sec-fetch-site", "same-origin")]
def post(path, **form):
    return client.open(url + path, urllib.parse.urlencode(form).encode()).read().decode()
post("/login", name="Ada Kim", passphrase=passphrase)
page = client.open(url + "/passphrase").read().decode()
csrf = re.search('name="csrf" value="([^"]+)"', page)[1]
words = "four words are enough"
post("/passphrase", csrf=csrf, current=passphrase, new=words, again=words)
print(client.open(url + "/health").read().decode())
"""


@pytest.fixture(scope="module")
def life(sticks: Sticks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, ExitStack]]:
    """The host, and what is to be closed behind its last step."""
    place = tmp_path_factory.mktemp("systemd")
    box = Booted([roots.require(BOOTED)], place / "box", {"first": sticks.first.folder})
    with ExitStack() as stack:
        stack.callback(box.close)
        yield Host(BOOTED, box.start(), sticks), stack


@pytest.fixture(scope="session", autouse=True)  # ahead of the bundles
def _can_boot(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not can_boot(tmp_path_factory.mktemp("cgroup")):
        pytest.skip("no control groups of version 2 that root may write: systemd can not be process 1 here")
    try:
        roots.require(BOOTED)
    except RootsMissing as error:
        missing(str(error))


@pytest.fixture
def host(life: tuple[Host, ExitStack]) -> Host:
    """The host, as the step before left it."""
    assert not life[0].failed, f"an earlier step failed: {life[0].failed}"
    return life[0]


@pytest.fixture
def box(host: Host) -> Booted:
    assert isinstance(host.box, Booted)
    return host.box


def test_a_stick_becomes_a_unit(host: Host, box: Booted) -> None:
    """The installer brings the units, starts them and has them start with the host."""
    host.operator("sh", "-c", f"cat > {FILE}", stdin=CONFIG)
    words = f"{' '.join(host.sticks.paper[:2])} -- --config {FILE} {' '.join(PROBATION)}"
    host.operator("sh", "-c", f"cd /media/first && sh install.sh {words}")

    assert host.states()[-1][2] == "tidied"
    for unit in ("appliance.service", "appliance-worker.socket"):
        assert systemctl(host, "is-active", unit) == "active"
        assert systemctl(host, "is-enabled", unit) == "enabled"
    assert systemctl(host, "list-units", "--failed", "--plain", "--no-legend", "appliance*") == ""
    assert f"{box.group}/system.slice/appliance.service" in cgroup(only(box, GATEWAY))
    assert "/appliance-worker@" in cgroup(only(box, WORKER))


def test_a_kiosk_is_answered(host: Host) -> None:
    """By the worker that systemd started."""
    host.key = str(host.ask("key", "create", "lobby-1", "--role", "kiosk")["token"])

    assert host.wait_until_it_answers()["record"]


def test_users_and_privileges(host: Host, box: Booted) -> None:
    """The worker's user exists for as long as it runs; neither has a capability, or can get one."""
    account = int(box.run("id", "-u", "appliance").out)
    gateway, worker = status(only(box, GATEWAY)), status(only(box, WORKER))

    assert set(gateway["Uid"].split()) == {str(account)}
    assert int(worker["Uid"].split()[0]) in DYNAMIC_USERS
    for each in (gateway, worker):
        assert {int(each[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert (each["NoNewPrivs"], each["Seccomp"]) == ("1", "2")
    # The unit's filters, and behind them the worker's own two.
    (layers,) = {str(each["sandbox"]) for each in logged(host, "worker_ready")}
    assert layers.split()[-1] == "seccomp"
    assert int(worker["Seccomp_filters"]) >= 3
    control = status(box.pid)  # the same question of process 1
    assert int(control["CapEff"], 16) > 0
    assert (control["NoNewPrivs"], control["Seccomp"]) == ("0", "0")


def test_files(box: Booted) -> None:
    """The gateway writes into its home only, the worker nowhere; it sees no keys. Root itself is refused."""
    gateway = json.loads(str(box.in_sandbox(only(box, GATEWAY), WRITES).out))
    worker = json.loads(box.in_sandbox(only(box, WORKER), WRITES).out)
    outside = json.loads(box.python(WRITES).out)

    assert set(outside.values()) == {"written"}
    assert written(gateway) == {HOME, f"{HOME}/models", "/tmp"}  # noqa: S108 - its own
    assert written(worker) == {"/tmp"}  # noqa: S108
    assert set(worker.values()) <= {"written", "EROFS", "ENOENT"}
    seen = json.loads(box.in_sandbox(only(box, WORKER), SEES.replace(f'"{STATE}/trust", ', "")).out)
    assert seen[HOME] == ["models"]
    mine, all_of_it = (
        json.loads(each.out) for each in (box.in_sandbox(only(box, GATEWAY), SEES), box.python(SEES))
    )
    assert {"keys", "models"} <= set(mine[HOME])
    assert mine[f"{STATE}/trust"] == []
    assert all_of_it[f"{STATE}/trust"] != []


def test_the_worker_has_no_network(box: Booted) -> None:
    """A network of its own with nothing in it but a loopback; the gateway's is the host's."""
    gateway, worker = only(box, GATEWAY), only(box, WORKER)

    assert network_of(gateway) == network_of(box.pid) != network_of(worker)
    listed = Path(f"/proc/{worker}/net/dev").read_text(encoding="ascii").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in listed] == ["lo"]
    for name in ("tcp", "tcp6", "udp", "udp6"):
        assert len(Path(f"/proc/{worker}/net/{name}").read_text(encoding="ascii").splitlines()) == 1


def test_the_doctor_names_the_variant_that_was_loaded(host: Host) -> None:
    """What preflight says of the processor is what the worker says of its library."""
    named = re.search(r"variant (\w+)", doctor(host)["processor"]["says"])
    backends = {str(each["backend"]) for each in logged(host, "worker_ready")}

    assert named is not None
    assert {each.partition("ggml-cpu-")[2] for each in backends} == {named[1]}


def test_the_doctor_knows_this_host(host: Host) -> None:
    """Nothing is red, and a filter that is not there is told: Debian 12's systemd has none for ports."""
    found = doctor(host)

    assert {name for name, each in found.items() if each["level"] == "fail"} == set()
    assert {name: found[name]["level"] for name in ("systemd", "port filter")} == {
        "systemd": "ok",
        "port filter": "warn",
    }


def test_the_health_page_tells_the_workers_memory(host: Host, box: Booted) -> None:
    """The gateway may not look at another user's process: the worker says it itself."""
    made = host.ask("account", "create", "Ada Kim", "--role", "operator")
    page = box.python(HEALTH, str(made["passphrase"])).out
    told = re.search(r"Memory of the worker</dt><dd>([0-9.]+) (MiB|GiB)<", page)

    assert told is not None, page
    resident = int(status(only(box, WORKER))["VmRSS"].split()[0]) * 1024
    assert float(told[1]) * (2**20 if told[2] == "MiB" else 2**30) == pytest.approx(resident, rel=0.1)


def test_a_killed_worker_comes_back(host: Host, box: Booted) -> None:
    """As another process with another user's number or the same, and kiosks are answered."""
    killed = only(box, WORKER)
    os.kill(killed, signal.SIGKILL)

    until(lambda: workers(box) - {killed} != set())
    assert host.wait_until_it_answers()["record"]
    assert only(box, WORKER) != killed


def test_a_frozen_worker_ends_with_a_restart(host: Host, box: Booted) -> None:
    """No thread of it runs and the gateway may send it no signal: the kernel lets go of it."""
    frozen, gateway = only(box, WORKER), only(box, GATEWAY)
    os.kill(frozen, signal.SIGSTOP)
    systemctl(host, "restart", "appliance.service")

    until(lambda: frozen not in workers(box))
    assert host.wait_until_it_answers()["record"]
    assert only(box, GATEWAY) != gateway
    assert host.verified()["green"] is True


def test_a_killed_gateway_is_started_again(host: Host, box: Booted) -> None:
    """Its worker dies with it, stopped or not; systemd starts both."""
    gateway, worker = only(box, GATEWAY), only(box, WORKER)
    os.kill(worker, signal.SIGSTOP)
    os.kill(gateway, signal.SIGKILL)

    until(lambda: worker not in workers(box))
    assert host.wait_until_it_answers()["record"]
    assert gateway not in box.processes()
    assert host.verified()["green"] is True


def test_no_packet_of_the_gateway_leaves(host: Host, box: Booted, life: tuple[Host, ExitStack]) -> None:
    """There is a way out, and every process of its control group is refused it."""
    network = life[1].enter_context(lan(box, box.place / "events"))
    addresses = ["127.0.0.1", PEER, OUTSIDE]

    inside = json.loads(
        box.in_unit("appliance.service", SENDS.format(name="inside", addresses=addresses)).out
    )
    outside = json.loads(box.python(SENDS.format(name="beside", addresses=addresses)).out)
    assert inside == {"127.0.0.1": "sent", PEER: "EPERM", OUTSIDE: "EPERM"}
    assert outside == dict.fromkeys(addresses, "sent")
    until(lambda: len(network.caught()) >= 2)
    assert network.caught() == ["name beside.example"] * 2
    host.network = network


def test_a_drop_in_opens_the_gateway_to_its_network_alone(host: Host, box: Booted) -> None:
    """Callers of the LAN are not heard as delivered; with the guide's drop-in they are answered."""
    assert host.network is not None
    assert host.network.python(KNOCKS).strip() != "0"
    drop_in = Path(f"{box.root}{UNITS}/appliance.service.d")
    drop_in.mkdir()
    (drop_in / "network.conf").write_text("[Service]\nIPAddressAllow=192.0.2.0/24\n", encoding="ascii")
    systemctl(host, "daemon-reload")
    systemctl(host, "restart", "appliance.service")

    assert host.wait_until_it_answers()["record"]
    assert host.network.python(KNOCKS).strip() == "0"
    script = SENDS.format(name="inside", addresses=[PEER, OUTSIDE])
    assert json.loads(box.in_unit("appliance.service", script).out) == {PEER: "sent", OUTSIDE: "EPERM"}


def test_a_sealed_home_starts_by_itself(host: Host, box: Booted) -> None:
    """Sealed with what systemd decrypts: started with the guide's drop-in, and never without."""
    kept = "/etc/credstore.encrypted/appliance-home-key"
    made = f"{PROGRAM} secrets credential"
    encrypt = "systemd-creds encrypt --with-key=host --name=appliance-home-key"
    become = "setpriv --reuid=appliance --regid=appliance --clear-groups --"
    host.operator("mount", "--make-rshared", "/")  # as systemd does on a host: credentials are mounts
    host.operator("sh", "-ec", f"mkdir /etc/credstore.encrypted\n{made} | {encrypt} - {kept}")
    systemctl(host, "stop", "appliance.service")
    given = f"systemd-creds decrypt {kept} - | {become} {PROGRAM} secrets"
    host.operator("sh", "-ec", f"{given} seal --home {HOME} --with -")
    systemctl(host, "start", "appliance.service")  # of Type=exec: it begins, and then says what is wrong
    until(lambda: systemctl(host, "is-active", "appliance.service", expect=None) == "failed")
    drop_in = "/opt/appliance/current/app/deploy/units/drop-ins/secrets.conf"
    host.operator("install", "-D", "-t", f"{UNITS}/appliance.service.d", drop_in)
    systemctl(host, "daemon-reload")
    systemctl(host, "start", "appliance.service")

    assert host.wait_until_it_answers()["record"]
    assert doctor(host)["secrets"]["level"] == "warn"  # recovery.identity still waits for its safe
    signing = Path(f"{box.root}{HOME}/keys/log.ed25519").read_bytes()
    assert signing.startswith(b'{"sealed":1')


def test_uninstall_takes_the_units_away(host: Host, box: Booted) -> None:
    """Nothing runs, nothing is known to systemd; the operator's own drop-in stays."""
    host.operator(PROGRAM, "bundle", "uninstall", "--yes", "--purge")

    assert not [line for line in box.processes().values() if "appliance" in line]
    assert systemctl(host, "list-unit-files", "--plain", "--no-legend", "appliance*", expect=None) == ""
    assert {each.name for each in Path(f"{box.root}{UNITS}").glob("appliance*")} == {"appliance.service.d"}
    assert not Path(f"{box.root}/run/appliance").exists()


def systemctl(host: Host, *words: str, expect: int | None = 0) -> str:
    return host.box.run("systemctl", *words, expect=expect, seconds=120).out.strip()


def doctor(host: Host) -> dict[str, dict[str, Any]]:
    """Its checks by their names, whatever its exit code."""
    said = host.as_account("doctor", "--json", expect=None).out
    return {each["name"]: each for each in json.loads(said)["checks"]}


def logged(host: Host, event: str) -> list[dict[str, Any]]:
    """Lines of the gateway's log, from the journal."""
    said = host.box.run("journalctl", "--unit=appliance.service", "--output=cat", "--no-pager").out
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [each for each in lines if each.get("event") == event]


def workers(box: Booted) -> set[int]:
    return begun(box, WORKER)


def begun(box: Booted, pattern: str) -> set[int]:
    """Processes with this in their command line, without those that they forked: a worker's keeper."""
    found = {pid for pid, line in box.processes().items() if pattern in line}
    forked = set()
    for pid in found:
        with suppress(FileNotFoundError):  # it has just ended
            forked |= {pid} if int(status(pid)["PPid"]) in found else set()
    return found - forked


def only(box: Booted, pattern: str) -> int:
    """The one process whose command line has this in it, by this host's id."""
    found = begun(box, pattern)
    assert len(found) == 1, box.processes()
    return found.pop()


def status(pid: int) -> dict[str, str]:
    """proc(5), status: name → value."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def cgroup(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")


def network_of(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def written(found: dict[str, str]) -> set[str]:
    return {folder for folder, what in found.items() if what == "written"}


def until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.1)
