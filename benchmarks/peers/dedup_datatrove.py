"""datatrove's four MinHash stages, as FineWeb configures them. Runs in datatrove's interpreter.

    python dedup_datatrove.py FOLDER --workers N

Reads the Parquet files of a folder (columns ``id`` and ``text``); prints one JSON object:
``{"version", "seconds": {stage: wall seconds}, "cpu": CPU seconds, "removed": [id, ...]}``.
"""

import argparse
import gzip
import importlib.metadata
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
)
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.typeshelper import Languages
from loguru import logger


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its finished child processes."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Run the stages one after the other and time each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    logger.remove()
    config = MinhashConfig(
        n_grams=5,
        num_buckets=14,
        hashes_per_bucket=8,
        hash_config=HashConfig(precision=64, hash_fc="sha1"),
    )
    many = options.workers
    with tempfile.TemporaryDirectory() as work:

        def reader() -> Any:
            return ParquetReader(options.folder, text_key="text", id_key="id")

        stages: dict[str, tuple[list[Any], int]] = {
            "signatures": (
                [
                    reader(),
                    MinhashDedupSignature(f"{work}/sig", config=config, language=Languages.english),
                ],
                many,
            ),
            "buckets": ([MinhashDedupBuckets(f"{work}/sig", f"{work}/dup", config=config)], 14),
            "cluster": ([MinhashDedupCluster(f"{work}/dup", f"{work}/gone", config=config)], 1),
            "filter": (
                [
                    reader(),
                    MinhashDedupFilter(f"{work}/gone", exclusion_writer=JsonlWriter(f"{work}/out")),
                    JsonlWriter(f"{work}/kept"),
                ],
                many,
            ),
        }
        seconds = {}
        before = cpu_seconds()
        for name, (pipeline, tasks) in stages.items():
            start = time.perf_counter()
            LocalPipelineExecutor(
                pipeline,
                tasks=tasks,
                workers=many,
                logging_dir=f"{work}/log/{name}",
                start_method="spawn",  # children of this process, so that their CPU time is known
            ).run()
            seconds[name] = time.perf_counter() - start
        spent = cpu_seconds() - before
        removed = []
        for file in sorted(Path(work, "out").rglob("*.jsonl.gz")):
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                removed += [json.loads(line)["id"] for line in lines]
    version = importlib.metadata.version("datatrove")
    answer = {"version": version, "seconds": seconds, "cpu": spent, "removed": removed}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
