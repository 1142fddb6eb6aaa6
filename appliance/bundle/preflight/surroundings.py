"""What else the host is: accounts, ports, systemd, mandatory access control, FIPS, the environment. Pure."""

from __future__ import annotations

from typing import Final

from appliance.bundle.preflight.facts import Check, Facts, Level, Wanted

MIN_SYSTEMD: Final = 249  # SocketBindDeny; RHEL 9 and Debian 12 have 252
_NO_LOGIN: Final = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false")


def checks(facts: Facts, wanted: Wanted) -> list[Check]:
    """In the order in which a person would ask."""
    return [
        _root(facts, wanted),
        _account(facts),
        _instance(facts, wanted),
        _ports(facts, wanted),
        _systemd(facts),
        _egress(facts),
        _binding(facts),
        _selinux(facts),
        _fapolicyd(facts),
        _fips(facts),
        _swap(facts),
        _encoding(facts),
        _environment(facts),
        _umask(facts),
    ]


def _root(facts: Facts, wanted: Wanted) -> Check:
    if wanted.manifest is not None and facts.euid != 0:
        return Check("user", Level.FAIL, f"user {facts.euid}", "installing needs root: sudo")
    return Check("user", Level.OK, "root" if facts.euid == 0 else f"user {facts.euid}")


def _account(facts: Facts) -> Check:
    name = "account"
    if facts.account_uid is None:
        return Check(name, Level.OK, "there is no user appliance yet: the installer makes it")
    found = f"user appliance, {facts.account_uid}"
    if facts.account_uid == 0:
        return Check(name, Level.FAIL, found, "it must not be root under another name: remove it")
    if facts.account_shell not in _NO_LOGIN:
        return Check(
            name,
            Level.WARN,
            f"{found}, shell {facts.account_shell}",
            "nobody should log in as it: usermod -s /usr/sbin/nologin appliance",
        )
    return Check(name, Level.OK, found)


def _instance(facts: Facts, wanted: Wanted) -> Check:
    name = "other instance"
    if facts.lock_holder is None:
        return Check(name, Level.OK, "none")
    found = f"process {facts.lock_holder} serves this home"
    if wanted.manifest is not None and not facts.has_release:
        return Check(name, Level.FAIL, found, "it was not installed by a bundle: stop it first")
    return Check(name, Level.OK, found)


def _ports(facts: Facts, wanted: Wanted) -> Check:
    taken = {port: facts.listening[port] for port in wanted.ports if port in facts.listening}
    own = {facts.account_uid, facts.euid}
    words = ", ".join(map(str, wanted.ports))
    if not taken:
        return Check("ports", Level.OK, f"{words}: free")
    if facts.lock_holder is not None and own.issuperset(taken.values()):
        return Check("ports", Level.OK, f"{words}: ours")
    who = ", ".join(f"{port} (user {user})" for port, user in taken.items())
    # Without a bundle it may be another home's gateway, of a person who tries something.
    is_harmless = wanted.manifest is None and own.issuperset(taken.values())
    return Check(
        "ports",
        Level.WARN if is_harmless else Level.FAIL,
        f"somebody else listens on {who}",
        "stop it (ss -ltnp), or choose others: server.port and console.port",
    )


def _systemd(facts: Facts) -> Check:
    if facts.systemd is None:
        return Check(
            "systemd",
            Level.WARN,
            "is not process 1 here",
            "deploy/units/appliance.init starts the service, without any confinement",
        )
    if facts.systemd < MIN_SYSTEMD:
        return Check(
            "systemd",
            Level.WARN,
            str(facts.systemd),
            f"before {MIN_SYSTEMD} it ignores some lines of the units' sandbox",
        )
    return Check("systemd", Level.OK, str(facts.systemd))


