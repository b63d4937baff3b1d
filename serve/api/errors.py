"""Errors in the shape that clients of OpenAI's API expect."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from infra.errors import UserError
from serve.api.record import CLIENT_GONE, RECORD, RequestRecord, StalledClientError
from serve.api.schemas import FIELDS, PARAM
from serve.engines.interface import EngineError

log = logging.getLogger(__name__)

_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}


class ApiError(HTTPException):
    """Ends a request.

    Args:
        status: of HTTP.
        message: what was wrong and what to do.
        param: the field.
        code: for programs.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.param = param
        self.code = code


@dataclass(frozen=True)
class ErrorDescription:
    """What a client is told of an error: see ``ApiError``."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None

    @property
    def body(self) -> bytes:
        """The body of the response."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {
            "message": self.message,
            "type": _TYPES.get(self.status, kind),
            "param": self.param,
            "code": self.code,
        }
        return orjson.dumps({"error": error})

    @property
    def cause(self) -> str:
        """The cause in a few words, for the log.

        The message may repeat parts of the request, and a field that is not known has a name of the client's choice.
        """
        code = self.code or HTTPStatus(self.status).name.lower()
        return f"{code}: {self.param}" if self.param in FIELDS else code


def error_response(error: Exception, record: RequestRecord) -> Response:
    """Return the response to an error, and record its cause."""
    described = describe_error(error, record)
    headers = error.headers if isinstance(error, HTTPException) else None
    return Response(described.body, described.status, headers, "application/json")


def describe_error(error: Exception, record: RequestRecord) -> ErrorDescription:
    """Return what a client is told of an error, and record its cause.

    One that nobody expected is logged, and its text stays here.
    """
    described = _describe(error)
    record.error = described.cause
    return described


def _describe(error: Exception) -> ErrorDescription:
    if isinstance(error, ApiError):
        return ErrorDescription(error.status_code, error.detail, error.param, error.code)
    if isinstance(error, HTTPException):
        return ErrorDescription(error.status_code, str(error.detail))
    if isinstance(error, UserError):
        return ErrorDescription(HTTPStatus.BAD_REQUEST, str(error))
    if isinstance(error, EngineError):
        log.error("the engine failed: %s", error)
        message = f"the engine failed: {error}; try again"
        return ErrorDescription(HTTPStatus.SERVICE_UNAVAILABLE, message, code="engine_failed")
    log.error("a request failed", exc_info=error)
    message = "the server failed; its log says why"
    return ErrorDescription(HTTPStatus.INTERNAL_SERVER_ERROR, message, code="internal_error")


def add_error_handlers(app: FastAPI) -> None:
    """Let an application give all errors this shape."""

    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, StalledClientError):  # recorded where it was raised; nobody reads this
            return Response(status_code=CLIENT_GONE)
        return error_response(error, request.scope[RECORD])

    async def handle_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(_invalid_request(error.errors()), request.scope[RECORD])

    for kind in (HTTPException, UserError, EngineError, Exception):
        app.add_exception_handler(kind, handle)
    app.add_exception_handler(RequestValidationError, handle_invalid)


def _invalid_request(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """Name the field of the first error; unions report one error per alternative."""
    first = errors[0]
    path = [str(item) for item in first["loc"][1:]]
    if first["type"] == "json_invalid":
        why = first.get("ctx", {}).get("error", "")
        return ApiError(400, f"the body is not JSON: {why}", code="invalid_json")
    context = first.get("ctx", {})
    if PARAM in context:
        return ApiError(400, first["msg"], param=context[PARAM], code="invalid_value")
    if not path:
        return ApiError(400, "the body must be a JSON object", code="invalid_body")
    param = path[0]
    alternatives = [item for item in errors if [*item["loc"]][1:2] == [first["loc"][1]]]
    if first["type"] == "extra_forbidden":
        where = ".".join(path)
        message = f"{where}: unknown or unsupported field; leave it out"
        return ApiError(400, _printable(message), param=_printable(param), code="unknown_field")
    messages = dict.fromkeys(str(item["msg"]) for item in alternatives)
    message = f"{param}: {'; or: '.join(messages)}"
    return ApiError(400, _printable(message), param=_printable(param), code="invalid_value")


def _printable(text: str) -> str:
    """Return a text that UTF-8 can hold: names of fields come from outside."""
    return text.encode("utf-8", "replace").decode()[:1000]
