"""The stage `score`: a fine-tuned model, as it was released, and its baselines on the test examples."""

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from infra.compute.progress import Progress
from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.model_folder import model_folder
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.schemas.examples import MODEL, OUT_OF_FOLD_FILE, Task
from infra.schemas.metrics import ITEMS_FILE, METRIC_ROWS, make_items
from lm.interpret import MAX_PARAMETERS
from tasks.finetune.baselines.fit import fit_baselines
from tasks.finetune.entry import FinetuneEntry, Variant
from tasks.finetune.metrics.compute import metric_stats
from tasks.finetune.metrics.items import item_rows, metric_rows
from tasks.finetune.score import (
    SCHEMA,
    from_rows,
    item_ids,
    summarize,
    summarize_folds,
    to_rows,
)
from tasks.finetune.selection import Selection, select_examples

STAGE = Stage(
    "score",
    modules=("tasks.finetune.score_task",),
    libraries=(
        *("numpy", "pyarrow", "scipy", "torch", "transformers", "tokenizers"),
        *("fasttext-community", "sacrebleu", "scikit-learn"),
    ),
)

EXPLANATIONS_FILE = "explanations.json"
EXPLAINED = "explained"


def spec(
    ctx: Context,
    *,
    variant: Variant,
    model: Dataset,
    examples: Dataset,
    rivals: Sequence[Dataset],
    validated: Dataset | None = None,
) -> DatasetSpec:
    """Describe the scores of a released model.

    The configuration says nothing of the model, so that baselines, whose predictions are a unit of
    work of their own, are made once for all models of the same examples. Whether a model is explained
    is an external input: those name the data set, but not its units.

    Args:
        ctx: the run.
        variant: the model.
        model: its release.
        examples: of its entry.
        rivals: scores of other models of the entry, which it is compared with.
        validated: the data set of `finetune`, if it has out-of-fold predictions.
    """
    entry = variant.entry
    config = {
        "seed": ctx.seed,
        "task": entry.task_name,
        "budget": variant.budget,
        **entry.score_key(),
    }
    inputs = (model, examples, *rivals, *([validated] if validated else []))
    explained = (EXPLAINED,) if _is_explained(variant) else ()
    return DatasetSpec(STAGE, variant.name, config, inputs, external_inputs=explained)


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    variant: Variant,
    model: Dataset,
    examples: Dataset,
    rivals: Sequence[Dataset],
    validated: Dataset | None = None,
) -> Dataset:
    """Predict the test examples with the model and with the baselines.

    Returns:
        A data set with a row per example and system (``tasks.finetune.score.SCHEMA``), and the
        statistics of ``tasks.finetune.score.summarize``.
    """
    entry, selection = variant.entry, select_examples(variant, examples, ctx.seed)
    labels = list(examples.stats.get("labels", ()))
    parameters = int(model.stats["parameters"])
    is_explained = _is_explained(variant) and parameters <= MAX_PARAMETERS
    ctx.reporter.update(Progress(STAGE.name, spec.source, 0, 2, "predicting"))
    units = [
        WorkUnit(
            json_sha256(
                [MODEL, model.content, examples.content, entry.model.max_length, is_explained]
            ),
            (entry, selection, labels, ctx.seed, model, is_explained),
        ),
        WorkUnit(
            json_sha256(["baselines", examples.content]),
            (entry, selection, labels, ctx.seed, None, False),
        ),
    ]

    def stats(parts: Sequence[PartRef]) -> dict[str, Any]:
        tables = [SCHEMA.empty_table(), *(part.table() for part in parts)]
        systems = from_rows(pa.concat_tables(tables))
        for rival in rivals:
            systems[str(rival.source)] = from_rows(rival.table())[MODEL]
        summary = summarize(variant, selection.test, systems, labels, ctx.seed)
        summary[METRIC_ROWS] = metric_rows(summary["systems"][MODEL])
        if validated is not None:
            table = pq.read_table(io.BytesIO(validated.read(OUT_OF_FOLD_FILE)))
            summary["cross_validation"] = summarize_folds(table, labels, ctx.seed)
        for part in parts:
            if EXPLANATIONS_FILE in part.record.files:
                summary |= json.loads(part.storage.read(part.file(EXPLANATIONS_FILE)))
        if _is_explained(variant) and not is_explained:
            summary["too_large_to_explain"] = parameters
        return summary

    return build_dataset(ctx, spec, units, score_systems, stats=stats)


def _is_explained(variant: Variant) -> bool:
    """Return whether a report shows what the model looks at: the first with the most examples, from the base."""
    from_base = (item for item in variant.entry.expand() if not item.from_scratch)
    return variant.name == max(from_base, key=lambda item: item.budget).name


def score_systems(
    entry: FinetuneEntry,
    selection: Selection,
    labels: Sequence[str],
    seed: int,
    model: Dataset | None,
    is_explained: bool,  # noqa: FBT001 - a payload has no keywords
) -> Iterator[PartResult]:
    """Predict the test examples with the model, or with all baselines of the task.

    The model is explained here, too: the number of threads, and with it the last digits, is that of the process.
    """
    task, test = cast("Task", entry.task_name), selection.test
    tables, files = [SCHEMA.empty_table()], dict[str, bytes]()
    if model is not None:
        from lm.models.single_thread import single_thread
        from tasks.finetune.predict.predict import predict_test

        with single_thread():
            folder = model_folder(model)
            predictions = predict_test(folder, selection, entry)
            if is_explained:
                from tasks.finetune.explanations import explain_model

                explanations = explain_model(entry.task_name, folder, test, predictions)
                files[EXPLANATIONS_FILE] = json.dumps(explanations, ensure_ascii=False).encode()
        tables.append(to_rows(task, test, MODEL, predictions))
        stats = metric_stats(task, test, predictions, labels, entry.bleu_tokenizer)
        files[ITEMS_FILE] = make_items(item_rows(task, test, item_ids(task, test), stats))
    else:
        fitted = fit_baselines(task, selection.train, selection.validation, test, labels, seed)
        tables += [to_rows(task, test, name, predictions) for name, predictions in fitted]
    rows = pa.concat_tables(tables).combine_chunks()
    yield PartResult(rows, ledger_table(STAGE.name, rows["id"].to_pylist()), files)
