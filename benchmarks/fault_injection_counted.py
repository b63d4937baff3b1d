"""The stage `train` of a family that is counted, or trains by itself, on two workers: one run of ``fault_injection``.

    python -m benchmarks.fault_injection_counted STORE FAMILY

Prints ``step N`` at each report of progress, then a JSON object: the weights' digest, and for each attempt how
many tasks it found finished. Pieces of work are small, so that a kill is in the middle of them.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from infra.compute.cluster import DaskCluster  # noqa: E402
from infra.compute.cluster_config import ClusterConfig  # noqa: E402
from infra.compute.phases import RESULTS_FOLDER  # noqa: E402
from infra.compute.progress import Progress  # noqa: E402
from infra.dataset.stage import Context  # noqa: E402
from infra.store.storage import Storage  # noqa: E402

# Constants that decide how many pieces there are; the driver alone reads them.
PIECES = {
    "ngram": ("lm.models.ngram.train", {"RANGE_WINDOWS": 1 << 14}),
    "word2vec": ("lm.models.word2vec.train", {"ROUND_WORDS": 30_000}),
    "glove": ("lm.models.glove.train", {"GROUP_CELLS": 8_000}),
}
ENTRIES: dict[str, dict[str, Any]] = {
    "ngram": {},
    "word2vec": {"model": {"vector_size": 20}, "optim": {"replicas": 2, "epochs": 4}},
    "glove": {"model": {"vector_size": 20}, "optim": {"epochs": 4}},
}


class Printer:
    """Prints a line per report, as ``fault_injection`` waits for."""

    def __init__(self) -> None:
        """Start at 0."""
        self.count = 0

    def update(self, progress: Progress) -> None:  # noqa: ARG002
        """Print the number of the report."""
        self.count += 1
        sys.stdout.write(f"step {self.count}\n")
        sys.stdout.flush()

    def link(self, name: str, url: str) -> None:
        """Ignore it."""


def main(store: Path, family: str) -> None:
    """Make the model, and print what became of it."""
    from importlib import import_module

    from lm.models.registry import parse_entry
    from tests.lm import corpora, planted

    module, sizes = PIECES[family]
    train = import_module(module)
    for name, value in sizes.items():
        setattr(train, name, value)
    tokens = corpora.token_shards(store, documents=planted.documents(8000))
    attempts = store / "attempts.txt"
    finished = sum(path.parts[-3] == RESULTS_FOLDER for path in store.glob("work/**/*.json"))
    with attempts.open("a") as file:
        file.write(f"{finished}\n")
    config = parse_entry({"name": family, "family": family, **ENTRIES[family]})
    with DaskCluster(ClusterConfig.model_validate({"workers": 2})) as cluster:
        ctx = Context(Storage(str(store)), 1337, cluster, Printer())
        model = train.build(ctx, train.spec(ctx, config, tokens), config, tokens)
    digest = hashlib.sha256(model.read("model.safetensors")).hexdigest()
    resumed = [int(line) for line in attempts.read_text().split()]
    print(json.dumps({"sha": digest, "resumed": resumed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
