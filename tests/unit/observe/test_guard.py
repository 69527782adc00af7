"""The admin port's door: which requests are answered."""

from typing import Any

import pytest

from proxy.observe.guard import Asked, Door, has_token, knows_host, refusal

TOKEN = "t0ken-of-sixteen-or-more"
DOOR = Door(TOKEN, frozenset(("backstay.internal", "db-proxy")))
PLAIN = Door()


def ask(door: Door = DOOR, method: str = "GET", path: str = "/metrics", **more: Any) -> int:
    """The status of the refusal, 200 for none. Header names with _ for -."""
    over_unix = bool(more.pop("over_unix", False))
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    headers.setdefault("Host", "127.0.0.1:9127")
    if headers["Host"] is None:
        del headers["Host"]
    refused = refusal(door, Asked(method, path, headers, over_unix))
    return refused.status if refused is not None else 200


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:9127", "app.localhost", "127.0.0.1", "127.0.0.1:9127", "[::1]",
        "[::1]:9127", "10.42.0.17:9127", "[fd00::17]:9127", "backstay.internal", "db-proxy:80",
        "backstay.internal.:9127",
    ],
)  # fmt: skip
def test_known_hosts(host: str) -> None:
    assert knows_host(DOOR, host)
    assert ask(Host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:9127",
        "", ":9127", "[", "[::1", "127.0.0.1@evil.example", "2130706433", "0x7f.1", "a b",
        "notlocalhost",
    ],
)  # fmt: skip
def test_unknown_hosts(host: str) -> None:
    assert ask(Host=host) == 403


def test_no_host_is_no_browser() -> None:
    assert ask(Host=None) == 200


def test_over_a_unix_socket_any_host_will_do() -> None:
    assert ask(Host="evil.example", over_unix=True) == 200
    assert ask(Host="evil.example", Origin="http://x.example", over_unix=True) == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1:9127"}, 200),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ],
)
def test_other_sites(headers: dict[str, str], status: int) -> None:
    assert ask(**headers) == status
    post = {"method": "POST", "path": "/api/v1/act/pause", "Authorization": f"Bearer {TOKEN}"}
    assert ask(**post, **headers) == status, "not even with the token"


def test_the_page_may_be_opened_from_a_link() -> None:
    link = {
        "Sec_Fetch_Site": "cross-site",
        "Sec_Fetch_Mode": "navigate",
        "Sec_Fetch_Dest": "document",
    }
    assert ask(path="/", **link) == 200
    assert ask(path="/api/v1/status", **link) == 403
    assert ask(path="/", **{**link, "Sec_Fetch_Dest": "iframe"}) == 403
    assert ask(path="/", **{**link, "Sec_Fetch_Mode": "no-cors"}) == 403
    assert ask(path="/", method="POST", **link) in (403, 405)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_reading_is_all_there_is(method: str) -> None:
    assert ask(method=method, Authorization=f"Bearer {TOKEN}") == 405
    assert ask(method="HEAD") == 200


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Bearer  {TOKEN} ", 200),
        (f"Bearer {TOKEN}x", 403),
        (f"Bearer {TOKEN[:-1]}", 403),
        ("Bearer ", 403),
        ("Bearer", 403),
        (f"Basic {TOKEN}", 403),
        (TOKEN, 403),
        ("", 403),
        ("Bearer \udcff\udcfe", 403),
        ("Bearer ünicode", 403),
    ],
)
def test_acts_need_the_token(authorization: str, status: int) -> None:
    act = {"method": "POST", "path": "/api/v1/act/reload"}
    assert ask(**act, Authorization=authorization) == status
    assert ask(PLAIN, **act, Authorization=authorization) == 403, "no token is set: nobody has it"
    assert has_token(DOOR, {"Authorization": authorization}) == (status == 200)
    assert not has_token(PLAIN, {"Authorization": authorization})


def test_acts_are_posts() -> None:
    assert ask(path="/api/v1/act/reload", Authorization=f"Bearer {TOKEN}") == 405


def test_the_token_does_not_show() -> None:
    assert TOKEN not in repr(DOOR)
