"""Who is counted, and who is let in."""

from __future__ import annotations

from appliance.api.listening.crowd import Crowd, Most


def test_one_address_fills_its_own_share_only() -> None:
    """Another address comes in; nobody does where all places are taken; each that goes makes room."""
    crowd = Crowd(Most(in_all=3, of_one_address=2))

    assert [crowd.admit("a") for _ in range(3)] == [True, True, False]
    assert [crowd.admit("b") for _ in range(2)] == [True, False]
    crowd.release("a")
    assert crowd.admit("b")
    assert not crowd.admit("a")
    assert crowd.count == 3


def test_nothing_is_kept_of_who_has_gone() -> None:
    """A flood from ever new addresses leaves no memory behind, let in or not."""
    crowd = Crowd(Most(in_all=1, of_one_address=1))
    for number in range(1000):
        assert crowd.admit(str(number))
        assert not crowd.admit(f"{number} too")
        crowd.release(str(number))

    assert crowd.count == 0
    assert not crowd._by_address
