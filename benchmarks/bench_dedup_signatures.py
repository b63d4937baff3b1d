"""MinHash signatures: megabytes of text per second of one core, beside datasketch and rensa.

Then the hashes of lines and runs of words, which ``select.line_dedup`` and ``select.substring_dedup`` use.

    python benchmarks/bench_dedup_signatures.py [--megabytes N] [FILE ...]

Text: the given files, one document each; without any, the quickstart's pages and books, repeated up
to ``--megabytes``. Every program gets the same texts, word 5-grams and 112 hash values, one core, and
is timed in CPU seconds, the better of two runs. datasketch and rensa need shingles computed in
Python: their time is given with and without that. The slow ones run on the first part of the text.
rensa is not a dependency: ``pip install --target DIR rensa``, then ``PYTHONPATH=DIR``.
"""

import argparse
import importlib
import itertools
import os
import re
import time
import tracemalloc
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import datasketch
import pyarrow as pa
import xxhash
from resiliparse.extract.html2text import extract_plain_text

from examples.quickstart.build import fetch_quickstart
from infra.minhash.bands import band_keys
from infra.minhash.shingles import shingles
from infra.minhash.sketch import ShingleReader
from tasks.select.repeated_text.config import LineDedupConfig, SubstringDedupConfig
from tasks.select.repeated_text.line_hashes import hash_lines
from tasks.select.repeated_text.word_hashes import compute_fingerprints

NGRAM, BANDS, ROWS, SEED = 5, 14, 8, 1
PERMUTATIONS = BANDS * ROWS
SLOW_BYTES = 4_000_000  # of text, for contenders below 10 MB/s


def quickstart() -> list[str]:
    """The text of the quickstart's pages and plain-text books."""
    folder, _ = fetch_quickstart()
    pages = sorted((folder / "site").rglob("*.html"))
    texts = [str(extract_plain_text(page.read_text(errors="replace"))) for page in pages]
    return texts + [book.read_text() for book in sorted((folder / "books").glob("*.txt"))]


def take_bytes(texts: Iterable[str], size: int) -> list[str]:
    """The first texts that together reach ``size`` bytes."""
    out, total = [], 0
    for text in texts:
        if total >= size:
            break
        out.append(text)
        total += len(text.encode())
    return out


def seconds(function: Callable[[], object]) -> float:
    """CPU seconds of the better of two runs."""
    best = float("inf")
    for _ in range(2):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def megabytes(texts: Iterable[str]) -> float:
    """Size in UTF-8."""
    return sum(len(text.encode()) for text in texts) / 1e6


def python_shingles(text: str) -> list[str]:
    """Word 5-grams as users of MinHash libraries make them."""
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)]


def hash32(data: bytes) -> int:
    """The hash of our shingles, as datasketch takes it."""
    return int(xxhash.xxh64_intdigest(data) & 0xFFFFFFFF)


def datasketch_one(shingle_list: list[bytes], hashfunc: Callable[[bytes], int] | None) -> Any:
    """One text's MinHash."""
    minhash = datasketch.MinHash(PERMUTATIONS, seed=SEED, scheme="affine32", hashfunc=hashfunc)
    minhash.update_batch(shingle_list)
    return minhash.hashvalues


def datasketch_all(
    shingle_list: list[list[bytes]], hashfunc: Callable[[bytes], int] | None
) -> None:
    """Every text's MinHash."""
    for one in shingle_list:
        datasketch_one(one, hashfunc)


def signatures_match(texts: list[str]) -> bool:
    """Whether signatures equal datasketch's, value by value."""
    found = ShingleReader(NGRAM).sketch(pa.array(texts, pa.large_string()), SEED, PERMUTATIONS)
    return all(
        mine.tolist() == datasketch_one(shingles(text, NGRAM), hash32).tolist()
        for text, mine in zip(texts, found.signatures, strict=True)
    )


def peak_megabytes(size: int) -> float:
    """Megabytes allocated at most while a single text of ``size`` bytes is sketched."""
    unit = "All work and no play makes Jack a dull boy. "
    column = pa.array([unit * (size // len(unit))], pa.large_string())
    tracemalloc.start()
    ShingleReader(NGRAM).sketch(column, SEED, PERMUTATIONS)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest / 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--megabytes", type=int, default=50)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    base = [path.read_text(errors="replace") for path in options.files] or quickstart()
    texts = take_bytes(itertools.cycle(base), options.megabytes * 1_000_000)
    few = take_bytes(base, SLOW_BYTES)
    size, small = megabytes(texts), megabytes(few)
    print(f"{len(texts):,} texts, {size:.1f} MB; the slow ones: {len(few):,} texts, {small:.1f} MB")
    print(f"signatures equal datasketch's: {signatures_match(few[:50])}")

    column = pa.array(texts, pa.large_string())
    reader = ShingleReader(NGRAM)
    reader.sketch(column.slice(0, 1), SEED, PERMUTATIONS)  # compiled outside the timing
    ours = size / seconds(
        lambda: band_keys(reader.sketch(column, SEED, PERMUTATIONS).signatures, BANDS)
    )
    print(f"{'gristmill, text to digest, signature and keys':58}{ours:8.1f} MB/s")
    levels: dict[str, Callable[[pa.Array[Any]], pa.Array[Any]]] = {
        "lines": partial(hash_lines, config=LineDedupConfig()),
        "substrings": partial(compute_fingerprints, run_words=SubstringDedupConfig().min_run_words),
    }
    for name, hashed in levels.items():
        fraction = hashed(column).nbytes / 1e6 / size
        speed = size / seconds(partial(hashed, column))
        what = f"gristmill, text to hashes for select.{name}"
        print(f"{what:58}{speed:8.1f} MB/s, {fraction:.1%} of the text")

    def line(name: str, hashing: float, shingling: float) -> None:
        alone, whole = small / hashing, small / (hashing + shingling)
        print(
            f"{name:58}{alone:8.1f} MB/s hashing only, {whole:6.1f} with shingling"
            f" -> gristmill {ours / whole:.0f}x"
        )

    made = [[shingle.encode() for shingle in python_shingles(text)] for text in few]
    shingling = seconds(lambda: [python_shingles(text) for text in few])
    for name, function in (("sha1 (its default)", None), ("xxh64", hash32)):
        spent = seconds(partial(datasketch_all, made, function))
        line(f"datasketch {datasketch.__version__} update_batch, {name}", spent, shingling)
    try:
        rensa = importlib.import_module("rensa")
    except ModuleNotFoundError:
        print("rensa: not installed, left out")
    else:
        strings = [python_shingles(text) for text in few]

        def full() -> None:
            for one in strings:
                sketch = rensa.RMinHash(num_perm=PERMUTATIONS, seed=SEED)
                sketch.update(one)
                sketch.digest()

        line("rensa RMinHash, all shingles", seconds(full), shingling)
    print(
        f"memory above the text: {peak_megabytes(1 << 20):.1f} MB for a text of 1 MB, "
        f"{peak_megabytes(1 << 26):.1f} MB for one of 64 MB"
    )


if __name__ == "__main__":
    main()
