"""The stage: a run in a folder that survives a crash, and its model as a data set."""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.compute.progress import Progress
from infra.config import flatten_sections
from infra.dataset.dataset import Counts, Dataset, DatasetNotFoundError, open_dataset
from infra.dataset.fingerprint import json_sha256
from infra.dataset.stage import Context, DatasetSpec, Stage, commit_files
from infra.errors import UserError
from infra.formats.megatron import TRAIN
from infra.store.cache_dir import cache_root
from lm.config.train import TrainConfig
from lm.data.sampler import sampler_for_config
from lm.launch.rendezvous import publish_end, rendezvous_store
from lm.launch.rollback import TrainingRun, train_with_rollback
from lm.launch.rollback_log import ROLLBACKS_FILE, Rollback, to_json
from lm.metrics.goodput import ATTEMPTS, summarize_goodput
from lm.metrics.logger import read_jsonl, tensorboard_file
from lm.models.registry import family_modules

STAGE = Stage(
    "train",
    modules=("tasks.train.task", "lm.train.worker"),
    libraries=("torch", "numpy"),
    deterministic=False,  # the weights' last bits depend on the kind of processor
)

NOT_MIXED = "not_in_mixture"

# Where a checkpoint of another run would differ; how the work is spread is not among them, because
# a run may go on with fewer processes or more.
FREE_AT_RESUME = frozenset(
    {
        "data.micro_batch_size",
        "run.num_processes",
        "run.threads_per_process",
        "run.device",
        "run.compile",
        "run.data_parallel",
        "run.activation_checkpointing",
    }
)


def spec(
    ctx: Context, *, config: TrainConfig, tokens: Dataset, base_model: Dataset | None = None
) -> DatasetSpec:
    """What would be trained on these token shards, starting with the weights of ``base_model``."""
    weights_key = config.weights_key()
    # Resolved, because its default depends on num_processes.
    weights_key["data"]["global_batch_size"] = config.sequences_per_step
    inputs = (tokens,) if base_model is None else (tokens, base_model)
    stage = replace(STAGE, modules=(*STAGE.modules, *family_modules(config.model.architecture)))
    return DatasetSpec(stage, config.name, {"seed": ctx.seed, **weights_key}, inputs)


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    config: TrainConfig,
    tokens: Dataset,
    base_model: Dataset | None = None,
) -> Dataset:
    """Train, or go on training, and commit the model.

    Args:
        ctx: the run.
        spec: what would be made.
        config: what to train.
        tokens: token shards.
        base_model: the model that ``init_from`` names.

    Returns:
        A data set of ``model.safetensors`` (fp32, the training model's names), ``config.json``
        (shape and training), ``reference_logits.safetensors`` (what the model says to a fixed input),
        ``tokenizer.json``, and as records ``metrics.jsonl``, ``attempts.jsonl``, TensorBoard's
        events, the last checkpoint and those that ``keep_interval`` asks for; if weights were spoilt,
        ``rollbacks.json`` and the log of each run that was given up. The weights are the same for
        the same number of processes and threads on the same kind of processor.

    Raises:
        TooFewTokens: if there is not one window of tokens.
        UserError: if the mixture names a source without documents, or the base has another shape or
            tokenizer.
        TrainingRefused: if the run ends for a reason that trying again does not change.
        TrainingFailed: if it crashes too often, or the store of its checkpoints is away.
    """
    require_base_model(config, tokens, base_model)
    order = sampler_for_config(config, ctx.seed, tokens)
    folder = work_folder(spec)

    def tell(done: int, note: str, values: dict[str, float] | None = None) -> None:
        ctx.reporter.update(Progress(STAGE.name, spec.source, done, config.steps, note, values))

    def heard(line: dict[str, Any]) -> None:
        values = {k: float(v) for k, v in line.items() if isinstance(v, int | float)}
        note = f"loss {line['loss']:.3f}, {line['tokens_per_second']:,.0f} tokens/s"
        if "validation_loss" in line:
            note += f", validation {line['validation_loss']:.3f}"
        tell(int(line["step"]), note, values)

    with _folder_lock(folder, lambda: tell(0, "waiting for another run that trains this model")):
        try:
            return open_dataset(ctx.storage.subdir(*spec.folder.split("/")))
        except DatasetNotFoundError:
            pass  # the usual case; otherwise another process trained it while this one waited
        tell(0, "starting processes")
        meet = rendezvous_store(config, spec.folder.rsplit("/", 1)[-1])
        if meet is not None:
            tell(0, f"waiting for {config.run.num_nodes - 1} other machines: gristmill join")
        trunk = TrainingRun(
            config,
            ctx.seed,
            tokens,
            folder,
            compatibility_key(spec, tokens, base_model),
            base_model,
            meet,
        )
        try:
            result = train_with_rollback(
                trunk, heard, lambda branch: tell(branch.from_step or 0, str(branch))
            )
        except UserError as error:
            if meet is not None:
                publish_end(meet, str(error).splitlines()[0])
            raise
        branches = trunk.load_rollbacks()
        run = branches[-1].folder(folder)
        (run / "tokenizer.json").write_bytes(tokens.read("tokenizer.json"))
        documents = tokens.stats["documents"][TRAIN]
        facts = {
            **_model_stats(config, tokens, result, run),
            **order.to_stats(),
            "skip": [list(one) for one in branches[-1].skip],
        }
        left_out = documents - order.documents if config.data.mixture else 0
        counts = Counts(documents, documents - left_out, {NOT_MIXED: left_out} if left_out else {})
        made = commit_files(ctx, spec, _output_files(trunk, branches), counts=counts, stats=facts)
        for branch in branches:
            if config.run.checkpoint_url:
                trunk.checkpoint_storage(branch).remove_tree()
            shutil.rmtree(branch.folder(folder), ignore_errors=True)
        if meet is not None:
            meet.remove_tree()
    return made


