"""What every request passes: its id, API keys, the limits of its body and its connection, its log line and metrics."""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.log_format import JSON_FIELDS
from serve.api.connection import ABORT
from serve.api.errors import ApiError, error_response
from serve.api.limits import Limits
from serve.api.record import CLIENT_GONE, RECORD, RequestRecord, StalledClientError
from serve.api.run import is_loopback

log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# What needs no key: probes, and the page, which asks for one.
_OPEN = ("/", "/health", "/ready", "/favicon.ico")
_OPEN_FOLDER = "/page/"

CountRequest = Callable[[str, int, float], None]


class Gate:
    """Wraps an application.

    Args:
        app: what answers.
        routes: the paths that metrics name.
        api_keys: one of them is needed; without any all requests pass.
        limits: of the body and of the time to receive and to send.
        count: is called with route, status and seconds of each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Sequence[str],
        api_keys: Sequence[str],
        limits: Limits,
        count: CountRequest,
    ) -> None:
        self._app = app
        self._routes = frozenset(routes)
        # Digests have one length, so comparing them tells nothing of a key's.
        self._keys = [hashlib.sha256(key.encode()).digest() for key in api_keys]
        self._limits = limits
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"
        record = scope[RECORD] = RequestRecord(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message = {
                    **message,
                    "headers": [*message["headers"], (b"x-request-id", request_id.encode())],
                }
            await self._send_in_time(send, message, record)

        try:
            refusal = self._refuse_host(scope, headers) or self._refuse(scope["path"], headers)
            if refusal is not None:
                await error_response(refusal, record)(scope, receive, send_with_id)
            else:
                await self._app(scope, self._limit(receive, record), send_with_id)
        except StalledClientError:
            log.info("%s: the client does not read; its connection is closed", request_id)
            scope[ABORT]()
            await asyncio.sleep(0)  # the server learns of it, and misses no end of the response
        finally:
            self._log(scope, record)

    def _refuse_host(self, scope: Scope, headers: dict[bytes, bytes]) -> ApiError | None:
        """Refuse other names for this machine: a page elsewhere gives its own name this address (DNS rebinding)."""
        address, host = scope.get("server"), headers.get(b"host", b"").decode("latin-1")
        if self._keys or not host or address is None or not is_loopback(address[0]):
            return None
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if is_loopback(name.lower()):
            return None
        return ApiError(
            HTTPStatus.FORBIDDEN,
            "Host: without API keys this machine is localhost or 127.0.0.1 only; other names need --api-key-file",
            code="wrong_host",
        )

    def _refuse(self, path: str, headers: dict[bytes, bytes]) -> ApiError | None:
        if self._keys and path not in _OPEN and not path.startswith(_OPEN_FOLDER):
            kind, _, key = headers.get(b"authorization", b"").partition(b" ")
            digest = hashlib.sha256(key.strip()).digest()
            matches = [hmac.compare_digest(digest, known) for known in self._keys]
            if kind.lower() != b"bearer" or not any(matches):
                return ApiError(
                    HTTPStatus.UNAUTHORIZED,
                    "no valid API key: send Authorization: Bearer KEY",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limits.max_body:
            return self._too_large()
        return None

    def _too_large(self) -> ApiError:
        return ApiError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body has more than {self._limits.max_body:,} bytes",
            code="body_too_large",
        )

    def _limit(self, receive: Receive, record: RequestRecord) -> Receive:
        read, is_complete = 0, False
        timeout_s = self._limits.timeout_s

        async def receive_limited() -> Message:
            nonlocal read, is_complete
            if is_complete:  # what comes now is the end of the connection
                return await receive()
            try:
                async with asyncio.timeout(record.remaining_s(timeout_s)):
                    message = await receive()
            except TimeoutError:
                raise ApiError(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"the body was not complete after {timeout_s:g} s",
                    code="deadline_exceeded",
                    headers={"Connection": "close"},
                ) from None
            read += len(message.get("body", b""))
            if read > self._limits.max_body:  # of a body that did not say its length
                raise self._too_large()
            is_complete = not message.get("more_body", False)
            return message

        return receive_limited

    async def _send_in_time(self, send: Send, message: Message, record: RequestRecord) -> None:
        """Send a part of a response, which waits until the client has read most of those before.

        Raises:
            StalledClientError: if the client takes too long, with this part or with those before.
        """
        limits = self._limits
        time_left = record.remaining_s(limits.timeout_s + limits.send_timeout_s)
        try:
            async with asyncio.timeout(min(limits.send_timeout_s, time_left)):
                await send(message)
        except TimeoutError:
            record.status, record.error = CLIENT_GONE, "client_stalled"
            raise StalledClientError from None

    def _log(self, scope: Scope, record: RequestRecord) -> None:
        path = scope["path"]
        route = path if path in self._routes else "other"
        seconds = time.monotonic() - record.start
        status = record.status or CLIENT_GONE
        self._count(route, status, seconds)
        fields = {
            "request_id": record.id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "seconds": round(seconds, 4),
            "model": record.model,
            "prompt_tokens": record.prompt_tokens,
            "generated_tokens": record.generated_tokens,
            "first_token_s": record.first_token_s,
            "error": record.error,
        }
        log.info("request", extra={JSON_FIELDS: fields})
