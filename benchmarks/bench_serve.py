"""The endpoint beside llama.cpp's server, `transformers serve` and `generate`, in one run on two cores.

    python -m benchmarks.bench_serve [--only one|load|sources|conformance] [--rounds N] [--tokens N] [--requests N]

One released folder of random weights (by default 5.8 M: 6 layers of 256, 4,096 tokens) and its GGUF file; each server has one thread, 16
slots, and keys and values in fp32. In turn: one client at a time; 16 clients at once, beside the same requests one after the
other; the time to the first token of all these requests; clients that go in the middle of a text. Then the sources of a text
that grows by a few tokens at a time. Tokens are the servers' own counts, in wall time, beside the CPU time of the
server's processes, which a busy machine changes less; prompts never repeat. ``--only conformance``
prints instead which fields and routes each server honors, refuses or ignores.

Exits with 1 if a target is missed: one client at least 0.9 times llama.cpp's own server and 5 times `generate`; 16 streams on the
torch engine at least 3 times one after the other, and above `transformers serve`; an update of the sources within 200 ms.
`transformers serve` is installed into an environment of its own the first time.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
from tokenizers import Tokenizer

from benchmarks.bench_tokenize import texts
from benchmarks.serve_clients import Endpoint, LoadResult, complete, disconnect, load
from benchmarks.serve_conformance import check_server, print_table
from benchmarks.serve_servers import (
    HIDDEN_SIZE,
    LAYERS,
    SLOTS,
    generate,
    gristmill,
    llama_cpp,
    transformers_serve,
    write_model,
)
from benchmarks.train_peers import NotMeasured
from infra.formats.megatron import TRAIN, TokenShards
from infra.suffix_array.source_index import SourceIndex
from tasks.index import task as index_task
from tasks.index.config import IndexConfig
from tests.lm.corpora import context, token_shards
from tests.processes import guarded
from views.source.passages import PassageTracker

OF_LLAMA_CPP, OF_GENERATE, OF_SEQUENTIAL, OF_TRANSFORMERS_SERVE = 0.9, 5.0, 3.0, 1.0
SOURCE_MS = 200.0
ONE, LOAD, SOURCES, CONFORMANCE = PARTS = "one", "load", "sources", "conformance"
PROMPT_CHARACTERS = 200
DISCONNECTS = 10
LOAD_TOKENS = 64
LONG = 400  # tokens of a text whose client goes
INDEXED = 20_000  # documents
DOCUMENT_TOKENS, PIECE_TOKENS = 1024, 4  # of a text that grows


class Targets:
    """What was missed."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def check(self, what: str, value: float, target: float, *, at_most: bool = False) -> None:
        """Print a ratio beside its target."""
        passed = value <= target if at_most else value >= target
        print(f"  {what}: {value:.2f} (target {'at most' if at_most else 'at least'} {target:g})")
        if not passed:
            self.missed.append(what)


def prompts() -> Iterator[str]:
    """Yield prompts that never repeat and have no long beginning in common."""
    number = 0
    for text in texts(8.0):
        for start in range(0, len(text) - PROMPT_CHARACTERS, 4 * PROMPT_CHARACTERS):
            number += 1
            yield f"# {number}\n{text[start : start + PROMPT_CHARACTERS]}"
    raise RuntimeError("no more prompts")


