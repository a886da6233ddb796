"""Where the page is served, and who may ask for it."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from utils.errors import ConfigError

LOOPBACK = "127.0.0.1"
TOKEN_VARIABLE = "DETECT_WEB_TOKEN"
TOKEN_RULE = re.compile(r"[A-Za-z0-9._~-]{16,256}")
EXPECTED = "expected PORT or HOST:PORT, as in 8080, 0.0.0.0:8080 or [::1]:8080"
LARGEST_PORT = 65535
BACKLOG = 64


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `8080`, `HOST:8080` or `[IPv6]:8080`; the host is 127.0.0.1 by default.

    Raises:
        ConfigError: it is none of these.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        host = LOOPBACK
    elif host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"--web {text}: {EXPECTED}")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > LARGEST_PORT:
        raise ConfigError(f"--web {text}: {EXPECTED}; ports are 0 (any free one) to {LARGEST_PORT}")
    return host, int(port)


def bind(text: str) -> socket.socket:
    """A socket that listens at the address; browsers may connect, and wait.

    Raises:
        ConfigError: it is no address of this machine, is in use, or is not permitted.
    """
    host, port = parse_address(text)
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (socket.gaierror, UnicodeError):
        raise ConfigError(f"--web {text}: there is no host {host!r}") from None
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: f"port {port} is in use; choose another one, or 0 for any free one",
            errno.EACCES: f"port {port} is not permitted; choose one above 1023",
            errno.EADDRNOTAVAIL: f"{host} is no address of this machine",
        }
        reason = reasons.get(error.errno or 0, f"cannot be listened to: {error.strerror}")
        raise ConfigError(f"--web {text}: {reason}") from None


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Attributes:
        is_local: only this machine can connect. A name that leads here (DNS rebinding) is then
            refused, since the browser takes its owner's pages for ours.
        token: what each request must know; None where nothing needs to be.
        port: of the server; the name of its cookie, which browsers send to every port.
    """

    is_local: bool
    token: str | None
    port: int

    @classmethod
    def of(cls, listening: socket.socket, environment: Mapping[str, str] = os.environ) -> Access:
        """Other machines need a token: that of DETECT_WEB_TOKEN, or a new one.

        Raises:
            ConfigError: the one of the environment is too short or not made of URL characters.
        """
        host, port = listening.getsockname()[:2]
        is_local = ipaddress.ip_address(host.partition("%")[0]).is_loopback
        token = environment.get(TOKEN_VARIABLE) or None
        if token is not None and not TOKEN_RULE.fullmatch(token):
            raise ConfigError(
                f"{TOKEN_VARIABLE}: must be 16 to 256 letters, digits or . _ ~ - "
                "(unset it for a random one)"
            )
        if token is None and not is_local:
            token = secrets.token_urlsafe(32)
        return cls(is_local, token, port)

    @property
    def cookie(self) -> str:
        """The name of the cookie with the token."""
        return f"detect_token_{self.port}"

    def knows_token(self, *given: str | None) -> bool:
        """Whether one of the values is the token; how long it takes does not depend on which."""
        if self.token is None:
            return True
        token = self.token.encode()
        values = [(each or "").encode(errors="backslashreplace") for each in given]
        found = [secrets.compare_digest(value, token) for value in values]
        return any(found)

    def allows_host(self, header: str | None) -> bool:
        """Whether a request's Host header may be meant for this server."""
        if not self.is_local:
            return True
        try:
            host = urlsplit(f"//{header or ''}").hostname or ""
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def allows_origin(self, headers: Mapping[str, str]) -> bool:
        """Whether a request comes from our own page, or from a program that is no browser.

        Browsers say where a request comes from; opening the page by a link from elsewhere is
        allowed, for it shows our page and nothing to the other one.
        """
        origin, host = headers.get("origin"), headers.get("host")
        try:
            if origin is not None and urlsplit(origin).netloc != host:
                return False
        except ValueError:  # no address
            return False
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return True
        return (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == (
            "navigate", "document",
        )  # fmt: skip


def shown_url(listening: socket.socket, token: str | None) -> str:
    """What to open in a browser; a server of all addresses is shown by this machine's name."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        host = socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/" + (f"?token={token}" if token else "")
