"""What the goldfish loss does to memorization and to bits per byte: `python -m benchmarks.bench_goldfish [--epochs N]`.

A small decoder reads the docstrings of Python's standard library so often that it can repeat them, with the goldfish loss
(Hans et al. 2024) and without, with three seeds each, in one run of the pipeline. Prints of both the share of passages of
training and of held-out documents that a model repeats, word for word and almost, and the bits per byte of held-out
documents: the mean of the seeds, and the least and the greatest. Exits with 1 if the goldfish loss does not at least halve
the share that is repeated word for word.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from infra.dataset.dataset import open_dataset
from infra.runs.run_records import latest_run
from infra.store.storage import Storage
from tests.e2e.command import GRISTMILL, write_recipe
from tests.e2e.corpora import docstrings, write_jsonl

DOCUMENTS, SEEDS, TOKENS_PER_EPOCH = 200, (1, 2, 3), 36_000
MODELS: dict[str, dict[str, Any]] = {"plain": {}, "goldfish": {"goldfish": {}}}
MEMORIZED = {
    f"{group}, {kind} after {prefix} tokens": f"{group}.{name}_{prefix}"
    for group in ("trained", "held_out")
    for kind, name in (("repeated", "memorized"), ("almost repeated", "near_exact"))
    for prefix in (32, 50)
}
BITS = "bits per byte, held out"


def recipe(folder: Path, epochs: int) -> dict[str, Any]:
    """Return the recipe of all models."""
    sizes = {"num_layers": 2, "hidden_size": 128, "num_heads": 2, "context_length": 128}
    return {
        "name": "memory",
        "storage": str(folder / "store"),
        "sources": [{"name": "docs", "kind": "documents", "paths": [str(folder / "docs.jsonl")]}],
        "select": {"quality_filters": []},
        "tokenize": {"vocab_size": 2048, "validation_fraction": 0.15},
        "train": [
            {
                "name": name,
                "seeds": list(SEEDS),
                "model": sizes,
                "data": {"train_tokens": epochs * TOKENS_PER_EPOCH, **settings},
                "run": {"num_processes": 1, "precision": "fp32"},
            }
            for name, settings in MODELS.items()
        ],
        "evaluate": {"memorization": {"documents": DOCUMENTS}},
    }


def main() -> int:
    """Run and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30, help="how often a document is read")
    epochs = parser.parse_args().epochs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jsonl(folder / "docs.jsonl", list(docstrings()[:DOCUMENTS]))
        path = write_recipe(folder / "recipe.yaml", recipe(folder, epochs))
        start = time.monotonic()
        subprocess.run([GRISTMILL, "run", path], check=True, stdout=subprocess.DEVNULL)
        print(f"six models, {epochs} epochs; the run took {time.monotonic() - start:.0f} s")
        values = read_values(Storage(str(folder / "store")))
    print(f"{'':45} {'plain':>22} {'goldfish':>22}")
    for title in (*MEMORIZED, BITS):
        print(f"{title:45}" + "".join(f" {describe(values[name][title]):>22}" for name in MODELS))
    plain, goldfish = (
        statistics.mean(values[name]["trained, repeated after 50 tokens"]) for name in MODELS
    )
    return 0 if goldfish <= plain / 2 else 1


def read_values(storage: Storage) -> dict[str, dict[str, list[float]]]:
    """Return the metrics of each loss by title, a value per seed."""
    values: dict[str, dict[str, list[float]]]
    values = {name: {title: [] for title in (*MEMORIZED, BITS)} for name in MODELS}
    for model in latest_run(storage, "memory").models:
        own = values[model.name.rsplit("-", 1)[0]]
        own[BITS].append(model.metrics["bits_per_byte"])
        assert model.memorization is not None
        stats = open_dataset(storage.subdir(*model.memorization.split("/"))).stats
        rows = {row["name"]: row["value"] for row in stats["metric_rows"]}
        for title, name in MEMORIZED.items():
            own[title].append(rows[f"suite.memorization.{name}"])
    return values


def describe(values: list[float]) -> str:
    """Return mean, least and greatest."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


if __name__ == "__main__":
    sys.exit(main())
