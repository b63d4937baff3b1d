"""What servers make of the fields of a request: honored, refused, or ignored without a word.

Each check sends a request whose answer shows whether its field had an effect. All go to every server, in greedy decoding unless
the field is about sampling.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from benchmarks.serve_clients import TIMEOUT_S, Endpoint

HONORED, IGNORED = "yes", "**ignored**"
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
PROMPT, TOKENS = "The function returns the number of", 8
# Two tokens that a bias makes the most likely, and nearly that.
FIRST, SECOND, BIAS = 300, 301, 90.0
LONG = " the number" * 4000  # far more tokens than the context


@dataclass(frozen=True)
class Check:
    """A field or a route, and what shows that it is honored.

    Attributes:
        name: as it is printed.
        judge: sends requests and says what became of it.
    """

    name: str
    judge: Callable[["Client"], str]


class Client:
    """Sends requests to one server."""

    def __init__(self, endpoint: Endpoint, http: httpx.Client) -> None:
        """Send to an endpoint."""
        self._endpoint, self._http = endpoint, http

    def get(self, path: str) -> httpx.Response:
        """Read a route."""
        return self._http.get(self._endpoint.url + path)

    def post(self, path: str, **body: Any) -> httpx.Response:
        """Send a body with the name of the model."""
        return self._http.post(
            self._endpoint.url + path, json={"model": self._endpoint.model, **body}
        )

    def complete(self, **body: Any) -> httpx.Response:
        """Ask for a greedy completion."""
        base = {"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
        return self.post(COMPLETIONS, **{**base, **body})

    def text(self, **body: Any) -> str:
        """Return the text of a completion."""
        return read_text(self.complete(**body))


def read_text(response: httpx.Response) -> str:
    """Return the text of the first choice of a completion."""
    text: str = response.json()["choices"][0]["text"]
    return text


def _make_field_check(
    name: str, is_honored: Callable[[httpx.Response, Client], bool], **body: Any
) -> Check:
    """Return a check of one request: refused if its status is not 200."""

    def judge(client: Client) -> str:
        response = client.complete(**body)
        if response.status_code != 200:
            return str(response.status_code)
        return HONORED if is_honored(response, client) else IGNORED

    return Check(name, judge)


def _judge_stop(client: Client) -> str:
    whole = client.text()
    stop = whole[3:6]
    response = client.complete(stop=[stop])
    if response.status_code != 200:
        return str(response.status_code)
    text = read_text(response)
    if text == whole.split(stop)[0]:
        return HONORED
    return IGNORED if text == whole else "yes, but the text keeps it"


def _judge_seed(client: Client) -> str:
    body = {"temperature": 1.5, "max_tokens": 24}
    first, again, other = (client.complete(seed=seed, **body) for seed in (1, 1, 2))
    if first.status_code != 200:
        return str(first.status_code)
    same, differs = read_text(first) == read_text(again), read_text(first) != read_text(other)
    return HONORED if same and differs else IGNORED


def _is_greedy(response: httpx.Response, client: Client) -> bool:
    """Return whether a sample is the greedy text, which one at a high temperature is not."""
    greedy = client.text()
    return read_text(response) == greedy != client.text(temperature=1.5)


def _make_penalty_check(name: str) -> Check:
    """Return a check of a penalty: on the first of two tokens that are far more likely than others brings the second one."""

    def judge(client: Client) -> str:
        bias = {"logit_bias": {str(FIRST): BIAS, str(SECOND): BIAS - 1}}
        plain = client.complete(**bias)
        if plain.status_code != 200:
            return f"logit_bias: {plain.status_code}"
        changed = client.complete(**bias, **{name: 2})
        if changed.status_code != 200:
            return str(changed.status_code)
        return HONORED if read_text(changed) != read_text(plain) else IGNORED

    return Check(f"`{name}`", judge)


def _judge_logprobs(client: Client) -> str:
    response = client.complete(logprobs=2)
    if response.status_code != 200:
        return str(response.status_code)
    values = response.json()["choices"][0].get("logprobs")
    if not values:
        return IGNORED
    return HONORED if "token_logprobs" in values else "the shape of conversations"


def _judge_echo(client: Client) -> str:
    response = client.complete(echo=True, logprobs=1, max_tokens=1)
    if response.status_code != 200:
        return str(response.status_code)
    values = response.json()["choices"][0].get("logprobs") or {}
    return HONORED if len(values.get("token_logprobs") or ()) > 1 else IGNORED


def _judge_stream(client: Client) -> str:
    response = client.complete(stream=True, stream_options={"include_usage": True})
    if response.status_code != 200:
        return str(response.status_code)
    return judge_events(response.text)


def judge_events(text: str) -> str:
    """Say which of usage and ``[DONE]`` a stream of events ends with."""
    lines = [line for line in text.splitlines() if line.startswith("data: ")]
    events = [orjson.loads(line[6:]) for line in lines if line.startswith("data: {")]
    has_usage = any(event.get("usage") for event in events)
    is_done = bool(lines) and lines[-1] == "data: [DONE]"
    if has_usage:
        return HONORED if is_done else "usage, but no `[DONE]`"
    return "`[DONE]`, but no usage" if is_done else IGNORED


def _judge_tokenize(client: Client) -> str:
    """Send the field of vLLM, ``prompt``, and that of llama.cpp, ``content``."""
    responses = [client.post("/tokenize", **{name: PROMPT}) for name in ("prompt", "content")]
    if any(each.status_code == 200 and each.json().get("tokens") for each in responses):
        return HONORED
    return str(responses[0].status_code)


def _make_status_check(name: str, send: Callable[[Client], httpx.Response]) -> Check:
    def judge(client: Client) -> str:
        status = send(client).status_code
        return HONORED if status == 200 else str(status)

    return Check(name, judge)


def _make_route_check(path: str) -> Check:
    return _make_status_check(f"`{path}`", lambda client: client.get(path))


def _make_refusal_check(name: str, wanted: str, **body: Any) -> Check:
    """Return a check of a request that has to be refused; ``wanted`` is what a message has to name."""

    def judge(client: Client) -> str:
        response = client.complete(**body)
        if response.status_code == 200:
            return "**answered** (200)"
        names_it = wanted in response.text
        return f"{response.status_code}" + (", names it" if names_it else "")

    return Check(name, judge)


CHECKS: Sequence[Check] = (
    _make_field_check(
        "`max_tokens`", lambda r, _: r.json()["usage"]["completion_tokens"] == TOKENS
    ),
    Check("`stop`", _judge_stop),
    Check("`seed`", _judge_seed),
    _make_field_check("`top_k: 1`", _is_greedy, temperature=1, top_k=1),
    _make_field_check("`top_p: 0.000001`", _is_greedy, temperature=1, top_p=1e-6),
    _make_field_check(
        "`logit_bias`", lambda r, c: read_text(r) != c.text(), logit_bias={str(FIRST): BIAS}
    ),
    _make_penalty_check("presence_penalty"),
    _make_penalty_check("frequency_penalty"),
    _make_field_check("`n: 2`", lambda r, _: len(r.json()["choices"]) == 2, n=2),
    Check("`stream`, with usage and `[DONE]`", _judge_stream),
    Check("`logprobs`", _judge_logprobs),
    _make_field_check("`echo`", lambda r, _: read_text(r).startswith(PROMPT), echo=True),
    Check("`echo` with log-probabilities of the prompt", _judge_echo),
    _make_field_check(
        "a list of prompts", lambda r, _: len(r.json()["choices"]) == 2, prompt=[PROMPT, PROMPT]
    ),
    _make_field_check(
        "token ids as prompt", lambda r, _: bool(read_text(r)), prompt=[FIRST, SECOND, 5]
    ),
    _make_field_check("`suffix`", lambda _r, _c: False, suffix=" of rows"),
    _make_field_check("`best_of: 2`", lambda _r, _c: False, best_of=2),
    _make_refusal_check('refuses `max_tokens: "abc"`', "max_tokens", max_tokens="abc"),
    _make_refusal_check("refuses a field that it does not know", "unknown_field", unknown_field=1),
    _make_refusal_check("refuses a prompt longer than the context", "context", prompt=LONG),
    _make_status_check(
        "a conversation without a chat template",
        lambda c: c.post(CHAT, messages=[{"role": "user", "content": PROMPT}], max_tokens=TOKENS),
    ),
    _make_status_check("`/v1/embeddings`", lambda c: c.post("/v1/embeddings", input=PROMPT)),
    Check("`/tokenize`", _judge_tokenize),
    *(_make_route_check(path) for path in ("/v1/models", "/health", "/metrics")),
)


def check_server(endpoint: Endpoint) -> list[str]:
    """Return what a server makes of each of ``CHECKS``."""
    results = []
    # A connection each: a server may close one after an error.
    with httpx.Client(timeout=TIMEOUT_S, headers={"Connection": "close"}) as http:
        client = Client(endpoint, http)
        for check in CHECKS:
            try:
                results.append(check.judge(client))
            except httpx.HTTPError as error:
                results.append(f"no answer ({type(error).__name__})")
            except (KeyError, IndexError, TypeError, ValueError):
                results.append("an answer of another shape")
    return results


def print_table(columns: Mapping[str, Sequence[str]]) -> None:
    """Print what servers make of the checks, as a table in Markdown."""
    print(f"| | {' | '.join(columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for check, row in zip(CHECKS, zip(*columns.values(), strict=True), strict=True):
        print(f"| {check.name} | {' | '.join(row)} |")
