"""What the server answers; only this module knows Starlette."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from utils.content_policy import source_hash
from utils.errors import DatasetError, UserError
from utils.web.address import Access
from utils.web.board import LiveBoard, is_set_within
from utils.web.uploads import MAX_BYTES, TooLargeError, UploadWorker

logger = logging.getLogger(__name__)
PARTS = Path(__file__).parent
MAX_WAITING = 16  # requests with images, the one in work included
RETRY_SECONDS = 1
UPLOAD_SECONDS = 30.0
NEWS_SECONDS = 10.0  # how long a request waits for something new
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_app(board: LiveBoard, worker: UploadWorker, access: Access) -> ASGIApp:
    """The application for a server."""
    detection, view = _Detection(worker), _View(board, access)
    routes = [
        Route("/", view.page),
        Route("/state", view.state),
        Route("/frame/{position:int}", view.frame),
        Route("/events", view.events),
        Route("/detect", detection.answer, methods=["POST"]),
    ]
    handlers: Any = {HTTPException: _refused, Exception: _failed}
    return _Guard(Starlette(routes=routes, exception_handlers=handlers), access)


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """In ASCII: file names may hold what UTF-8 cannot."""
    return Response(json.dumps(content), status, headers, "application/json")


def _sentence(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return _json({"error": text}, status, headers)


async def _refused(request: Request, error: HTTPException) -> Response:
    known = "GET /, /state, /frame/N and /events, and POST /detect"
    texts = {
        404: f"there is no {request.url.path}; there are {known}",
        405: f"{request.method} {request.url.path} is not possible; there are {known}",
    }
    headers = dict(error.headers) if error.headers else None
    return _sentence(error.status_code, texts.get(error.status_code, error.detail), headers)


async def _failed(request: Request, error: Exception) -> Response:
    return _sentence(500, "the server has failed; its console says why")


class _Guard:
    """Lets through who may ask, and adds headers that keep browsers careful."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope)
        answer = self._refusal(request) or self._without_token_in_address(request) or self._app
        await answer(scope, receive, send_safely)

    def _refusal(self, request: Request) -> Response | None:
        access, headers = self._access, request.headers
        if not access.allows_host(headers.get("host")):
            return _sentence(403, "the Host header names another machine; ask for localhost")
        if not access.allows_origin(headers):
            return _sentence(403, "requests from other sites are refused")
        given = (request.query_params.get("token"), request.cookies.get(access.cookie),
                 _bearer(headers))  # fmt: skip
        if not access.knows_token(*given):
            text = "a token is needed: open the address that the console shows, or send the header "
            bearer = {"WWW-Authenticate": "Bearer"}
            return _sentence(401, f"{text}Authorization: Bearer TOKEN", bearer)
        return None

    def _without_token_in_address(self, request: Request) -> Response | None:
        """The page moves the token to a cookie, out of the address bar and the history."""
        token = request.query_params.get("token")
        if request.url.path != "/" or token is None or self._access.token is None:
            return None
        answer = RedirectResponse("/", 303)
        if self._access.knows_token(token):
            answer.set_cookie(self._access.cookie, token, httponly=True, samesite="lax")
        return answer


def _bearer(headers: Headers) -> str | None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


