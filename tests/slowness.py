"""The slow function of passphrases with a small parameter, for tests that ask it often.

The real one is in tests/unit/accounts/test_passphrases.py.
"""

from __future__ import annotations

import base64

import pytest

from appliance.accounts import passphrases


def quicken(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a passphrase is kept and checked within a millisecond."""
    monkeypatch.setattr(passphrases, "_SCRYPT", (4, 8, 1))
    nobody = [base64.b64encode(bytes(size)).decode() for size in (16, 32)]
    monkeypatch.setattr(passphrases, "_NOBODY", {False: "$".join(["scrypt$4,8,1", *nobody])})
