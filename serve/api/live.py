"""Responses that end with their client: what makes them is cancelled when the connection is gone.

Starlette cancels neither a handler that has not answered yet nor one whose client reads no more.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve.api.errors import ApiError, describe_error
from serve.api.record import CLIENT_GONE, RECORD, RequestRecord, StalledClientError

# Of a large body: sending waits until the client has read most of those before.
PIECE_BYTES = 1 << 16


class LiveResponse(Response):
    """A JSON body that takes its time.

    Args:
        make: returns the body. Its errors become the response's.
        timeout_s: after which the request is ended, counted from its start.
    """

    def __init__(self, make: Callable[[], Awaitable[bytes]], timeout_s: float) -> None:
        super().__init__(media_type="application/json")
        self._make = make
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, unless the client goes first."""

        async def work() -> None:
            async with _deadline(scope[RECORD], self._timeout_s):
                body = await self._make()
            size = str(len(body))
            await send(_start({"content-type": "application/json", "content-length": size}))
            for start in range(0, len(body), PIECE_BYTES):
                await send(_body(body[start : start + PIECE_BYTES]))
            await send(_END)

        await _run_until_gone(work, scope, receive)


class EventStream(Response):
    """Server-sent events. Errors before the first event have a status of their own, later ones are an event.

    Args:
        events: the data of the events.
        timeout_s: after which they end, counted from the start of the request.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], timeout_s: float) -> None:
        super().__init__(media_type="text/event-stream")
        self._events = events
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until they end or the client goes."""

        async def work() -> None:
            started = False
            try:
                deadline = _deadline(scope[RECORD], self._timeout_s)
                async with deadline, aclosing(self._events) as events:
                    async for event in events:
                        if not started:
                            await send(_start(_EVENT_HEADERS))
                            started = True
                        await send(_body(b"data: %b\n\n" % event))
            except StalledClientError:
                raise
            except Exception as error:
                if not started:
                    raise
                await send(_body(b"data: %b\n\n" % describe_error(error, scope[RECORD]).body))
            await send(_END)

        await _run_until_gone(work, scope, receive)


@asynccontextmanager
async def _deadline(record: RequestRecord, timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(record.remaining_s(timeout_s)):
            yield
    except TimeoutError:
        message = (
            f"the request took longer than {timeout_s:g} s and was ended; ask for fewer tokens"
        )
        raise ApiError(504, message, code="deadline_exceeded") from None


_END = {"type": "http.response.body", "body": b"", "more_body": False}
_EVENT_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}


def _start(headers: Mapping[str, str]) -> dict[str, object]:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": 200, "headers": raw}


def _body(data: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def _run_until_gone(
    work: Callable[[], Awaitable[None]], scope: Scope, receive: Receive
) -> None:
    async def wait_until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task = asyncio.ensure_future(work())
    gone = asyncio.ensure_future(wait_until_gone())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        else:
            scope[RECORD].status = CLIENT_GONE
    finally:
        for item in (task, gone):
            item.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await item
