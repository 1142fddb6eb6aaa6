"""What a key may ask, from where, how often, and what is kept of it: its terms, beside its role.

Promise: frozen values, the standard library and our errors only. Empty means: not restricted by this term.
What a role does not allow, no term gives back.
"""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from appliance.errors import RequestError

MAX_ENTRIES: Final = 64  # models, or address ranges, of one key
MAX_BASIS: Final = 500  # characters
MAX_NAME: Final = 64
PRIORITIES: Final = (0, 9)  # least and most urgent
_DIGITS: Final = 64
_HEX: Final = frozenset("0123456789abcdef")


class Endpoint(StrEnum):
    """Closed list: what an opening on the record says of the kind of question."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    TOKENIZE = "tokenize"
    DETOKENIZE = "detokenize"
    INPUT_TOKENS = "input_tokens"


class Capture(StrEnum):
    """What the record keeps of a key's questions."""

    FULL = "full"  # every word, sealed
    METADATA = "metadata"  # who, when, which model, how many tokens; no word of question or answer


def _require_positive(name: str, value: int | None) -> None:
    if value is not None and not 1 <= value <= 10**12:
        raise RequestError("a limit is a number from 1", code="invalid_terms", param=name)


@functools.lru_cache(maxsize=4096)  # each request of a key asks for them
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


def _require_network(text: str) -> None:
    try:
        _network(text)
    except ValueError as error:
        raise RequestError(
            "an address range is a network such as 10.1.0.0/16 or fd00::/8, without host bits",
            code="invalid_terms",
            param="addresses",
        ) from error


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one key may have. None: what its role has (`limits` in appliance.toml).

    RequestError for a number that is none.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # of prompts and answers together
    concurrency: int | None = None  # answers, running and waiting
    requests_per_day: int | None = None  # days are UTC's
    tokens_per_day: int | None = None
    priority: int | None = None  # 0 to 9: who waits less where several wait

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "concurrency", "requests_per_day"):
            _require_positive(name, getattr(self, name))
        _require_positive("tokens_per_day", self.tokens_per_day)
        least, most = PRIORITIES
        if self.priority is not None and not least <= self.priority <= most:
            raise RequestError(
                f"a priority is {least} (least urgent) to {most}", code="invalid_terms", param="priority"
            )


@dataclass(frozen=True, slots=True)
class Terms:
    """One key's terms.

    models: ids or aliases. endpoints: of the list above. addresses: networks in CIDR notation (RFC 4632),
    from which it may be used. prompt: the locked system prompt, `name` or `name@version`. guardrails: the
    rules that its questions and answers pass, `name` or `name@version`; empty: the rules of all keys.
    prefix_profile: keys of one profile share what was computed of their prompts. certificates: SHA-256
    fingerprints (64 hex digits) of the client certificates that stand for it. RequestError for a term that
    can not be kept.
    """

    models: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    addresses: tuple[str, ...] = ()
    capture: Capture = Capture.FULL
    capture_basis: str = field(default="", repr=False)  # why, and who said so: with METADATA always
    prompt: str = ""
    guardrails: str = ""
    prefix_profile: str = ""
    certificates: tuple[str, ...] = ()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        for name in ("models", "endpoints", "addresses", "certificates"):
            if len(getattr(self, name)) > MAX_ENTRIES:
                raise RequestError(
                    f"a key has at most {MAX_ENTRIES} {name}", code="invalid_terms", param=name
                )
        for each in self.addresses:
            _require_network(each)
        for name in ("prompt", "guardrails", "prefix_profile"):
            said = getattr(self, name)
            if said and (len(said) > MAX_NAME or not said.isascii() or not said.isprintable()):
                raise RequestError(
                    f"a name has at most {MAX_NAME} ASCII characters", code="invalid_terms", param=name
                )
        if not all(len(each) == _DIGITS and set(each) <= _HEX for each in self.certificates):
            raise RequestError(
                "a certificate's fingerprint is the 64 lower-case hex digits of its SHA-256",
                code="invalid_terms",
                param="certificates",
            )
        if len(self.capture_basis) > MAX_BASIS or not self.capture_basis.isprintable():
            raise RequestError(
                f"a basis has at most {MAX_BASIS} printable characters",
                code="invalid_terms",
                param="capture_basis",
            )
        if (self.capture is Capture.METADATA) != bool(self.capture_basis.strip()):
            raise RequestError(
                "a key whose words are not kept has a basis for that, and no other key has one",
                code="invalid_terms",
                param="capture_basis",
                hint="say on which ground, and who approved it: it stands on the record",
            )

    def allows_address(self, address: str) -> bool:
        """Whether a call may come from here. What is no address comes from nowhere that is allowed."""
        if not self.addresses:
            return True
        try:
            known = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(known, "ipv4_mapped", None)  # a socket for both families tells IPv4 so
        return any((mapped or known) in _network(each) for each in self.addresses)

    def allows_endpoint(self, endpoint: Endpoint) -> bool:
        return not self.endpoints or endpoint in self.endpoints
