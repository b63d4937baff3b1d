"""tokengrams over a file of uint16 tokens. Runs in the peer's interpreter.

    index_peer.py TOKENS QUERIES

Builds ``TOKENS.idx``, counts each query (rows of a file of int64, as ``numpy.save`` writes it), and prints one
JSON object. Build seconds are CPU time, query seconds wall time.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tokengrams import MemmapIndex

tokens, queries = sys.argv[1], np.load(sys.argv[2]).tolist()
index_file = f"{tokens}.idx"
started = time.process_time()
index = MemmapIndex.build(tokens, index_file)
build_seconds = time.process_time() - started
index.count(queries[0])
started = time.perf_counter()
counts = [index.count(query) for query in queries]
query_seconds = time.perf_counter() - started
print(
    json.dumps(
        {
            "version": version("tokengrams"),
            "build_seconds": build_seconds,
            "query_seconds": query_seconds,
            "counts": counts,
            "bytes": Path(index_file).stat().st_size,
        }
    )
)
