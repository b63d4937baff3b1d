"""The stage `finetune`: train the variants of an entry from their base, and commit each as a model."""

import shutil
from collections.abc import Mapping
from dataclasses import replace

from infra.compute.progress import Progress
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.manifest import Counts, DatasetNotFoundError
from infra.dataset.stage import Context, DatasetSpec, Stage, commit_files
from lm.launch.run_outputs import run_files, speed_stats
from lm.launch.work_folder import folder_lock, work_folder
from lm.models.registry import family_modules
from tasks.finetune.augment import augment_examples
from tasks.finetune.base import open_base
from tasks.finetune.config import Variant, show_base
from tasks.finetune.cross_validation import (
    PREDICTIONS_FILE,
    cross_validate,
    summarize_folds,
    write_predictions,
)
from tasks.finetune.runs import FinetuningRuns
from tasks.finetune.selection import select_examples

STAGE = Stage(
    "finetune",
    modules=("tasks.finetune.task", "lm.train.worker", "lm.train.finetuning"),
    libraries=("torch", "numpy", "tokenizers"),
    deterministic=False,  # the weights' last bits depend on the kind of processor
)
MODEL_FILES = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "reference_logits.safetensors",
)
OVER_BUDGET = "over_budget"


def spec(
    ctx: Context, *, variant: Variant, examples: Dataset, model: Dataset, tokens: Dataset
) -> DatasetSpec:
    """Describe the model that a variant makes of these examples."""
    base = open_base(model, tokens)
    modules = (*STAGE.modules, *family_modules(base.architecture))
    config = {"seed": _seed(ctx, variant), "base": variant.entry.base, **variant.weights_key()}
    stage = replace(STAGE, modules=modules)
    if variant.from_scratch:
        return DatasetSpec(stage, variant.name, config, (examples,), (base.key,))
    return DatasetSpec(stage, variant.name, config, (examples, model))


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    variant: Variant,
    examples: Dataset,
    model: Dataset,
    tokens: Dataset,
) -> Dataset:
    """Fine-tune, or resume it, and commit the model.

    Returns:
        A data set of ``model.safetensors`` (fp32, the training model's names), ``config.json``
        (``model_config`` with its ``head``), ``tokenizer.json`` and, below ``logs/``, the logs and
        the last checkpoint.

    Raises:
        TrainingConfigError: if the run ends for a reason that a restart does not change.
        TrainingFailedError: if it crashes too often.
    """
    folder = work_folder(spec)

    def report(
        completed: int, total: int, message: str, values: Mapping[str, float] | None = None
    ) -> None:
        shown = None if values is None else dict(values)
        ctx.reporter.update(Progress(STAGE.name, spec.source, completed, total, message, shown))

    with folder_lock(folder, lambda: report(0, 0, "waiting for another run of this model")):
        try:
            return open_dataset(ctx.storage.subdir(*spec.folder.split("/")))
        except DatasetNotFoundError:
            pass  # the usual case; otherwise another process trained it while this one waited
        report(0, 0, "encoding examples")
        data = select_examples(variant, examples, ctx.seed)
        augment = getattr(variant.entry, "augment", None)
        train = data.train if augment is None else augment_examples(data.train, augment, ctx.seed)
        base = open_base(model, tokens)
        runs = FinetuningRuns(
            spec,
            variant,
            _seed(ctx, variant),
            base,
            examples,
            train,
            data.validation,
            folder,
            report,
        )
        outcomes = runs.search()
        best = outcomes[0]
        (best.run.job.folder / "tokenizer.json").write_bytes(base.tokenizer)
        files, skip = run_files(best.run, MODEL_FILES)
        own_runs, validated = list(outcomes), {}
        if variant.cross_validates:
            fold_runs, table = cross_validate(runs, best.lr)
            own_runs += fold_runs
            validated = {
                "cross_validation": summarize_folds(table, examples.stats["labels"], ctx.seed)
            }
            files[PREDICTIONS_FILE] = best.run.job.folder / PREDICTIONS_FILE
            write_predictions(table, files[PREDICTIONS_FILE])
        last = best.result["line"]
        stats = {
            "task": variant.entry.task_name,
            "entry": variant.entry.name,
            "base": show_base(variant.entry),
            "from_scratch": variant.from_scratch,
            "budget": variant.budget,
            "architecture": base.architecture,
            "parameters": best.result["parameters"],
            "vocab_size": base.model_config["vocab_size"],
            "context_length": base.model_config["context_length"],
            "max_length": runs.max_length,
            "eos_id": base.eos_id,
            "examples": {
                "train": data.train.num_rows,
                "copies": train.num_rows - data.train.num_rows,
                "validation": data.validation.num_rows,
            },
            "truncated": runs.truncated,
            "over_long": runs.over_long,
            "trained_parameters": best.result["trained_parameters"],
            "steps": last["step"],
            "tokens": last["tokens"],
            "loss": last["loss"],
            "validation_loss": best.validation_loss,
            "lr": best.lr,
            "lr_grid": [[item.lr, item.validation_loss] for item in outcomes],
            "skip": skip,
            **validated,
            **speed_stats(best.result, best.run.job.folder),
        }
        dropped = {OVER_BUDGET: data.over_budget} if data.over_budget else {}
        kept = data.train.num_rows
        counts = Counts(kept + data.over_budget, kept, dropped)
        committed = commit_files(ctx, spec, files, counts=counts, stats=stats)
        for outcome in own_runs:
            outcome.run.checkpoints.remove_tree()
        shutil.rmtree(folder, ignore_errors=True)
    return committed


def _seed(ctx: Context, variant: Variant) -> int:
    return ctx.seed if variant.seed is None else variant.seed
