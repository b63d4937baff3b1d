"""text-dedup's MinHash, from its own configuration file. Runs in text-dedup's interpreter.

    python dedup_text_dedup.py FOLDER --workers N [--verify]

Reads the Parquet files of a folder (columns ``id`` and ``text``); prints one JSON object:
``{"version", "seconds": {"all": wall seconds}, "cpu": CPU seconds, "removed": [id, ...]}``. Importing
it is not timed.
"""

import argparse
import contextlib
import importlib.metadata
import json
import logging
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """
[input]
input_type = "local_files"
file_type = "parquet"
[input.read_arguments]
path = "parquet"
data_files = {files}
split = "train"
cache_dir = "{work}/cache"
[algorithm]
algorithm_name = "minhash"
text_column = "text"
seed = 42
num_proc = {workers}
num_perm = 112
bands = 14
rows = 8
threshold = 0.8
hash_bits = 64
ngram_size = 5
min_length = 5
check_false_positive = {verify}
[output]
output_dir = "{work}/output"
clean_cache = false
save_clusters = false
[debug]
enable_profiling = false
"""


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its finished child processes."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Run it once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--verify", action="store_true", help="check_false_positive")
    options = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TQDM_DISABLE="1")
    files = [str(file) for file in sorted(options.folder.glob("*.parquet"))]
    with tempfile.TemporaryDirectory() as work, contextlib.redirect_stdout(sys.stderr):
        settings = Path(work, "config.toml")
        settings.write_text(
            CONFIG.format(
                files=json.dumps(files),
                work=work,
                workers=options.workers,
                verify=str(options.verify).lower(),
            )
        )
        import datasets
        from text_dedup.config.base import load_config_from_toml
        from text_dedup.minhash import main as run

        logging.disable(logging.INFO)
        config = load_config_from_toml(settings)
        start, before = time.perf_counter(), cpu_seconds()
        run(config)
        seconds, spent = time.perf_counter() - start, cpu_seconds() - before
        kept = set(datasets.load_from_disk(f"{work}/output")["id"])
        every = datasets.load_dataset(
            "parquet", data_files=files, split="train", cache_dir=f"{work}/cache"
        )["id"]
        removed = [name for name in every if name not in kept]
    version = importlib.metadata.version("text-dedup")
    answer = {"version": version, "seconds": {"all": seconds}, "cpu": spent, "removed": removed}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
