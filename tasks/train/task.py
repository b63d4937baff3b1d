"""The stage: a run in a folder that survives a crash, and its model as a data set."""

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.compute.progress import Progress
from infra.dataset.dataset import Counts, Dataset, NotCommitted, open_dataset
from infra.dataset.fingerprint import digest
from infra.dataset.stage import Context, Spec, Stage, commit_files
from infra.dataset.step import Step
from infra.errors import UserError
from infra.formats.megatron import TRAIN
from infra.store.cache_dir import cache_root
from lm.config.train import TrainConfig
from lm.data.sampler import order_of
from lm.launch.rendezvous import end, meeting
from lm.launch.rollback import Trunk, to_the_end
from lm.launch.rollback_log import FILE, Branch, to_json
from lm.metrics.goodput import ATTEMPTS, account
from lm.metrics.logger import curves, read

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
    {"processes", "micro_batch", "threads", "device", "compile", "parallel", "recompute"}
)


def spec(
    ctx: Context, *, config: TrainConfig, tokens: Dataset, base: Dataset | None = None
) -> Spec:
    """What would be trained on these token shards, starting with the weights of ``base``."""
    essence = {**config.essence(), "batch": config.sequences}  # its default depends on `processes`
    inputs = (tokens,) if base is None else (tokens, base)
    return Spec(STAGE, config.name, {"seed": ctx.seed, **essence}, inputs)


def build(
    ctx: Context, spec: Spec, *, config: TrainConfig, tokens: Dataset, base: Dataset | None = None
) -> Dataset:
    """Train, or go on training, and commit the model.

    Args:
        ctx: the run.
        spec: what would be made.
        config: what to train.
        tokens: token shards.
        base: the model that ``start_from`` names.

    Returns:
        A data set of ``model.safetensors`` (fp32, the training model's names), ``config.json``
        (shape and training), ``probe.safetensors`` (what the model says to a fixed input),
        ``tokenizer.json``, and as records ``metrics.jsonl``, ``attempts.jsonl``, TensorBoard's
        events, the last checkpoint and those that ``keep_every`` asks for; if weights were spoilt,
        ``branches.json`` and the log of each run that was given up. The weights are the same for
        the same number of processes and threads on the same kind of processor.

    Raises:
        TooFewTokens: if there is not one window of tokens.
        UserError: if the mixture names a source without documents, or the base has another shape or
            tokenizer.
        TrainingRefused: if the run ends for a reason that trying again does not change.
        TrainingFailed: if it crashes too often, or the store of its checkpoints is away.
    """
    require_base(config, tokens, base)
    order = order_of(config, ctx.seed, tokens)
    folder = work_folder(spec)

    def tell(done: int, note: str, values: dict[str, float] | None = None) -> None:
        ctx.reporter.update(Progress(STAGE.name, spec.source, done, config.steps, note, values))

    def heard(line: dict[str, Any]) -> None:
        values = {k: float(v) for k, v in line.items() if isinstance(v, int | float)}
        note = f"loss {line['loss']:.3f}, {line['tokens_per_second']:,.0f} tokens/s"
        if "validation_loss" in line:
            note += f", validation {line['validation_loss']:.3f}"
        tell(int(line["step"]), note, values)

    with _alone(folder, lambda: tell(0, "waiting for another run that trains this model")):
        try:
            return open_dataset(ctx.storage.at(*spec.folder.split("/")))
        except NotCommitted:
            pass  # the usual case; otherwise another process trained it while this one waited
        tell(0, "starting processes")
        meet = meeting(config, spec.folder.rsplit("/", 1)[-1])
        if meet is not None:
            tell(0, f"waiting for {config.nodes - 1} other machines: gristmill join")
        trunk = Trunk(config, ctx.seed, tokens, folder, identity(spec, tokens, base), base, meet)
        try:
            result = to_the_end(trunk, heard, lambda branch: tell(branch.good or 0, str(branch)))
        except UserError as error:
            if meet is not None:
                end(meet, str(error).splitlines()[0])
            raise
        branches = trunk.branches()
        run = branches[-1].folder(folder)
        (run / "tokenizer.json").write_bytes(tokens.read("tokenizer.json"))
        documents = tokens.facts["documents"][TRAIN]
        facts = {
            **_facts(config, tokens, result, run),
            **order.facts(),
            "skip": [list(one) for one in branches[-1].skip],
        }
        left_out = documents - order.documents if config.mixture else 0
        counts = Counts(documents, documents - left_out, {NOT_MIXED: left_out} if left_out else {})
        made = commit_files(ctx, spec, _files(trunk, branches), counts=counts, facts=facts)
        for branch in branches:
            if config.checkpoints:
                trunk.store(branch).remove_tree()
            shutil.rmtree(branch.folder(folder), ignore_errors=True)
        if meet is not None:
            meet.remove_tree()
    return made


