"""One tree of errors. Each carries a stable string `code`; HTTP and exit codes live elsewhere.

ApplianceError
├── RequestError       the caller can fix it (bad value, unknown model, context too long)
├── Refused            the caller may not (no key, wrong role, quota, policy)
├── Unavailable        not now (log latched, model not ready, overloaded, worker died)
├── SetupError         the operator can fix it (configuration, home, schema, a missing model)
├── VerificationError  bytes lie (digest, signature, record)
└── InternalError      we lie: a state that must not happen

Messages are lower-case sentences without a final period that name the *kind* of a value, never its
content; `hint` says what to do next.
"""

from __future__ import annotations


class ApplianceError(Exception):
    """Base of all. `code` is stable and machine-readable; `hint` is for people."""

    default_code = "internal_error"

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.hint = hint


class RequestError(ApplianceError):
    """The request is wrong and would be wrong again."""

    default_code = "invalid_request"


class Refused(ApplianceError):
    """The caller is not allowed to do this."""

    default_code = "permission_denied"


class Unavailable(ApplianceError):
    """Right now the appliance can not; `retry_after_seconds` says when to try again."""

    default_code = "unavailable"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        hint: str = "",
        retry_after_seconds: int = 1,
    ) -> None:
        super().__init__(message, code=code, param=param, hint=hint)
        self.retry_after_seconds = retry_after_seconds


class Busy(Unavailable):
    """Not now: a limit is reached, or others are before this request.

    wait_us: in which time it may well be admitted. position: how many requests go before it; None where
    that says nothing.
    """

    default_code = "overloaded"

    def __init__(self, message: str, *, code: str, wait_us: int, position: int | None = None) -> None:
        super().__init__(message, code=code, retry_after_seconds=max(1, -(-wait_us // 1_000_000)))
        self.wait_us = wait_us
        self.position = position


class AuditUnavailable(Unavailable):
    """The audit log can not commit: nothing is admitted and no token leaves (law 4)."""

    default_code = "audit_unavailable"


class SetupError(ApplianceError):
    """Something on this host is not as it must be before serving."""

    default_code = "setup_error"


class VerificationError(ApplianceError):
    """Bytes are not what their digest, signature or record says."""

    default_code = "verification_failed"


class InternalError(ApplianceError):
    """A state that must not happen; always a bug of ours."""

    default_code = "internal_error"
