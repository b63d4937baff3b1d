"""nanoGPT's ``get_batch``, copied from its ``train.py`` unchanged, and timed.

    python loader_nanogpt.py REPOSITORY TRAIN_BIN CONTEXT BATCH SECONDS

Prints one line of JSON: ``tokens_per_second``.
"""

import ast
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch


def main(repository: str, ids: str, context: str, batch: str, seconds: str) -> None:
    """Load the function, give it the names it looks for, call it for a while."""
    source = Path(repository, "train.py").read_text()
    function = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == "get_batch"
    )
    names: dict[str, Any] = {
        "np": np,
        "torch": torch,
        "os": os,
        "data_dir": str(Path(ids).parent),
        "block_size": int(context),
        "batch_size": int(batch),
        "device_type": "cpu",
        "device": "cpu",
    }
    exec(compile(ast.Module([function], []), "train.py", "exec"), names)  # the peer's own code
    names["get_batch"]("train")
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < float(seconds):
        count += names["get_batch"]("train")[0].numel()
    print(json.dumps({"tokens_per_second": count / (time.perf_counter() - began)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