class _View:
    """The page and what it asks for."""

    def __init__(self, board: LiveBoard, access: Access) -> None:
        self._board = board
        style, script = ((PARTS / name).read_text("utf-8") for name in ("page.css", "page.js"))
        page = (PARTS / "page.html").read_text("utf-8")
        # The script last: the other parts are not searched again.
        self._html = page.replace("{{style}}", style).replace("{{script}}", script)
        self._policy = (
            f"default-src 'none'; img-src blob: data:; connect-src 'self'; "
            f"script-src '{source_hash(script)}'; style-src '{source_hash(style)}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    async def page(self, request: Request) -> Response:
        headers = {"Content-Security-Policy": self._policy}
        return Response(self._html, 200, headers, "text/html")

    async def state(self, request: Request) -> Response:
        """At once, or with `?after=VERSION` as soon as there is something newer."""
        after = request.query_params.get("after", "")
        answer = self._board.doorbell.answer()
        if after == str(self._board.version) and not self._board.has_ended:
            await is_set_within(answer, NEWS_SECONDS)
        return _json(self._board.as_values())

    def frame(self, request: Request) -> Response:
        """Starlette calls it in a thread, since it draws."""
        position = request.path_params["position"]
        found = self._board.jpeg(position)
        if found is None:
            return _sentence(404, f"source {position} has no frame yet, or there is no such source")
        frame, content = found
        return Response(content, 200, {"X-Frame": str(frame.frame_index)}, "image/jpeg")

    async def events(self, request: Request) -> ASGIApp | Response:
        """One line per frame from now on, as `--save-jsonl` writes them."""
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return self._event_stream

    async def _event_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        reader = self._board.subscribe()
        if reader is None:
            retry = {"Retry-After": str(RETRY_SECONDS)}
            refusal = _sentence(503, "too many programs read the events", retry)
            await refusal(scope, receive, send)
            return

        async def lines() -> AsyncIterator[bytes]:
            yield b": one line per frame\n\n"
            while True:
                answer, has_ended = self._board.doorbell.answer(), self._board.has_ended
                waiting, dropped = self._board.take(reader)
                if dropped:
                    yield f'event: dropped\ndata: {{"frames": {dropped}}}\n\n'.encode()
                for line in waiting:
                    yield b"data: " + line + b"\n\n"
                if has_ended:
                    yield b"event: end\ndata: {}\n\n"
                    return
                if not waiting and not await is_set_within(answer, NEWS_SECONDS):
                    yield b": still here\n\n"

        try:
            await StreamingResponse(lines(), media_type="text/event-stream")(scope, receive, send)
        finally:
            self._board.unsubscribe(reader)


class _Detection:
    """`POST /detect`; beyond a few that wait, the next ones are asked to come again."""

    def __init__(self, worker: UploadWorker) -> None:
        self._worker, self._waiting = worker, 0

    async def answer(self, request: Request) -> Response:
        if self._waiting >= MAX_WAITING:
            retry = {"Retry-After": str(RETRY_SECONDS)}
            return _sentence(503, f"{self._waiting} images wait already; try again later", retry)
        self._waiting += 1
        try:
            content = await asyncio.wait_for(_uploaded(request), UPLOAD_SECONDS)
            line = await asyncio.wrap_future(self._worker.submit(content))
        except asyncio.TimeoutError:
            return _sentence(408, f"the image did not arrive within {UPLOAD_SECONDS:.0f} s")
        except TooLargeError as error:
            return _sentence(413, str(error), {"Connection": "close"})
        except DatasetError as error:
            return _sentence(422, str(error))
        except ClientDisconnect:
            return _sentence(400, "the image did not arrive whole")
        except UserError as error:
            logger.error("POST /detect: %s", error)
            return _sentence(500, str(error))
        finally:
            self._waiting -= 1
        body = f"{line}\n".encode(errors="backslashreplace")
        return Response(body, media_type="application/json")


async def _uploaded(request: Request) -> bytes:
    """The body; of a form its first file.

    Raises:
        TooLargeError: it has too many bytes.
        DatasetError: the form has no file.
    """
    too_large = TooLargeError(f"more than {MAX_BYTES / 1e6:.0f} MB; shrink the image")
    claimed = request.headers.get("content-length", "0")
    if claimed.isdigit() and int(claimed) > MAX_BYTES:
        raise too_large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise too_large
    content = bytes(body)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return content

    async def parts() -> AsyncGenerator[bytes, None]:
        yield content

    try:
        parser = MultiPartParser(request.headers, parts(), max_files=1, max_fields=8)
        form = await parser.parse()
    except (MultiPartException, ValueError, LookupError) as error:
        reason = getattr(error, "message", error)
        raise DatasetError(f"the form cannot be read: {reason}") from None
    try:
        files = [each for _, each in form.multi_items() if not isinstance(each, str)]
        if not files:
            raise DatasetError("the form has no file; send one, as curl -F image=@bus.jpg does")
        return bytes(await files[0].read())
    finally:
        await form.close()
