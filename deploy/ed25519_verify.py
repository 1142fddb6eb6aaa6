"""Checks one Ed25519 signature (RFC 8032) with Python's own library only, where there is no openssl 3.

    python3 -I ed25519_verify.py KEY.pem FILE.sig FILE FINGERPRINT

Ends with 0 where FILE was signed by the key whose SHA-256 (of its DER form) is FINGERPRINT. Slow and not in
constant time: there is no secret here.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493  # the order of the base point
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)  # of -1
DER_PREFIX = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: id-Ed25519, 32 bytes follow


def add(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Two points in extended coordinates (x, y, z, t); complete, so it doubles too (RFC 8032, 5.1.4)."""
    u, v = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = v - u, d - c, d + c, v + u
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(n: int, a: tuple[int, ...]) -> tuple[int, ...]:
    """A point, n times, by doubling."""
    found: tuple[int, ...] = (0, 1, 1, 0)
    while n:
        found, a, n = add(found, a) if n & 1 else found, add(a, a), n >> 1
    return found


def point(data: bytes) -> tuple[int, ...]:
    """32 bytes as a point. ValueError where they are none, or are not its one encoding (5.1.3)."""
    y, sign = int.from_bytes(data, "little") & ((1 << 255) - 1), data[31] >> 7
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    x = x if x * x % P == x2 else x * ROOT % P
    if y >= P or x * x % P != x2 or (x == 0 and sign):
        raise ValueError("not a point")
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the owner of this key signed this message (5.1.7, without the cofactor)."""
    if len(public) != 32 or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    try:
        a, r = point(public), point(signature[:32])
    except ValueError:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    left, right = times(s, BASE), add(r, times(k, a))
    same = all((left[i] * right[2] - right[i] * left[2]) % P == 0 for i in (0, 1))
    return s < L and same


def public_key(pem: bytes, fingerprint: str) -> bytes:
    """The key in a PEM file. ValueError where it is no Ed25519 key, or not the one on paper."""
    lines = pem.decode("ascii").strip().splitlines()
    if len(lines) < 3 or lines[0] != "-----BEGIN PUBLIC KEY-----" or lines[-1] != "-----END PUBLIC KEY-----":
        raise ValueError("not a public key")
    der = base64.b64decode("".join(lines[1:-1]), validate=True)
    if hashlib.sha256(der).hexdigest() != fingerprint or len(der) != 44 or not der.startswith(DER_PREFIX):
        raise ValueError("not the key on paper")
    return der[12:]


def main(names: list[str]) -> int:
    """Exit code 0 or 15, as verify.sh's."""
    key, signature, message = (Path(name).read_bytes() for name in names[:3])
    try:
        good = verify(public_key(key, names[3].lower()), signature, message)
    except ValueError as error:
        sys.stderr.write(f"REFUSED: {error}\n")
        good = False
    return 0 if good else 15


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
