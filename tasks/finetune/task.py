"""The stage `finetune`: train the variants of an entry from their base, and commit each as a model."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.compute.progress import Progress
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.manifest import Counts, DatasetNotFoundError
from infra.dataset.model_folder import model_folder
from infra.dataset.stage import Context, DatasetSpec, Stage, commit_files
from infra.errors import UserError
from infra.schemas.examples import AUGMENTED_FILE, EXAMPLES_FILE, OUT_OF_FOLD_FILE
from infra.store.environment import mask
from lm.launch.run_outputs import run_files, speed_stats
from lm.launch.work_folder import folder_lock, work_folder
from lm.models.registry import family_modules, hf_modules
from tasks.finetune.augment import augment_examples
from tasks.finetune.base import Base, open_base
from tasks.finetune.config import ClassificationEntry
from tasks.finetune.cross_validation import cross_validate, write_predictions
from tasks.finetune.entry import FinetuneEntry, Variant
from tasks.finetune.runs import FinetuningRuns, Outcome
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
TRANSLATION = "tasks.finetune.back_translation"


def spec(
    ctx: Context,
    *,
    variant: Variant,
    examples: Dataset,
    model: Dataset | None,
    tokens: Dataset | None,
    translator: tuple[FinetuneEntry, Dataset] | None = None,
) -> DatasetSpec:
    """Describe the model that a variant makes of these examples.

    Args:
        ctx: the run.
        variant: the model.
        examples: of its entry.
        model: its base; ``None`` if that is a released folder.
        tokens: what the base was trained on; ``None`` for a released folder.
        translator: entry and release of the model that writes sources for targets, if there is one.

    Raises:
        UserError: if a folder is no language model that Gristmill released, or cannot do the task.
    """
    base = open_base(variant.entry, model, tokens)
    modules = (*STAGE.modules, *family_modules(base.architecture))
    config = {"seed": _seed(ctx, variant), "base": _base_name(variant), **variant.weights_key()}
    stage, own = replace(STAGE, modules=modules), [examples]
    if translator is not None:
        stage = replace(
            stage, modules=(*modules, TRANSLATION), libraries=(*STAGE.libraries, "transformers")
        )
        modules, own = stage.modules, [examples, translator[1]]
    if variant.from_scratch:
        return DatasetSpec(stage, variant.name, config, tuple(own), (base.key,))
    if model is None:  # its weights are renamed by the family's export, backwards
        stage = replace(stage, modules=(*modules, *hf_modules(base.architecture)))
        return DatasetSpec(stage, variant.name, config, tuple(own), (base.weights_key,))
    return DatasetSpec(stage, variant.name, config, (*own, model))


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    variant: Variant,
    examples: Dataset,
    model: Dataset | None,
    tokens: Dataset | None,
    translator: tuple[FinetuneEntry, Dataset] | None = None,
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
        train, translated = data.train, None
        if isinstance(variant.entry, ClassificationEntry) and variant.entry.augment is not None:
            train = augment_examples(train, variant.entry.augment, ctx.seed)
        if translator is not None:
            report(0, 0, "translating targets back")
            # By name, so that the code version of other models does not cover it.
            module: Any = import_module(TRANSLATION)
            translated = module.translate_back(
                model_folder(translator[1]), translator[0], variant.entry, data, ctx.seed
            )
            train = pa.concat_tables([train, translated.pairs]).combine_chunks()
        base = open_base(variant.entry, model, tokens)
        _check_unchanged(spec, base)
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
        files[EXAMPLES_FILE] = best.run.job.folder / EXAMPLES_FILE
        used = [table.select(["id", "split"]) for table in (data.train, data.validation)]
        pq.write_table(pa.concat_tables(used), files[EXAMPLES_FILE], compression="zstd")
        if translated is not None:
            files[AUGMENTED_FILE] = best.run.job.folder / AUGMENTED_FILE
            pq.write_table(translated.pairs, files[AUGMENTED_FILE], compression="zstd")
        own_runs = list(outcomes)
        if variant.cross_validates:
            fold_runs, table = cross_validate(runs, best.lr)
            own_runs += fold_runs
            files[OUT_OF_FOLD_FILE] = best.run.job.folder / OUT_OF_FOLD_FILE
            write_predictions(table, files[OUT_OF_FOLD_FILE])
        last = best.result["line"]
        stats = {
            "task": variant.entry.task_name,
            "entry": variant.entry.name,
            "base": str(mask(variant.entry.base)),
            "from_scratch": variant.from_scratch,
            "from_folder": base.folder is not None and not variant.from_scratch,
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
            "back_translation": None if translated is None else translated.counts,
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
            **_add_up(own_runs),
        }
        dropped = {OVER_BUDGET: data.over_budget} if data.over_budget else {}
        kept = data.train.num_rows
        counts = Counts(kept + data.over_budget, kept, dropped)
        committed = commit_files(ctx, spec, files, counts=counts, stats=stats)
        for outcome in own_runs:
            outcome.run.checkpoints.remove_tree()
        shutil.rmtree(folder, ignore_errors=True)
    return committed


def _base_name(variant: Variant) -> str | None:
    """Return the base's name in the recipe; a folder counts by its content, wherever it lies."""
    return None if variant.entry.base_folder else variant.entry.base


def _check_unchanged(spec: DatasetSpec, base: Base) -> None:
    """Raise ``UserError`` if a released folder is another one than when the model was described."""
    if base.folder is not None and not {base.key, base.weights_key} & {*spec.external_inputs}:
        raise UserError(f"{mask(base.folder)} has changed since the run began; start it again")


def _add_up(runs: Sequence[Outcome]) -> dict[str, Any]:
    """Return the speed of the first run, and what all of them took: the grid and the folds count, too."""
    speeds = [speed_stats(outcome.result, outcome.run.job.folder) for outcome in runs]
    totals: dict[str, Any] = {
        name: sum(speed[name] for speed in speeds if name in speed)
        for name in ("training_flops", "cpu_seconds", "cpu_joules", "gpu_joules")
        if name in speeds[0]
    }
    return {**speeds[0], **totals}


def _seed(ctx: Context, variant: Variant) -> int:
    return ctx.seed if variant.seed is None else variant.seed
