"""An epoch's secret, opened by an HPKE that is not ours.

Only epochs of the P-256 kind: X-Wing (ML-KEM-768 with X25519) is not in pyhpke, nor in any other package
for Python that is not `cryptography` itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from pathlib import Path

from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey

from appliance.audit.recipients import Algorithms, Identity
from appliance.audit.sealing import wrap_info
from appliance.cli.init import Members, initialise
from appliance.config import Home, load
from tests.clocks import ManualClock
from tests.unit.audit.test_log import open_log, opening


def test_a_p256_epoch_opens_with_pyhpke(tmp_path: Path, clock: ManualClock) -> None:
    """RFC 9180 base mode, DHKEM(P-256, HKDF-SHA256), AES-256-GCM: the secret that the epoch committed to."""
    auditor = Identity.generate("alice", Algorithms.P256)
    home = Home(root=tmp_path / "home")
    initialise(home, profile="dev", members=Members(auditors=[auditor.recipient]))
    log = open_log(home, clock)
    log.append_sync(opening("req_1"))
    log.close()

    with contextlib.closing(sqlite3.connect(home.database)) as sql:
        number, policy, secret_sha256, suite_name, wrap = sql.execute(
            "SELECT id, policy_sha256, secret_sha256, suite, wrap FROM epoch JOIN epoch_wrap ON id = epoch"
        ).fetchone()
    suite = CipherSuite.new(KEMId.DHKEM_P256_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES256_GCM)
    key = KEMKey.from_pyca_cryptography_key(auditor._scalar(b"kem"))
    info = wrap_info(load(home).audit.origin, number, policy)
    secret = suite.create_recipient_context(wrap[:65], key, info=info).open(wrap[65:])

    assert suite_name == "hpke-p256-sha256-aes256gcm"
    assert hashlib.sha256(secret).hexdigest() == secret_sha256
