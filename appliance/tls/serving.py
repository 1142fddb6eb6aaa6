"""What is served: one context for every listener, whose certificate changes under running connections.

OpenSSL reads the pair at each handshake: a connection keeps what it began with, the next one gets the new
certificate, and no stream is cut. A pair that does not fit, or is over, is not taken: the old one stays, and
is told about.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.clock import Clock
from appliance.errors import SetupError
from appliance.tls.certificates import About, describe, utc

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_Stamp = tuple[tuple[int, int, int], ...]  # inode, size and time of each file


@dataclass(frozen=True, slots=True)
class Files:
    """Where the pair lies, and the oldest version of TLS that is spoken."""

    certificate: Path
    key: Path
    oldest: Literal["1.2", "1.3"] = "1.3"


class Serving:
    """The context and what it serves. Owner: the event loop's thread."""

    def __init__(self, files: Files, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        self.context = _empty(files)
        self._stamp = _stamp(files)
        # One that is over is served all the same: people must see what is wrong, and get in to mend it.
        self.about = _load(self.context, files)
        self.problem = ""  # why the newest files are not served; empty: they are

    @property
    def is_over(self) -> bool:
        """Whether clients refuse what is served now."""
        return not self.about.is_valid(utc(self._clock.now_us()))

    def refresh(self) -> bool:
        """Serve what the files hold now; whether that is another certificate.

        SetupError where they can not be served; it is raised once for each change of the files.
        """
        stamp = _stamp(self._files)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            about = _load(_empty(self._files), self._files)  # a try: a half pair must not go live
            if not about.is_valid(utc(self._clock.now_us())):
                raise _over(self._files, about)
            about = _load(self.context, self._files)
        except SetupError as error:
            self.problem = error.message
            raise
        self.problem = ""
        changed = about.sha256 != self.about.sha256
        self.about = about
        return changed


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
        hint="appliance tls renew, or a new certificate of your site; and check this host's clock",
    )


def _load(context: ssl.SSLContext, files: Files) -> About:
    """Put the pair into the context. SetupError where it can not be read, or does not fit."""
    try:
        about = describe(files.certificate.read_bytes())
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
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


def _stamp(files: Files) -> _Stamp:
    found = []
    for path in (files.certificate, files.key):
        try:
            info = path.stat()
            found.append((info.st_ino, info.st_size, info.st_mtime_ns))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)
