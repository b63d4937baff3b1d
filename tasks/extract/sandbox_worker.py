"""The extraction process: ``python -m tasks.extract.sandbox_worker ENGINE SECONDS BYTES``.

Reads requests from standard input and writes results to standard output: JSON and the page's bytes,
each after its length. The kernel ends the process when a page has used up its processor time,
whatever the code is doing; the parent then starts another.
"""

import logging
import resource
import signal
import struct
import sys
from typing import IO

import orjson

from tasks.extract.page import ExtractedPage, ExtractRequest, PageError, extract_page

LENGTHS = struct.Struct("<QQ")  # bytes of the JSON value, and of what follows it
_WARM_UP_PAGE = b"<html><head><title>t</title></head><body><p>One.</p><p>Two.</p></body></html>"

# A page, or the reason and message of a failure.
ExtractResult = ExtractedPage | tuple[str, str]


def send_message(stream: IO[bytes], value: object, content: bytes = b"") -> None:
    """Write a JSON value (or dataclass), and bytes."""
    data = orjson.dumps(value)
    stream.write(LENGTHS.pack(len(data), len(content)) + data + content)
    stream.flush()


def _receive_request(stream: IO[bytes]) -> ExtractRequest | None:
    head = stream.read(LENGTHS.size)
    if len(head) < LENGTHS.size:
        return None
    size, content_size = LENGTHS.unpack(head)
    value = orjson.loads(stream.read(size))
    return ExtractRequest(stream.read(content_size), **value)


def extract_safely(request: ExtractRequest, engine: str) -> ExtractResult:
    """Extract a page; an error of the extractor becomes a failure of the page."""
    try:
        return extract_page(request, engine)
    except PageError as error:
        return error.reason, str(error)
    except MemoryError:
        return "memory", "out of memory"
    except RecursionError:
        return "too_deep", "recursion"
    except Exception as error:  # noqa: BLE001 - a page can break a parser in any way
        return "extract_error", f"{type(error).__name__}: {error}"


def main(engine: str, cpu_seconds: float, max_memory: int) -> None:
    """Answer requests until the parent closes its end."""
    logging.disable(logging.CRITICAL)
    # A canceled run signals the process group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    replies = sys.stdout.buffer
    # Load the libraries before any page's time is measured.
    ready = extract_safely(ExtractRequest(_WARM_UP_PAGE, "http://localhost/", "text/html"), engine)
    resource.setrlimit(resource.RLIMIT_AS, (max_memory, max_memory))
    send_message(replies, ready)
    while (request := _receive_request(sys.stdin.buffer)) is not None:
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        result = extract_safely(request, engine)
        signal.setitimer(signal.ITIMER_PROF, 0)
        send_message(replies, result)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