def work_folder(spec: Spec) -> Path:
    """Where the run keeps its checkpoints until it is committed.

    The same after a crash, and if the work is spread in another way.
    """
    run = [spec.source, STAGE.code, _bound(spec), [item.content for item in spec.inputs]]
    return cache_root() / "train" / digest(run)[:32]


def identity(spec: Spec, tokens: Dataset, base: Dataset | None = None) -> dict[str, Any]:
    """What a checkpoint must agree on."""
    # Not under `tokens`: the configuration has a field of that name, how many to train on.
    found = {"shards": tokens.content, "tokenizer": _tokenizer(tokens), **_bound(spec)}
    return found if base is None else {**found, "start_from": base.content}


def require_base(config: TrainConfig, tokens: Dataset, base: Dataset | None) -> None:
    """Raise ``UserError``, naming the field, unless the base's weights fit."""
    field = f"train.{config.name}.start_from"
    if base is None:
        if config.start_from is not None:
            raise UserError(f"{field}: the model {config.start_from} is not given")
        return
    if _tokenizer(base) != _tokenizer(tokens):
        raise UserError(f"{field}: {base.source} was trained with another tokenizer")
    shape = json.loads(base.read("config.json"))["shape"]
    for name, value in config.architecture().items():
        if shape[name] != value:
            raise UserError(
                f"train.{config.name}.{name}: {value!r}, but {base.source}, whose weights it starts "
                f"with, has {shape[name]!r}"
            )


def _tokenizer(data: Dataset) -> str:
    return data.manifest.files["tokenizer.json"].sha256


def _bound(spec: Spec) -> dict[str, Any]:
    return {key: value for key, value in spec.config.items() if key not in FREE_AT_RESUME}


@contextmanager
def _alone(folder: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Wait until no other process trains in this folder; ``waits`` is called if one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _files(trunk: Trunk, branches: Sequence[Branch]) -> dict[str, Path]:
    run = branches[-1].folder(trunk.folder)
    own = ("model.safetensors", "probe.safetensors", "config.json", "tokenizer.json")
    files = {name: run / name for name in own}
    files["records/metrics.jsonl"] = run / "metrics.jsonl"
    files[f"records/{ATTEMPTS}"] = run / ATTEMPTS
    drawn = curves(run)
    files[f"records/tensorboard/{drawn.name}"] = drawn
    for folder in trunk.kept(branches):
        for path in folder.iterdir():
            files[f"records/{folder.name}/{path.name}"] = path
    if len(branches) > 1:
        record = run / FILE
        record.write_bytes(to_json(branches))
        files[f"records/{FILE}"] = record
    for branch in branches[:-1]:
        files[f"records/{branch.name}/metrics.jsonl"] = trunk.abandoned(branch)
    return files


def _facts(
    config: TrainConfig, tokens: Dataset, result: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """The model and the run in figures; those that depend on the clock say so by their name."""
    # A checkpoint holds the log; if that is lost for all that, it holds the last line once more.
    lines = read(folder / "metrics.jsonl") or [result["line"]]
    speeds = sorted(line["tokens_per_second"] for line in lines)
    shares = sorted(line["mfu"] for line in lines)
    last = result["line"]
    return {
        "parameters": result["parameters"],
        "vocab_size": tokens.facts["vocab_size"],
        "context": config.context,
        "batch": config.sequences,
        "steps": last["step"],  # fewer than planned if it stopped early
        "tokens": last["tokens"],
        "start_from": config.start_from,
        "epochs": last["tokens"] / tokens.facts["tokens"][TRAIN],
        "loss": last["loss"],
        "validation_loss": last.get("validation_loss"),
        "tokens_per_second": speeds[len(speeds) // 2],
        "mfu": shares[len(shares) // 2],
        **account(folder),
    }


train = Step("train", spec, build)
