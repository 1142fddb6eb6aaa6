"""Terms by themselves: what can not be kept is not made, and from where a key may be used."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.core import Principal, Role
from appliance.errors import RequestError
from appliance.terms import MAX_BASIS, MAX_ENTRIES, Capture, Endpoint, Limits, Terms

OFFICE = Terms(addresses=("10.1.0.0/16", "fd00:1::/32", "192.0.2.7/32"))


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.0.0", True),
        ("10.1.255.255", True),
        ("10.2.0.0", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("::ffff:10.1.2.3", True),  # as a socket for both families tells it
        ("::ffff:10.2.2.3", False),
        ("fd00:1::5", True),
        ("fd00:2::5", False),
        ("fe80::1%eth0", False),
        ("::1", False),
        ("", False),  # a call from inside has none
        ("localhost", False),
        ("10.1.0.1, 10.9.9.9", False),
        ("010.001.000.001", False),
    ],
)
def test_key_is_of_use_in_its_networks_only(address: str, *, allowed: bool) -> None:
    """IPv4 and IPv6, also as one in the other; what is no address comes from nowhere."""
    assert OFFICE.allows_address(address) is allowed
    assert Terms().allows_address(address)


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"addresses": ("10.1.0.1/16",)}, "addresses"),
        ({"addresses": ("office",)}, "addresses"),
        ({"addresses": ("10.1.0.0/33",)}, "addresses"),
        ({"addresses": ("10.0.0.0/8",) * (MAX_ENTRIES + 1)}, "addresses"),
        ({"models": ("m",) * (MAX_ENTRIES + 1)}, "models"),
        ({"prompt": "ä"}, "prompt"),
        ({"guardrails": "x" * 65}, "guardrails"),
        ({"prefix_profile": "a\nb"}, "prefix_profile"),
        ({"certificates": ("AB" * 32,)}, "certificates"),
        ({"certificates": ("ab" * 31,)}, "certificates"),
        ({"capture": Capture.METADATA}, "capture_basis"),
        ({"capture": Capture.METADATA, "capture_basis": "  "}, "capture_basis"),
        ({"capture_basis": "no reason"}, "capture_basis"),
        ({"capture": Capture.METADATA, "capture_basis": "x" * (MAX_BASIS + 1)}, "capture_basis"),
        ({"capture": Capture.METADATA, "capture_basis": "two\nlines"}, "capture_basis"),
    ],
)
def test_what_can_not_be_kept_is_not_made(said: dict[str, Any], param: str) -> None:
    """The refusal names the term, and repeats nothing of what it said."""
    with pytest.raises(RequestError) as refused:
        Terms(**said)

    assert (refused.value.code, refused.value.param) == ("invalid_terms", param)


@pytest.mark.parametrize(
    "said",
    [
        {"priority": -1},
        {"priority": 10},
        {"concurrency": 0},
        {"tokens_per_day": -5},
        {"requests_per_day": 10**13},
    ],
)
def test_limits_are_numbers_that_mean_something(said: dict[str, int]) -> None:
    """Nothing, less than nothing, or more than there will ever be is no limit."""
    with pytest.raises(RequestError):
        Limits(**said)


def test_an_endpoint_that_is_not_named_is_not_allowed() -> None:
    """Without a list all are; with one only those."""
    only = Terms(endpoints=(Endpoint.CHAT,))

    assert [each for each in Endpoint if only.allows_endpoint(each)] == [Endpoint.CHAT]
    assert all(Terms().allows_endpoint(each) for each in Endpoint)


def test_only_keys_of_one_profile_are_one_asker_to_a_worker() -> None:
    """Every other key is alone with what was computed for it, and no key's id looks like a profile."""

    def principal(key_id: str, profile: str = "") -> Principal:
        return Principal(key_id, key_id, Role.KIOSK, Terms(prefix_profile=profile))

    assert principal("a", "lobby").tenant == principal("b", "lobby").tenant
    alone = [
        principal("a"),
        principal("b"),
        principal("a", "lobby"),
        principal("a", "desk"),
        principal("lobby"),
    ]
    assert len({each.tenant for each in alone}) == len(alone)
