"""What the baselines of fine-tuning reach on the real data: `python -m benchmarks.bench_finetune_baselines [NAME ...]`.

Files, splits and near-duplicates are treated as `prepare` does, with the entries of recipes/finetune.yaml. The figures are what a
fine-tuned model has to beat; no model is trained here. The data is fetched if `python -m examples.finetune` has not been run.
"""

import sys
import time
from typing import cast

import pyarrow as pa

from examples.finetune.datasets import prepare_datasets
from flows.recipe_loader import load_recipe
from infra.schemas.examples import Task
from tasks.finetune.baselines.fit import fit_baselines
from tasks.finetune.entry import FinetuneEntry
from tasks.finetune.files import load_files
from tasks.finetune.metrics.compute import compute_metrics
from tasks.finetune.prepare import prepare_examples

RECIPE = "recipes/finetune.yaml"
SHOWN = {
    "classification": ("accuracy", "f1_macro"),
    "tagging": ("f1", "accuracy"),
    "qa": ("exact_match", "f1"),
    "seq2seq": ("bleu", "chrf", "rougeL"),
    "embedding": ("recall@1", "recall@10", "mrr"),
}


def measure(entry: FinetuneEntry, seed: int) -> None:
    """Print a row per baseline of an entry: metrics with 95 % intervals, and seconds."""
    task = cast("Task", entry.task_name)
    parts = [part.rows for part in prepare_examples(entry, load_files(entry), seed)]
    examples = pa.concat_tables(parts).combine_chunks()
    splits = {
        name: examples.filter(pa.compute.equal(examples["split"], name)).combine_chunks()
        for name in ("train", "validation", "test")
    }
    sizes = ", ".join(f"{split.num_rows} {name}" for name, split in splits.items())
    print(f"{entry.name} ({sizes})")
    labels: list[str] = []
    if task == "classification":
        labels = sorted({name for names in examples["labels"].to_pylist() for name in names})
    started = time.monotonic()
    train, validation, test = splits["train"], splits["validation"], splits["test"]
    for name, predictions in fit_baselines(task, train, validation, test, labels, seed):
        seconds = time.monotonic() - started
        found = compute_metrics(task, test, predictions, labels, seed)
        shown = "  ".join(
            f"{key} {found[key]['value']:.3f} [{found[key]['low']:.3f}, {found[key]['high']:.3f}]"
            for key in SHOWN[task]
        )
        print(f"  {name:26} {shown}  {seconds:.0f} s", flush=True)
        started = time.monotonic()


def main() -> None:
    """Measure the entries that are named, or all."""
    prepare_datasets()
    recipe = load_recipe(RECIPE)
    chosen = sys.argv[1:]
    for entry in recipe.finetune:
        if not chosen or entry.name in chosen:
            measure(entry, recipe.seed)


if __name__ == "__main__":
    main()