def work_folder(spec: DatasetSpec) -> Path:
    """Where the run keeps its checkpoints until it is committed.

    The same after a crash, and if the work is spread in another way.
    """
    run = [
        spec.source,
        spec.stage.code_version,
        _fixed_config(spec),
        [item.content for item in spec.inputs],
    ]
    return cache_root() / "train" / json_sha256(run)[:32]


def compatibility_key(
    spec: DatasetSpec, tokens: Dataset, base_model: Dataset | None = None
) -> dict[str, Any]:
    """What a checkpoint must agree on."""
    found = {
        "shards": tokens.content,
        "tokenizer": _tokenizer_digest(tokens),
        **_fixed_config(spec),
    }
    return found if base_model is None else {**found, "init_from": base_model.content}


def require_base_model(config: TrainConfig, tokens: Dataset, base_model: Dataset | None) -> None:
    """Raise ``UserError``, naming the field, unless the base's weights fit."""
    field = f"train.{config.name}.init_from"
    if base_model is None:
        if config.init_from is not None:
            raise UserError(f"{field}: the model {config.init_from} is not given")
        return
    if _tokenizer_digest(base_model) != _tokenizer_digest(tokens):
        raise UserError(f"{field}: {base_model.source} was trained with another tokenizer")
    shape = json.loads(base_model.read("config.json"))["model_config"]
    for name, value in config.model.architecture_key().items():
        if shape[name] != value:
            raise UserError(
                f"train.{config.name}.model.{name}: {value!r}, but {base_model.source}, whose weights it starts "
                f"with, has {shape[name]!r}"
            )


def _tokenizer_digest(data: Dataset) -> str:
    return data.manifest.files["tokenizer.json"].sha256


def _fixed_config(spec: DatasetSpec) -> dict[str, Any]:
    """Return the configuration by dotted field name, without what a resumed run may change."""
    fields = flatten_sections(spec.config)
    return {name: value for name, value in fields.items() if name not in FREE_AT_RESUME}


@contextmanager
def _folder_lock(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Wait until no other process trains in this folder; ``on_wait`` is called if one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _output_files(training_run: TrainingRun, rollbacks: Sequence[Rollback]) -> dict[str, Path]:
    run = rollbacks[-1].folder(training_run.folder)
    own = ("model.safetensors", "reference_logits.safetensors", "config.json", "tokenizer.json")
    files = {name: run / name for name in own}
    files["logs/metrics.jsonl"] = run / "metrics.jsonl"
    files[f"logs/{ATTEMPTS}"] = run / ATTEMPTS
    drawn = tensorboard_file(run)
    files[f"logs/tensorboard/{drawn.name}"] = drawn
    for folder in training_run.final_checkpoints(rollbacks):
        for path in folder.iterdir():
            files[f"logs/{folder.name}/{path.name}"] = path
    if len(rollbacks) > 1:
        record = run / ROLLBACKS_FILE
        record.write_bytes(to_json(rollbacks))
        files[f"logs/{ROLLBACKS_FILE}"] = record
    for branch in rollbacks[:-1]:
        files[f"logs/{branch.name}/metrics.jsonl"] = training_run.abandoned_log(branch)
    return files


def _model_stats(
    config: TrainConfig, tokens: Dataset, result: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """The model and the run in figures; those that depend on the clock say so by their name."""
    # A checkpoint holds the log; if that is lost for all that, it holds the last line once more.
    lines = read_jsonl(folder / "metrics.jsonl") or [result["line"]]
    speeds = sorted(line["tokens_per_second"] for line in lines)
    shares = sorted(line["mfu"] for line in lines)
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
        "tokens_per_second": speeds[len(speeds) // 2],
        "mfu": shares[len(shares) // 2],
        **summarize_goodput(folder),
    }
