import errno
import socket
import ssl
from types import SimpleNamespace

import aiohttp
import botocore.exceptions as boto
import pytest

from infra.errors import UserError
from infra.store.retry import StorageUnavailableError, is_transient, retry


def client_error(status: int, code: str = "x") -> boto.ClientError:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(response, "PutObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        socket.gaierror(-3, "Temporary failure in name resolution"),
        OSError(errno.EBUSY, "SlowDown"),
        OSError("Timed out trying to connect to tcp://x"),
        client_error(503),
        client_error(429),
        client_error(400, "RequestTimeout"),
        boto.EndpointConnectionError(endpoint_url="http://x"),
        boto.ReadTimeoutError(endpoint_url="http://x"),
        boto.ConnectionClosedError(endpoint_url="http://x"),
        aiohttp.ServerDisconnectedError(),
        StorageUnavailableError("x"),
    ],
)
def test_errors_of_the_network_and_of_a_server_are_transient(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError(),
        TypeError("Checkpoint() got an unexpected keyword argument"),
        PermissionError("AccessDenied"),
        FileNotFoundError("NoSuchBucket"),
        FileExistsError(),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.EINVAL, "InvalidBucketName"),
        ssl.SSLCertVerificationError(),
        UserError("a wrong setting"),
        client_error(403, "AccessDenied"),
        client_error(400, "InvalidArgument"),
        boto.NoCredentialsError(),
        boto.ParamValidationError(report="x"),
    ],
)
def test_mistakes_and_refusals_are_raised_at_once(error: Exception) -> None:
    assert not is_transient(error)
    attempts: list[int] = []

    def fail() -> None:
        attempts.append(1)
        raise error

    with pytest.raises(type(error)):
        retry("x", fail, 10)
    assert len(attempts) == 1


@pytest.mark.parametrize("timeout_s", [0.0, 5.0])
def test_retries_end_at_the_timeout(timeout_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append)
    monkeypatch.setattr("infra.store.retry.time", clock)
    attempts: list[int] = []

    def refuse() -> None:
        attempts.append(1)
        raise ConnectionError("refused")

    with pytest.raises(StorageUnavailableError, match="writing x"):
        retry("writing x", refuse, timeout_s)
    assert (len(attempts) > 1) == (timeout_s > 0)
