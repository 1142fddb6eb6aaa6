"""What is served: contexts for new connections, made anew when a file changes.

A connection takes the context of the moment it comes in and keeps what it began with; the next one gets the
new certificate, and no stream is cut. A pair that does not fit, or is over, is not taken: the old one stays,
and is told about. So it is with the authorities of clients, whose context asks for a certificate.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from appliance import durable, keyring
from appliance.clock import Clock
from appliance.config import Home
from appliance.errors import SetupError, VerificationError
from appliance.tls.certificates import About, describe, utc
from appliance.tls.clients import Clients, ask

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# What to do about a certificate that clients refuse by now.
RENEWAL: Final = "appliance tls renew, or a new certificate of your site; and check this host's clock"
_Stamp = tuple[tuple[int, int, int], ...]  # inode, size and time of each file


@dataclass(frozen=True, slots=True)
class Files:
    """Where the pair lies, and the oldest version of TLS that is spoken."""

    certificate: Path
    key: Path
    oldest: Literal["1.2", "1.3"] = "1.3"
    home: Home | None = None  # the key may be one of its secrets, and sealed

    @contextlib.contextmanager
    def opened_key(self) -> Iterator[Path]:
        """Where OpenSSL reads the key: its file, or where that is sealed a copy that has no disk."""
        home = self.home
        if home is None or keyring.name_of(home, self.key) is None or not keyring.is_sealed(home):
            yield self.key
            return
        try:
            secret = keyring.read(home, self.key)
        except VerificationError as error:
            raise SetupError(error.message, code="tls_mismatch", hint=error.hint) from error
        fd = os.memfd_create("tls", os.MFD_CLOEXEC)
        try:
            durable.write_all(fd, secret)
            yield Path(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)


class Serving:
    """What is served now: `context` to everybody, `asking` where clients show a certificate; one and the same
    where nobody is asked. Owner: the event loop's thread.
    """

    def __init__(self, files: Files, clock: Clock, clients: Clients | None = None) -> None:
        self._files = files
        self._clients = clients
        self._clock = clock
        self._stamp = self._look()
        # One that is over is served all the same: people must see what is wrong, and get in to mend it.
        self.about, self.context, self.asking = self._made()
        self.problem = ""  # why the newest files are not served; empty: they are

    @property
    def is_over(self) -> bool:
        """Whether clients refuse what is served now."""
        return not self.about.is_valid(utc(self._clock.now_us()))

    def refresh(self) -> bool:
        """Serve what the files hold now; whether that is another certificate.

        SetupError where they can not be served; it is raised once for each change of the files.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            about, context, asking = self._made()
            if not about.is_valid(utc(self._clock.now_us())):
                raise _over(self._files, about)
        except SetupError as error:
            self.problem = error.message
            raise
        self.problem = ""
        changed = about.sha256 != self.about.sha256
        self.about, self.context, self.asking = about, context, asking
        return changed

    def _made(self) -> tuple[About, ssl.SSLContext, ssl.SSLContext]:
        """What the files hold, whole: half of a new pair must not go live."""
        context = _empty(self._files)
        about = _load(context, self._files)
        if self._clients is None:
            return about, context, context
        asking = _empty(self._files)
        _load(asking, self._files)
        ask(asking, self._clients)
        return about, context, asking

    def _look(self) -> _Stamp:
        clients = () if self._clients is None else self._clients.files
        return _stamp(self._files.certificate, self._files.key, *clients)


def _empty(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[files.oldest]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _over(files: Files, about: About) -> SetupError:
    return SetupError(
        f"the certificate in {files.certificate} is valid from {about.not_before:%Y-%m-%d %H:%M} to "
        f"{about.not_after:%Y-%m-%d %H:%M} UTC only",
        code="tls_over",
        hint=RENEWAL,
    )


def _load(context: ssl.SSLContext, files: Files) -> About:
    """Put the pair into the context. SetupError where it can not be read, or does not fit."""
    try:
        about = describe(files.certificate.read_bytes())
        with files.opened_key() as key:
            context.load_cert_chain(files.certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise SetupError(
            f"the key in {files.key} is not the one of the certificate in {files.certificate}, or it is "
            "under a passphrase",
            code="tls_mismatch",
            hint="the key must be PEM without a passphrase; only the gateway's user should read it",
        ) from error
    except OSError as error:
        raise SetupError(
            f"the certificate or its key can not be read: {error.strerror}", code="tls_missing"
        ) from error
    return about


def _no_password() -> str:
    """OpenSSL would ask on the terminal, and wait there for ever."""
    return ""


def _stamp(*paths: Path) -> _Stamp:
    found = []
    for path in paths:
        try:
            info = path.stat()
            found.append((info.st_ino, info.st_size, info.st_mtime_ns))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)
