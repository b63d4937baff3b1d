"""What llama.cpp itself says of its slots, beside what the engine counts."""

import json
from typing import Any

import httpx
import psutil

SERVER = "serve.engines.llama_cpp_server"


def find_llama_cpp(pid: int | None = None) -> psutil.Process:
    """Return the process of llama.cpp that a process has started; by default this one."""
    children = psutil.Process(pid).children(recursive=True)
    [found] = [child for child in children if SERVER in child.cmdline()]
    return found


def llama_cpp_client(process: psutil.Process) -> httpx.Client:
    """Return a client of llama.cpp's own server."""
    socket = json.loads(process.cmdline()[-1])["socket"]
    return httpx.Client(transport=httpx.HTTPTransport(uds=socket), base_url="http://llama")


def read_slots(client: httpx.Client) -> list[dict[str, Any]]:
    """Return llama.cpp's slots: ``is_processing``, and ``has_next_token`` once a slot was used.

    llama.cpp sets the latter to false when a generation has all its tokens, and leaves it true when one is canceled.
    """
    slots: list[dict[str, Any]] = client.get("/slots").raise_for_status().json()
    return [{**slot, **slot.pop("next_token", [{}])[0]} for slot in slots]