def measure_one_client(
    model: Path, draw: Iterator[str], rounds: int, tokens: int, targets: Targets
) -> None:
    """Compare completions of one client at a time."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    rates: dict[str, list[float]] = {}
    cpu_s: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(gristmill(model, "llama.cpp")),
            stack.enter_context(llama_cpp(model)),
            stack.enter_context(gristmill(model, "torch")),
        ]
        peer = stack.enter_context(generate(model))
        for server in servers:
            complete(server, next(draw), 8)
        peer(tokenizer.encode(next(draw)).ids, 8)
        equal = 0
        for _ in range(rounds):
            prompt = next(draw)
            answers = []
            for server in servers:
                before = server.cpu_s()
                answers.append(complete(server, prompt, tokens))
                cpu_s[server.name] += server.cpu_s() - before
                rates.setdefault(server.name, []).append(tokens / answers[-1].seconds)
            ids, seconds, peer_cpu_s = peer(tokenizer.encode(prompt).ids, tokens)
            rates.setdefault("generate", []).append(len(ids) / seconds)
            cpu_s["generate"] += peer_cpu_s
            text = tokenizer.decode(ids)
            equal += all(text.startswith(answer.text) for answer in answers)
    print(f"one client, {tokens} tokens, tokens per second: median of {rounds} (lowest, highest)")
    for name, values in rates.items():
        print(f"  {name:22} {_spread(values)}, CPU {_per_token(cpu_s[name], rounds * tokens)}")
    print(f"  the texts of all four are equal in {equal} of {rounds}")
    ours, theirs, _, peer_rate = (statistics.median(values) for values in rates.values())
    targets.check("gristmill, llama.cpp / llama.cpp's server", ours / theirs, OF_LLAMA_CPP)
    targets.check("gristmill, llama.cpp / generate", ours / peer_rate, OF_GENERATE)


def measure_load(
    model: Path, draw: Iterator[str], requests: int, tokens: int, targets: Targets
) -> None:
    """Compare 16 clients at once, one server at a time."""
    print(f"{SLOTS} clients at once, {requests} requests of {tokens} tokens")
    print(f"  {'':22} {'tokens/s':>8} {'first token p50':>16} {'p99':>10}")
    with gristmill(model, "torch") as server:
        together = _load(server, draw, requests, tokens).rate
        before = server.cpu_s()
        few = [complete(server, next(draw), tokens) for _ in range(max(4, requests // 8))]
        alone_cpu = _per_token(server.cpu_s() - before, len(few) * tokens)
        _measure_disconnects(server, draw)
    alone = sum(answer.tokens for answer in few) / sum(answer.seconds for answer in few)
    print(f"  {'one after the other':22} {alone:8.0f} {'':29}CPU {alone_cpu}")
    with gristmill(model, "llama.cpp") as server:
        _load(server, draw, requests, tokens)
        _measure_disconnects(server, draw)
    with llama_cpp(model) as server:
        _load(server, draw, requests, tokens)
    targets.check("torch, 16 at once / one after the other", together / alone, OF_SEQUENTIAL)
    try:
        with transformers_serve(model) as server:
            peer = _load(server, draw, SLOTS, tokens).rate
    except (NotMeasured, RuntimeError, httpx.HTTPError) as error:
        print(f"  transformers serve was not measured: {error}")
        targets.missed.append("transformers serve was not measured")
        return
    what = "torch / transformers serve, 16 at once"
    targets.check(what, together / peer, OF_TRANSFORMERS_SERVE)


def _measure_disconnects(server: Endpoint, draw: Iterator[str]) -> None:
    freed = [disconnect(server, next(draw), LONG) for _ in range(DISCONNECTS)]
    slowest = max(freed) * 1e3
    print(f"    a client that goes frees its slot within {slowest:.0f} ms (of {DISCONNECTS})")


def _load(server: Endpoint, draw: Iterator[str], requests: int, tokens: int) -> LoadResult:
    complete(server, next(draw), 8)
    before = server.cpu_s()
    result = load(server, [next(draw) for _ in range(requests)], tokens, SLOTS)
    print(
        f"  {server.name:22} {result.rate:8.0f} {result.percentile(50) * 1e3:13.0f} ms "
        f"{result.percentile(99) * 1e3:7.0f} ms, CPU "
        f"{_per_token(server.cpu_s() - before, requests * tokens)}"
    )
    return result


def compare_conformance(model: Path) -> None:
    """Print what each server makes of fields and routes."""
    columns = {}
    with gristmill(model, "llama.cpp") as server:
        columns["gristmill"] = check_server(server)
    with llama_cpp(model) as server:
        columns["llama.cpp's server"] = check_server(server)
    with transformers_serve(model) as server:
        columns["transformers serve"] = check_server(server)
    print_table(columns)


def measure_sources(folder: Path, targets: Targets) -> None:
    """Look up a text that grows, half of which stands in the index."""
    tokens = token_shards(folder, INDEXED)
    ctx, config = context(folder), IndexConfig()
    spec = index_task.spec(ctx, config=config, tokens=tokens)
    index = SourceIndex(index_task.build(ctx, spec, config=config, tokens=tokens))
    tokenizer = Tokenizer.from_buffer(index.tokenizer)
    shards = TokenShards(tokens, TRAIN)
    known = tokenizer.decode(shards.read(0, DOCUMENT_TOKENS // 2).tolist())
    new = " ".join(str(number) for number in range(DOCUMENT_TOKENS // 4))
    text = known + new
    tracker = PassageTracker(index, tokenizer, ())
    step = max(1, len(text) * PIECE_TOKENS // DOCUMENT_TOKENS)
    times = []
    for end in range(step, len(text), step):
        start = time.perf_counter()
        tracker.passages(text[:end])
        times.append((time.perf_counter() - start) * 1e3)
    times = sorted(times[1:])  # the first one loads the kernels
    print(
        f"sources of a text of {len(tokenizer.encode(text).ids)} tokens that grows by {PIECE_TOKENS}, in an index of "
        f"{len(index) / 1e6:.1f} M tokens: median {statistics.median(times):.2f} ms"
    )
    targets.check("slowest update, ms", times[-1], SOURCE_MS, at_most=True)


def _per_token(cpu_s: float, tokens: int) -> str:
    return f"{cpu_s / tokens * 1e3:.2f} ms per token"


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):7.0f} ({min(values):.0f}, {max(values):.0f})"


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, help="a part of it")
    parser.add_argument("--rounds", type=int, default=5, help="of one client")
    parser.add_argument("--tokens", type=int, default=200, help="of a completion of one client")
    parser.add_argument(
        "--requests", type=int, default=64, help=f"of {SLOTS} clients, of {LOAD_TOKENS} tokens each"
    )
    parser.add_argument("--layers", type=int, default=LAYERS, help="of the model")
    parser.add_argument("--hidden-size", type=int, default=HIDDEN_SIZE, help="of the model, by 64")
    arguments = parser.parse_args()
    targets = Targets()
    draw = prompts()
    with guarded(), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = None
        if arguments.only != SOURCES:
            model = write_model(folder, arguments.layers, arguments.hidden_size)
        if model is not None and arguments.only in (None, ONE):
            measure_one_client(model, draw, arguments.rounds, arguments.tokens, targets)
        if model is not None and arguments.only in (None, LOAD):
            measure_load(model, draw, arguments.requests, LOAD_TOKENS, targets)
        if model is not None and arguments.only == CONFORMANCE:
            compare_conformance(model)
        if arguments.only in (None, SOURCES):
            measure_sources(folder / "store", targets)
    for what in targets.missed:
        print(f"missed: {what}")
    return int(bool(targets.missed))


if __name__ == "__main__":
    sys.exit(main())
