"""Who comes in: by a key, by a client certificate that stands for one, or by both together."""

from __future__ import annotations

from appliance.accounts.directory import Directory
from appliance.api import presented
from appliance.core import Principal
from appliance.errors import Refused
from appliance.tls.certificates import About, utc


def principal_of(directory: Directory, token: str, certificate: About | None, *, now_us: int) -> Principal:
    """The principal behind what was shown. Refused, in this order:

    1. a certificate whose time is over, as connections may live longer than certificates;
    2. neither a key nor a certificate that stands for one;
    3. a key that does not open;
    4. a key that is bound to certificates, without one of them: a stolen token alone opens nothing;
    5. a certificate that stands for another key.
    """
    if certificate is not None and not certificate.is_valid(utc(now_us)):
        raise Refused("the time of the client's certificate is over", code="certificate_refused")
    shown = None if certificate is None else directory.of_certificate(certificate.sha256, now_us=now_us)
    if not token:
        if shown is not None:
            return shown
        raise presented.no_key()
    principal = directory.authenticate(token, now_us=now_us)
    bound = principal.terms.certificates
    if bound and (certificate is None or certificate.sha256 not in bound):
        raise Refused(
            "this key is only good beside its client certificate",
            code="certificate_required",
            hint="connect over TLS with the certificate that this key is bound to",
        )
    if shown is not None and not bound:
        raise Refused(
            "the client's certificate stands for another key",
            code="certificate_mismatch",
            hint="send that key, or none",
        )
    return principal
