"""What a request shows before its body is read."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from appliance.accounts import keys
from appliance.api import presented
from appliance.errors import RequestError

KEY = "apk_" + "a" * 10 + "_" + "b" * 52


def scope(path: str = "/v1/models", query: str = "") -> dict[str, object]:
    return {"path": path, "raw_path": path.encode(), "query_string": query.encode()}


@pytest.mark.parametrize(
    "query",
    [
        f"x={KEY}",
        f"x={KEY.replace('_', '%5f')}",
        f"x={KEY.replace('_', '%255f')}",
        f"a=b&x={KEY}&c=d",
        "api_key=secret",
        "API-KEY=secret",
        "apikey=secret",
        "x-api-key=secret",
        "a=b&key=secret",
        "a=b;token=secret",
        "access_token=secret",
        "%6bey=secret",
        "key",
        "x=apk_abcd",
    ],
)
def test_a_key_in_a_query_is_seen(query: str) -> None:
    """By its look, or by the name of its parameter; however it is written."""
    shown = presented.key_shown_in(scope(query=query))

    assert shown == (KEY if KEY in query.replace("%255f", "_").replace("%5f", "_") else "")


@pytest.mark.parametrize(
    "query", ["", "after=12&limit=5", "monkey=1", "tokens=5", "keys=2", "x=apk", "kind=key:created"]
)
def test_other_queries_hold_no_key(query: str) -> None:
    """A parameter whose name only sounds alike is none."""
    assert presented.key_shown_in(scope(query=query)) is None


def test_a_key_in_a_path_is_seen() -> None:
    """Paths stand in logs as well."""
    assert presented.key_shown_in(scope(f"/v1/models/{KEY}")) == KEY
    assert keys.parse(KEY) is not None


@pytest.mark.parametrize(
    "path",
    [
        "//v1/models",
        "/v1//models",
        "/v1/./models",
        "/v1/../v1/models",
        "/v1/models/..",
        "/v1/%2e%2e/models",
        "/v1%2fmodels",
        "/v1%2Fmodels",
        "/v1/models;a=b",
        "/v1/models/a%00",
        "/v1/%6dodels",
        "/v1/models%5c..",
        "/v1/models/%",
        "/v1/models/%4",
        "/v1/models/%zz",
        "/v1/models/%c3%a9",
        "/v1/models/a%2f..%2fb",
        "/v1/models/a%2f%2fb",
        "/v1/responses/a%2fb",
        "/%68ealthz",
    ],
)
def test_paths_that_hide_another(path: str) -> None:
    """Nothing that a router, a proxy or a log could read as another path."""
    assert not presented.is_plain(scope(path))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/models",
        "/v1/models/qwen%3A0.5b",
        "/v1/models/a..b",
        "/v1/models/a%20b",
        "/v1/models/no%2Fsuch",
    ],
)
def test_plain_paths(path: str) -> None:
    """What has to be escaped may be."""
    assert presented.is_plain(scope(path))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json"},
        {"content-type": "Application/JSON; charset=UTF-8"},
        {"content-type": 'application/json;charset="utf-8"'},
        {"content-encoding": "identity"},
    ],
)
def test_bodies_that_are_read(headers: dict[str, str]) -> None:
    """JSON in UTF-8, as it is; or nothing said of it."""
    presented.check_content(Headers(headers))


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-type": "text/plain"}, "unsupported_media_type"),
        ({"content-type": "application/json; charset=utf-16"}, "unsupported_media_type"),
        ({"content-type": "multipart/form-data; boundary=x"}, "unsupported_media_type"),
        ({"content-type": ""}, "unsupported_media_type"),
        ({"content-encoding": "gzip"}, "unsupported_encoding"),
        ({"content-encoding": "identity, gzip"}, "unsupported_encoding"),
        ({"content-encoding": "br"}, "unsupported_encoding"),
    ],
)
def test_bodies_that_are_not_read(headers: dict[str, str], code: str) -> None:
    """Nothing is unpacked, and nothing is guessed."""
    with pytest.raises(RequestError) as found:
        presented.check_content(Headers(headers))
    assert found.value.code == code


def test_one_key_in_two_headers_is_one_key() -> None:
    """Some clients send both; two different ones are refused."""
    assert presented.token_of(Headers({"authorization": "Bearer a", "x-api-key": "a"})) == "a"
    for authorization in ("Bearer b", "Basic a"):
        with pytest.raises(RequestError) as found:
            presented.token_of(Headers({"authorization": authorization, "x-api-key": "a"}))
        assert found.value.code == "two_keys"
