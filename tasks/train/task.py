"""The stage: train in a folder that survives a crash, and commit the model as a data set."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.compute.progress import Progress
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.manifest import Counts, DatasetNotFoundError
from infra.dataset.stage import Context, DatasetSpec, Stage, commit_files
from infra.errors import UserError
from infra.formats.megatron import TRAIN
from lm.config.entry import TrainEntry
from lm.config.train import TrainConfig
from lm.data.sampler import sampler_for_config
from lm.launch.rendezvous import publish_end, rendezvous_store
from lm.launch.rollback import Rollback, TrainingRun, train_with_rollback
from lm.launch.run_outputs import run_files, speed_stats
from lm.launch.work_folder import checkpoint_url, fixed_config, folder_lock, work_folder
from lm.models.registry import family_modules, load_counting
from lm.train.job import TrainJob

STAGE = Stage(
    "train",
    modules=("tasks.train.task", "lm.train.worker", "lm.train.pretraining"),
    libraries=("torch", "numpy"),
    deterministic=False,  # the weights' last bits depend on the kind of processor
)

MODEL_FILES = ("model.safetensors", "reference_logits.safetensors", "config.json", "tokenizer.json")
NOT_MIXED = "not_in_mixture"


def spec(
    ctx: Context, *, config: TrainEntry, tokens: Dataset, base_model: Dataset | None = None
) -> DatasetSpec:
    """Describe the model trained on these token shards, from the weights of ``base_model``."""
    if not isinstance(config, TrainConfig):
        counted: DatasetSpec = load_counting(config.family, "train").spec(ctx, config, tokens)
        return counted
    weights_key = config.weights_key()
    # Resolved, because its default depends on num_processes.
    weights_key["data"]["global_batch_size"] = config.sequences_per_step
    inputs = (tokens,) if base_model is None else (tokens, base_model)
    stage = replace(STAGE, modules=(*STAGE.modules, *family_modules(config.package)))
    seed = config.model_seed(ctx.seed)
    return DatasetSpec(stage, config.name, {"seed": seed, **weights_key}, inputs)


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    config: TrainEntry,
    tokens: Dataset,
    base_model: Dataset | None = None,
) -> Dataset:
    """Train or resume training, and commit the model; a family that is counted does that itself.

    Returns:
        A data set of ``model.safetensors`` (fp32, the training model's names), ``config.json``
        (model and training), ``reference_logits.safetensors`` (logits for a fixed input),
        ``tokenizer.json``, and below ``logs/`` ``metrics.jsonl``, ``attempts.jsonl``, TensorBoard's
        events, the last checkpoint and those that ``keep_interval`` keeps; after a rollback also
        ``rollbacks.json`` and the log until each of them. The weights are the same for
        the same number of processes and threads on the same kind of processor.

    Raises:
        TooFewTokensError: if there is not one row of tokens.
        UserError: if the mixture names a source without documents, or the base model has another
            architecture or tokenizer.
        TrainingConfigError: if the run ends for a reason that a restart does not change.
        TrainingFailedError: if it crashes too often, or the store of its checkpoints is
            unreachable.
    """
    if not isinstance(config, TrainConfig):
        counted: Dataset = load_counting(config.family, "train").build(ctx, spec, config, tokens)
        return counted
    require_base_model(config, tokens, base_model)
    seed = config.model_seed(ctx.seed)
    sampler = sampler_for_config(config, seed, tokens)
    folder = work_folder(spec)

    def report(done: int, message: str, values: dict[str, float] | None = None) -> None:
        ctx.reporter.update(Progress(STAGE.name, spec.source, done, config.steps, message, values))

    def on_metrics(line: dict[str, Any]) -> None:
        values = {k: float(v) for k, v in line.items() if isinstance(v, int | float)}
        message = f"loss {line['loss']:.3f}, {line['tokens_per_second']:,.0f} tokens/s"
        if "validation_loss" in line:
            message += f", validation {line['validation_loss']:.3f}"
        report(int(line["step"]), message, values)

    def on_rollback(rollback: Rollback) -> None:
        report(rollback.from_step or 0, str(rollback))

    with folder_lock(folder, lambda: report(0, "waiting for another run that trains this model")):
        try:
            return open_dataset(ctx.storage.subdir(*spec.folder.split("/")))
        except DatasetNotFoundError:
            pass  # the usual case; otherwise another process trained it while this one waited
        report(0, "starting processes")
        rendezvous = rendezvous_store(config, spec.folder.rsplit("/", 1)[-1])
        if rendezvous is not None:
            others = config.run.num_nodes - 1
            report(0, f"waiting for {others} other machines: gristmill train-node")
        job = TrainJob(
            config,
            seed,
            tokens.storage,
            folder,
            compatibility_key(spec, tokens, base_model),
            base_model.storage if base_model else None,
            checkpoint_url(config, folder),
        )
        training_run = TrainingRun(job, rendezvous)
        try:
            result = train_with_rollback(training_run, on_metrics, on_rollback)
        except UserError as error:
            if rendezvous is not None:
                publish_end(rendezvous, str(error).splitlines()[0])
            raise
        (folder / "tokenizer.json").write_bytes(tokens.read("tokenizer.json"))
        files, skip = run_files(training_run, MODEL_FILES)
        stats = {
            **_model_stats(config, tokens, result, folder),
            **sampler.to_stats(),
            "skip": skip,
        }
        documents = tokens.stats["documents"][TRAIN]
        not_mixed = documents - sampler.documents if config.data.mixture else 0
        dropped = {NOT_MIXED: not_mixed} if not_mixed else {}
        counts = Counts(documents, documents - not_mixed, dropped)
        model = commit_files(ctx, spec, files, counts=counts, stats=stats)
        training_run.checkpoints.remove_tree()
        shutil.rmtree(folder, ignore_errors=True)
        if rendezvous is not None:
            rendezvous.remove_tree()
    return model


def compatibility_key(
    spec: DatasetSpec, tokens: Dataset, base_model: Dataset | None = None
) -> dict[str, Any]:
    """Return what a checkpoint must agree on to be resumed from, by name."""
    key = {"shards": tokens.content, "tokenizer": _tokenizer_digest(tokens), **fixed_config(spec)}
    return key if base_model is None else {**key, "init_from": base_model.content}


def require_base_model(config: TrainConfig, tokens: Dataset, base_model: Dataset | None) -> None:
    """Raise ``UserError``, with the field, unless the base model's weights fit."""
    field = f"train.{config.name}.init_from"
    if base_model is None:
        if config.init_from is not None:
            raise UserError(f"{field}: the model {config.init_from} is not given")
        return
    if _tokenizer_digest(base_model) != _tokenizer_digest(tokens):
        raise UserError(f"{field}: {base_model.source} was trained with another tokenizer")
    base_config = json.loads(base_model.read("config.json"))["model_config"]
    for name, value in config.model.architecture_key().items():
        if base_config[name] != value:
            raise UserError(
                f"train.{config.name}.model.{name}: {value!r}, but {base_model.source}, whose "
                f"weights it starts with, has {base_config[name]!r}"
            )


def _tokenizer_digest(data: Dataset) -> str:
    return data.manifest.files["tokenizer.json"].sha256


def _model_stats(
    config: TrainConfig, tokens: Dataset, result: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Return statistics of the model and its training; speeds and seconds depend on the machine."""
    last = result["line"]
    return {
        "parameters": result["parameters"],
        "vocab_size": tokens.stats["vocab_size"],
        "context_length": config.model.context_length,
        "global_batch_size": config.sequences_per_step,
        "steps": last["step"],  # fewer than planned if it stopped early
        "tokens": last["tokens"],
        "init_from": config.init_from,
        "epochs": last["tokens"] / tokens.stats["tokens"][TRAIN],
        "loss": last["loss"],
        "validation_loss": last.get("validation_loss"),
        **speed_stats(result, folder),
    }
