"""The stage: a run in a folder that survives a crash, and its model as a data set."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.cache import cache_root
from infra.dag import Step
from infra.dataset import Counts, Dataset, NotCommitted, open_dataset
from infra.progress import Progress
from infra.stage import Context, Spec, Stage, commit_files
from infra.tokens import TRAIN
from tasks.train.config import TrainConfig
from tasks.train.journal import read
from tasks.train.launch import launch
from tasks.train.order import count_windows

STAGE = Stage(
    "train",
    modules=("tasks.train",),
    libraries=("torch", "numpy"),
    deterministic=False,  # the weights' last bits depend on the kind of processor
)

# Where a checkpoint of another run would differ; the number of processes is not among them,
# because a run may go on with fewer or more.
FREE_AT_RESUME = frozenset({"processes", "micro_batch", "threads", "device", "compile"})


def spec(ctx: Context, *, config: TrainConfig, tokens: Dataset) -> Spec:
    """What would be trained on these token shards."""
    return Spec(STAGE, config.name, {"seed": ctx.seed, **config.essence()}, (tokens,))


def build(ctx: Context, spec: Spec, *, config: TrainConfig, tokens: Dataset) -> Dataset:
    """Train, or go on training, and commit the model.

    Returns:
        A data set of ``model.safetensors`` (fp32, the training model's names), ``config.json``
        (shape and training), ``probe.safetensors`` (what the model says to a fixed input),
        ``tokenizer.json``, and as records ``metrics.jsonl``, TensorBoard's events and the last
        checkpoint. The weights are the same for the same number of processes and threads on the
        same kind of processor.

    Raises:
        TooFewTokens: if there is not one window of tokens.
        TrainingRefused: if the run ends for a reason that trying again does not change.
        TrainingFailed: if it crashes too often.
    """
    windows = count_windows(tokens.facts["tokens"][TRAIN], config.context)
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
        identity = {
            "tokens": tokens.content,
            **{k: v for k, v in spec.config.items() if k not in FREE_AT_RESUME},
        }
        result = launch(
            config,
            seed=ctx.seed,
            tokens=tokens.storage,
            identity=identity,
            folder=folder,
            heard=heard,
        )
        (folder / "tokenizer.json").write_bytes(tokens.read("tokenizer.json"))
        documents = tokens.facts["documents"][TRAIN]
        made = commit_files(
            ctx,
            spec,
            _files(folder),
            counts=Counts(documents, documents),
            facts={**_facts(config, tokens, result, folder), "seed": ctx.seed, "windows": windows},
        )
    shutil.rmtree(folder, ignore_errors=True)
    return made


def work_folder(spec: Spec) -> Path:
    """Where the run keeps its checkpoints until it is committed: the same after a crash."""
    return cache_root() / "train" / spec.fingerprint[:32]


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


def _files(folder: Path) -> dict[str, Path]:
    own = ("model.safetensors", "probe.safetensors", "config.json", "tokenizer.json")
    files = {name: folder / name for name in own}
    files["records/metrics.jsonl"] = folder / "metrics.jsonl"
    last = max((folder / "checkpoints").iterdir())
    for path in (*(folder / "tensorboard").iterdir(), *last.iterdir()):
        files[f"records/{path.parent.name}/{path.name}"] = path
    return files


def _facts(
    config: TrainConfig, tokens: Dataset, result: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """The model and the run in figures; those that depend on the clock say so by their name."""
    lines = read(folder / "metrics.jsonl")
    speeds = sorted(line["tokens_per_second"] for line in lines)
    shares = sorted(line["mfu"] for line in lines)
    last = result["line"]
    return {
        "parameters": result["parameters"],
        "vocab_size": tokens.facts["vocab_size"],
        "context": config.context,
        "batch": config.sequences,
        "steps": config.steps,
        "tokens": last["tokens"],
        "epochs": last["tokens"] / tokens.facts["tokens"][TRAIN],
        "loss": last["loss"],
        "validation_loss": last.get("validation_loss"),
        "tokens_per_second": speeds[len(speeds) // 2],
        "mfu": shares[len(shares) // 2],
    }


train = Step("train", spec, build)
