"""rensa's MinHash over all shingles, its LSH, and union-find. Runs in rensa's interpreter.

    python dedup_rensa.py FOLDER

Reads the Parquet files of a folder (columns ``id`` and ``text``); prints one JSON object:
``{"version", "seconds": {stage: wall seconds}, "cpu": CPU seconds, "removed": [id, ...]}``. Reading
the files is timed apart. This is the full algorithm (``RMinHash.update``), not the one of rensa's benchmark, which
samples a few shingles of each document.
"""

import argparse
import importlib.metadata
import json
import re
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
from rensa import RMinHash, RMinHashLSH

NGRAM, PERMUTATIONS, BANDS, THRESHOLD, SEED = 5, 112, 14, 0.8, 42
WORD = re.compile(r"\w+")


def shingles(text: str) -> list[str]:
    """Word 5-grams; a shorter text is one shingle."""
    words = WORD.findall(text.lower())
    return [" ".join(words[i : i + NGRAM]) for i in range(max(1, len(words) - NGRAM + 1))]


def main() -> None:
    """Sketch, look up, unite; the first document of each component stays."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    start, before = time.perf_counter(), time.process_time()
    parent: list[int] = []
    ids: list[str] = []
    index = RMinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, num_bands=BANDS)

    def root(document: int) -> int:
        while parent[document] != document:
            parent[document] = parent[parent[document]]
            document = parent[document]
        return document

    reading = 0.0
    for file in sorted(options.folder.glob("*.parquet")):
        began = time.perf_counter()
        table = pq.read_table(file, columns=["id", "text"])
        names, texts = table["id"].to_pylist(), table["text"].to_pylist()
        reading += time.perf_counter() - began
        for name, text in zip(names, texts, strict=True):
            sketch = RMinHash(num_perm=PERMUTATIONS, seed=SEED)
            sketch.update(shingles(text))
            number = len(ids)
            ids.append(name)
            parent.append(number)
            for other in index.query(sketch):
                a, b = root(other), root(number)
                parent[max(a, b)] = min(a, b)
            index.insert(number, sketch)
    removed = [name for number, name in enumerate(ids) if root(number) != number]
    everything, spent = time.perf_counter() - start, time.process_time() - before
    seconds = {"all but reading": everything - reading, "reading": reading}
    version = importlib.metadata.version("rensa")
    answer = {"version": version, "seconds": seconds, "cpu": spent, "removed": removed}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
