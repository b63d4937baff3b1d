"""The source index at three sizes beside tokengrams: build speed, size, and time of a query.

    python -m benchmarks.bench_index [--megabytes N]

The text is that of the installed packages' Python sources, which every machine has and which repeats itself more than
prose does. Both build from the same tokens on one core and count the same 1,000 runs of 8 tokens, half of which
are in the text; the counts must be equal. Ours then looks up whole texts of 100 tokens as `gristmill source` does: every
longest run, and where it stands. The last line extrapolates to 1 G tokens: an index has a group for each 16.8 M tokens, and a
query looks into every group. Exits with 1 if ours builds slower than the peer, or that time is above 200 ms.

The peer is installed into an environment of its own the first time.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from benchmarks.bench_tokenize import EOS, VOCABULARY, texts
from benchmarks.train_peers import peer_interpreter, run_json
from infra.suffix_array.build import build_suffix_array
from infra.suffix_array.search import Ids, SuffixArray
from tasks.index.config import IndexConfig
from tasks.tokenize.bpe import train_bpe_from_texts

PEER = ("tokengrams==0.3.3",)
SCRIPT = Path(__file__).parent / "peers" / "index_peer.py"
RUN, TEXT = 8, 100  # tokens of a query
QUERIES, TEXTS = 1_000, 200
MIN_TOKENS, PLACES = 8, 5
TARGET_TOKENS, MAX_MS = 10**9, 200.0


def encode(megabytes: float) -> np.ndarray:
    """Return the tokens of the text, uint16[n], each document followed by an end of text."""
    documents = texts(megabytes)
    tokenizer = Tokenizer.from_buffer(
        train_bpe_from_texts(documents[::20], vocab_size=VOCABULARY, special_tokens=[EOS])
    )
    end = [tokenizer.token_to_id(EOS)]
    encodings = tokenizer.encode_batch(documents)
    return np.concatenate([np.array(item.ids + end, np.uint16) for item in encodings])


def draw_queries(tokens: np.ndarray, count: int, length: int) -> Ids:
    """Return runs of the text and, as every second one, the same with another token in the middle."""
    draw = np.random.default_rng(1)
    starts = draw.integers(0, len(tokens) - length, count)
    queries: Ids = tokens[starts[:, None] + np.arange(length)].astype(np.int64)
    queries[1::2, length // 2] = draw.integers(1, VOCABULARY, len(queries[1::2]))
    return queries


def look_up(array: SuffixArray, query: Ids) -> int:
    """Find all longest runs of a text and where they stand; return their number."""
    spans = end = 0
    for start, length in enumerate(array.longest_matches(query).tolist()):
        if start + length > end and length >= MIN_TOKENS:
            array.find(query[start : start + length], PLACES)
            spans += 1
        end = max(end, start + length)
    return spans


def measure(tokens: np.ndarray, folder: Path, interpreter: Path) -> tuple[float, float]:
    """Print a row of the table; return ratio of build speeds and milliseconds of a text."""
    build_suffix_array(tokens[:1000])  # compiles
    started = time.process_time()
    array = SuffixArray(tokens, build_suffix_array(tokens))
    seconds = time.process_time() - started
    queries = draw_queries(tokens, QUERIES, RUN)
    array.find(queries[0])
    started = time.perf_counter()
    counts = [array.find(query, PLACES)[0] for query in queries]
    query_ms = (time.perf_counter() - started) / QUERIES * 1e3
    own_texts = draw_queries(tokens, TEXTS, TEXT)
    look_up(array, own_texts[0])
    times = []
    for text in own_texts:
        started = time.perf_counter()
        look_up(array, text)
        times.append((time.perf_counter() - started) * 1e3)
    text_ms = statistics.median(times)
    tokens.tofile(folder / "tokens.bin")
    np.save(folder / "queries.npy", queries)
    peer = run_json(
        [str(interpreter), str(SCRIPT), str(folder / "tokens.bin"), str(folder / "queries.npy")],
        threads=1,
    )
    if peer["counts"] != counts:
        sys.exit("the counts of the two differ")
    size = (tokens.nbytes + array.suffixes.nbytes) / len(tokens)
    ratio = peer["build_seconds"] / seconds
    print(
        f"{len(tokens) / 1e6:>10.1f} {len(tokens) / seconds / 1e6:>12.2f} {ratio:>10.1f}x {size:>12.1f} "
        f"{(peer['bytes'] + tokens.nbytes) / len(tokens):>10.1f} {query_ms * 1e3:>12.1f} "
        f"{peer['query_seconds'] / QUERIES * 1e6:>10.1f} {text_ms:>12.3f} {max(times):>10.3f}"
    )
    return ratio, text_ms


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=60, help="of text, at the largest size")
    arguments = parser.parse_args()
    interpreter = peer_interpreter(PEER)
    tokens = encode(arguments.megabytes)
    print(f"{PEER[0]}; CPU seconds of one core to build; a run is {RUN} tokens, a text {TEXT}")
    print(
        f"{'M tokens':>10} {'M tokens/s':>12} {'of peer':>11} {'bytes/token':>12} {'peer':>10} "
        f"{'µs per run':>12} {'peer':>10} {'ms per text':>12} {'slowest':>10}"
    )
    with tempfile.TemporaryDirectory() as folder:
        sizes = [len(tokens) // divisor for divisor in (16, 4, 1)]
        rows = [measure(tokens[:size], Path(folder), interpreter) for size in sizes]
    groups = TARGET_TOKENS / IndexConfig().group_tokens
    total = groups * rows[-1][1]
    print(f"a text in 1 G tokens ({groups:.0f} groups, all in memory): {total:.0f} ms")
    return int(min(ratio for ratio, _ in rows) < 1 or total > MAX_MS)


if __name__ == "__main__":
    sys.exit(main())