def _egress(facts: Facts) -> Check:
    """IPAddressDeny fails open: systemd logs "Proceeding WITHOUT firewalling in effect!" and starts."""
    name = "egress filter"
    fix = "IPAddressDeny has no effect here: block the appliance's user in the host's firewall"
    if facts.systemd is None:
        return Check(name, Level.WARN, "no systemd", "block the appliance's user in the host's firewall")
    if not facts.has_cgroup2:
        return Check(name, Level.WARN, "control groups are not version 2", fix)
    if facts.has_cgroup_bpf is False:
        return Check(name, Level.WARN, "the kernel has no CONFIG_CGROUP_BPF", fix)
    if facts.has_cgroup_bpf is None:
        return Check(
            name, Level.WARN, "the kernel's configuration can not be read", "test it (guides/host.md)"
        )
    return Check(name, Level.OK, "cgroup v2 and CONFIG_CGROUP_BPF: IPAddressDeny takes effect")


def _binding(facts: Facts) -> Check:
    """SocketBindDeny fails open, too."""
    if facts.systemd is None or facts.has_socket_bpf:
        return Check("port filter", Level.OK, "SocketBindDeny" if facts.systemd else "no systemd")
    return Check(
        "port filter",
        Level.WARN,
        "this systemd was built without BPF_FRAMEWORK",
        "SocketBindDeny has no effect here (Debian 12): IPAddressAllow alone decides who reaches a port",
    )


def _selinux(facts: Facts) -> Check:
    if facts.selinux == "off" or facts.has_restorecon:
        return Check("SELinux", Level.OK, facts.selinux)
    bad = Level.FAIL if facts.selinux == "enforcing" else Level.WARN
    return Check("SELinux", bad, f"{facts.selinux}, without restorecon", "dnf install policycoreutils")


def _fapolicyd(facts: Facts) -> Check:
    name = "fapolicyd"
    if not facts.has_fapolicyd:
        return Check(name, Level.OK, "off")
    if facts.has_fapolicyd_rules:
        return Check(name, Level.OK, "on, with rules for the appliance")
    fix = "deploy/units/appliance.fapolicyd to /etc/fapolicyd/rules.d/35-appliance.rules, fagenrules --load"
    return Check(name, Level.FAIL if facts.has_release else Level.WARN, "on, without our rules", fix)


def _fips(facts: Facts) -> Check:
    if not facts.is_fips:
        return Check("FIPS mode", Level.OK, "off")
    return Check(
        "FIPS mode",
        Level.WARN,
        "on",
        "our wheels bring a cryptographic module of their own, which is not validated; check bundles by "
        "their P-384 signatures, and see guides/host.md",
    )


def _swap(facts: Facts) -> Check:
    """Prompts and keys are in memory in the clear: what is swapped out stays on the disk."""
    if not facts.open_swaps:
        return Check("swap", Level.OK, "none, or encrypted")
    return Check(
        "swap",
        Level.WARN,
        f"{', '.join(facts.open_swaps)}: not known to be encrypted",
        "the units keep the appliance out of it (MemorySwapMax=0); without them: swapoff -a, or dm-crypt",
    )


def _encoding(facts: Facts) -> Check:
    if facts.encoding.lower().replace("-", "") == "utf8":
        return Check("locale", Level.OK, facts.encoding)
    return Check("locale", Level.WARN, facts.encoding, "use a UTF-8 locale: export LC_ALL=C.UTF-8")


def _environment(facts: Facts) -> Check:
    if not facts.variables:
        return Check("environment", Level.OK, "nothing that would lead out, or load foreign code")
    return Check(
        "environment",
        Level.WARN,
        ", ".join(facts.variables),
        "unset them here: the appliance calls nobody, and takes no library from elsewhere",
    )


def _umask(facts: Facts) -> Check:
    if facts.euid == 0 and facts.umask & 0o055:
        return Check(
            "umask",
            Level.WARN,
            f"{facts.umask:04o}",
            "root's files would be closed to the service: umask 022",
        )
    return Check("umask", Level.OK, f"{facts.umask:04o}")
