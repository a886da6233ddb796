"""Where the page is served, and who may ask."""

from __future__ import annotations

import socket

import pytest

from utils.errors import ConfigError
from utils.web.address import TOKEN_VARIABLE, Access, bind, parse_address, shown_url

LOCAL = Access(True, None, 8080)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080", ("127.0.0.1", 8080)),
        ("0", ("127.0.0.1", 0)),
        ("localhost:8080", ("localhost", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_addresses(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "web", ":8080", "host:", "65536", "-1", "80.5", "::1:8080", "1:2:3", "8080 ", "٣", "[]:1",
     "http://a:1", "999999999999"],
)  # fmt: skip
def test_other_texts_are_refused(text):
    with pytest.raises(ConfigError, match=r"--web .*expected PORT or HOST:PORT"):
        parse_address(text)


def test_an_address_that_cannot_be_listened_to():
    with bind("0") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--web {port}: port {port} is in use; choose"):
            bind(str(port))
    with pytest.raises(ConfigError, match="is no address of this machine"):
        bind("192.0.2.1:8080")  # a network for documentation
    with pytest.raises(ConfigError, match=r"there is no host 'no-such-host\.invalid'"):
        bind("no-such-host.invalid:8080")


def test_other_machines_need_a_token():
    with bind("0") as local, bind("0.0.0.0:0") as public:
        assert Access.of(local, {}).token is None
        tokens = [Access.of(public, {}).token for _ in range(2)]
        assert None not in tokens and tokens[0] != tokens[1]
        assert len(tokens[0]) >= 40
        given = {TOKEN_VARIABLE: "a.token~of-16_chars"}
        assert Access.of(local, given).token == Access.of(public, given).token == given.popitem()[1]
        port = public.getsockname()[1]
        assert shown_url(public, "x") == f"http://{socket.gethostname()}:{port}/?token=x"
        assert shown_url(local, None) == f"http://127.0.0.1:{local.getsockname()[1]}/"


@pytest.mark.parametrize("token", ["short", "x" * 257, "sixteen chars & more", "a" * 15 + "ä"])
def test_a_weak_token_is_refused(token):
    with bind("0") as local, pytest.raises(ConfigError, match="DETECT_WEB_TOKEN: must be 16 to"):
        Access.of(local, {TOKEN_VARIABLE: token})


def test_only_the_token_is_the_token():
    access = Access(False, "right-right-right", 1)
    assert access.knows_token(None, "right-right-right")
    for wrong in (None, "", "right", "right-right-righT", "right-right-right ", "ä\udce4"):
        assert not access.knows_token(wrong)
    assert LOCAL.knows_token(None)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8080", True), ("localhost", True), ("LOCALHOST:1", True), ("[::1]:8080", True),
        ("127.8.9.1", True), ("evil.example:8080", False), ("localhost.evil.example", False),
        ("", False), (None, False), ("192.168.0.1:8080", False), ("[::1", False),
        ("evil@localhost.example", False), ("127.0.0.1.evil.example", False),
    ],
)  # fmt: skip
def test_names_that_lead_to_this_machine(host, allowed):
    assert LOCAL.allows_host(host) is allowed
    assert Access(False, "t", 8080).allows_host(host)  # there the token is what protects


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),  # curl
        ({"origin": "http://localhost:8080"}, True),
        ({"origin": "http://localhost:8080", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "http://localhost:9090"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://["}, False),  # no address at all
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
         False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate",
          "sec-fetch-dest": "document"}, True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate",
          "sec-fetch-dest": "iframe"}, False),
    ],
)  # fmt: skip
def test_other_sites_are_kept_out(headers, allowed):
    assert LOCAL.allows_origin({"host": "localhost:8080", **headers}) is allowed
