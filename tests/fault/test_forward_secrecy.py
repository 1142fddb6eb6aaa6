"""Who seizes the running box, memory and disk, opens nothing that was sealed before.

A real process seals records with secrets that the test can compute, and the test reads its memory and
every file of its home. CPython does not promise to wipe what it frees, so this is the check that it does
not happen to stay: no state of the ratchet before the present one, no seed and no key of a sealed record.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from appliance.audit import query, sealing, shares
from appliance.audit.kinds import Kind
from appliance.audit.shares import ShareStore
from appliance.config import Home

RECORDS = 40
PROGRAM = """
    import gc, hashlib, sys
    from appliance import config
    from appliance.audit import sealing
    from appliance.audit.entry import Entry
    from appliance.audit.kinds import Kind
    from appliance.config import Home
    from appliance.alone import open_log_alone

    class Known:
        calls = 0
        @staticmethod
        def token_bytes(count):
            Known.calls += 1
            return hashlib.sha512(b"known %d" % Known.calls).digest()[:count]

    home = Home(__import__("pathlib").Path(sys.argv[1]))
    sealing.secrets = Known
    with open_log_alone(home, config.load(home)) as alone:
        for number in range(int(sys.argv[2])):
            alone.audit.append_sync(Entry(
                kind=Kind.REQUEST_REFUSED,
                public={"code": "test", "status": 400, "count": 1, "route": "/"},
                content={"text": "canary-%d" % number}, actor="key", subject="key:key"))
        gc.collect()
        print("sealed", Known.calls, flush=True)
        sys.stdin.readline()
"""


def memory_of(pid: int) -> bytes:
    """Everything that the process may write to."""
    held = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - no file of ours
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            if rights.startswith("rw") and not line.endswith(("[vvar]", "[vsyscall]")):
                start, end = (int(each, 16) for each in place.split("-"))
                memory.seek(start)
                try:
                    held.append(memory.read(end - start))
                except OSError:  # a guard page
                    continue
    return b"".join(held)


@pytest.mark.timeout(120)
def test_memory_and_disk_open_nothing_earlier(home: Home) -> None:
    """Neither the epoch's secret nor any key of the records before is anywhere; the present state is."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(home.root), str(RECORDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("sealed")
        memory = memory_of(process.pid)
        disk = b"".join(path.read_bytes() for path in home.root.rglob("*") if path.is_file())
    finally:
        process.communicate("\n", timeout=30)
    assert process.returncode == 0

    secret = hashlib.sha512(b"known 1").digest()[:32]
    store = ShareStore(home)
    share = store.find("key:key")[0].secret
    store.close()
    assert shares.share_id(share).hex().encode() in disk
    found = query.search(home.database, kind=Kind.REQUEST_REFUSED, limit=1000)
    sealed = {each.header.step: each.header for each in found}
    assert len(sealed) == RECORDS
    chain, doomed = sealing.first_chain_key(secret), {"the epoch's secret": secret}
    for step in range(RECORDS + 1):  # the first is the month's index key
        doomed[f"chain key {step}"] = chain
        seed, chain = sealing.advance(chain)
        doomed[f"seed {step}"] = seed
        prk = sealing.combine(share, seed)
        doomed[f"record secret {step}"] = prk
        if header := sealed.get(step):
            place = sealing.Place(header.log, header.seq, 1, step, header.kind)
            assert header.ct is not None
            assert sealing.commitment(prk).hex() == header.ct.kc  # it is this record's secret
            doomed[f"record key {step}"] = sealing.RecordKey(prk, place).key

    assert [name for name, key in doomed.items() if key in disk] == []
    assert chain in memory  # the control: the present state is there, and found
    assert [name for name, key in doomed.items() if key in memory] == []
