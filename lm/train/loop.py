"""The training loop, on one screen.

Every process calls ``train`` with the same arguments. Sums that decide anything (the gradient, the
token count, the losses that are logged) run over all processes; between two lines of the log no
step waits for the device.
"""

import gc
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import digest
from lm.checkpoint.manager import Keeper
from lm.checkpoint.retention import Shelf
from lm.config.train import TrainConfig
from lm.data.loader import open_feed
from lm.distributed.parallel import clipped, exchange, pick_device, spread
from lm.metrics.goodput import note_attempt
from lm.metrics.logger import Files, Silence
from lm.metrics.meter import Meter, local_rank, place, reduced
from lm.metrics.mlflow import Tracking, require
from lm.models.decoder import Shape
from lm.models.dropout import sample_keys
from lm.models.registry import build
from lm.models.weights import WEIGHTS, load_weights
from lm.optim.loss_scale import LossScale
from lm.optim.optimizers import build_optimizers, decaying, learning_rate, move
from lm.optim.penalty import penalise
from lm.train.loss_spike import Watch
from lm.train.state import State, Weights, copied
from lm.train.validation import facing, held_out, sent, settle, validate

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
BEST = ("best_validation_loss", "best_step")  # what lines carry on with patience
COLLECT_EVERY = 500  # steps between garbage collections: on every process at the same step


@dataclass(frozen=True)
class Job:
    """All that a run depends on besides the tokens themselves.

    Attributes:
        config: the recipe's entry.
        seed: the recipe's seed.
        vocabulary: V, number of token ids.
        eos: the id that closes documents.
        folder: where checkpoints, log and curves lie.
        identity: what a checkpoint must agree on to be resumed from, by name.
        shelf: where checkpoints lie; by default in the folder.
        skip: half-open ranges of batch numbers that are left out.
        base: the model whose weights it starts with; by default they are random.
    """

    config: TrainConfig
    seed: int
    vocabulary: int
    eos: int
    folder: Path
    identity: Mapping[str, Any] = field(default_factory=dict)
    shelf: Shelf | None = None
    skip: tuple[tuple[int, int], ...] = ()
    base: Dataset | None = None

    @property
    def shape(self) -> Shape:
        """The model's shape."""
        c = self.config
        return Shape(
            vocabulary=self.vocabulary,
            layers=c.layers,
            width=c.width,
            heads=c.heads,
            kv_heads=c.kv_heads or c.heads,
            hidden=c.hidden_width,
            context=c.context,
            tied=c.tied,
            layout=c.layout,
            bias=c.bias,
        )


def train(job: Job, tokens: Dataset) -> tuple[Weights, dict[str, Any]]:
    """Train from the newest checkpoint, or from the beginning, to the end.

    Args:
        job: what to train and how.
        tokens: token shards with a training split; without a validation split nothing is
            validated.

    Returns:
        ``(weights, last line of the log)``; the weights whole, on the CPU, under the model's
        names, on the first process, and empty on the others.

    Raises:
        Spoilt: if the loss is no number or jumps; on every process alike.
        OtherRun: if the folder holds a checkpoint of another run.
        TooFewTokens: if the training split is shorter than one window.
    """
    config, (rank, world) = job.config, place()
    if config.mlflow:
        require(config.name)
    device, dtype = pick_device(config, local_rank()), DTYPES[config.precision]
    cache = job.folder.parent / "tokens"
    fixed = held_out(config, tokens, cache).to(device)
    torch.manual_seed(job.seed)
    model = build(job.shape)
    if job.base:
        load_weights(model, job.base.read(WEIGHTS))
    model = model.to(device)
    model.dropout, model.recompute = config.dropout, config.recompute
    outer = spread(model, config, device)
    optimizers = build_optimizers(model, config, dtype)
    penalised = decaying(optimizers)
    scale = LossScale() if config.precision == "fp16" else None
    passes = config.passes(gpu=device.type == "cuda")
    autocast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
    eos = None if config.packing == "concatenate" else job.eos
    meter = Meter(model, device, dtype)
    with meter.lost("compile"):
        settle(outer, config, device, autocast, eos)

    state = State(
        model,
        optimizers,
        scale,
        average=copied(model) if config.ema else {},
        best=copied(model) if config.patience else {},
    )
    keeper = Keeper(job.shelf or Shelf.of(config, job.folder), job.identity)
    with meter.lost("resume"):
        found = keeper.resume(state)
    first, notes = (found.step, found.notes) if found else (0, {"line": {}, "losses": []})
    line = dict(notes["line"])
    last = first if "stopped" in line else config.steps

    def kept() -> int | None:
        keeper.finish()
        return keeper.newest

    watch = Watch(config.spike, kept, notes["losses"])
    feed = open_feed(config, tokens, job.seed, rank, world, cache, first, job.skip)
    if rank == 0:
        note_attempt(job.folder, first, world)
    journal = note(job, first) if rank == 0 else Silence()

    with collected_by_hand(), closing(feed), closing(keeper), journal:
        for step in range(first, last):
            with meter.lost("data_wait"):
                batch = feed.batch(step)
            meter.digest += batch.digest
            inputs, targets = facing(sent(batch.rows, device))
            counted = reduced((targets >= 0).sum())
            keys: tuple[Tensor | None, ...] = (None,) * passes
            if config.dropout:
                keys = sent(sample_keys(job.seed, batch.samples), device).chunk(passes)
            parts = zip(inputs.chunk(passes), targets.chunk(passes), keys, strict=True)
            for number, (x, y, key) in enumerate(parts):
                # Gradients travel once per step. DDP takes their mean over processes, but the
                # loss is a sum over all tokens of the step, wherever they were.
                with exchange(outer, now=number == passes - 1):
                    with autocast:
                        loss = outer(x, y, eos=eos, keys=key, smoothing=config.label_smoothing)
                    (loss * (world / counted) * (scale.value if scale else 1.0)).backward()
                meter.add(loss, (y >= 0).sum())
            if scale:
                scale.unscale(model.parameters())
            if config.l1 or config.l2:
                penalise(penalised, config.l1, config.l2)
            norm = clipped(model, config.clip or math.inf)
            meter.end_step(norm)
            rate = learning_rate(step, config)
            if scale is None or scale.bears(norm):
                move(optimizers, rate)
                if config.ema:
                    state.follow(config.ema, step)
            outer.zero_grad(set_to_none=True)

            done = step + 1
            ends = done == config.steps
            validates = len(fixed) > 0 and (ends or done % config.validation_every == 0)
            saves = ends or done % config.checkpoint_every == 0
            if saves or validates or done % config.log_every == 0:
                figures, history = meter.read()
                watch.look(history, done, norms=scale is None or scale.lost)
                best = {name: line[name] for name in BEST if name in line}
                seen = line.get("tokens", 0) + figures.pop("tokens")
                line = {"step": done, "tokens": int(seen), "learning_rate": rate}
                line |= {**figures, **best}
                if validates:
                    with meter.lost("validation"), state.judged() as judged:
                        line["validation_loss"] = validate(judged, fixed, autocast, eos, len(x))
                    watch.judge(line["validation_loss"], done)
                    if config.patience and early(line, config, state):
                        line["stopped"] = "early"
                        saves = True
                line["clock"] = time.time()
                journal.write(line)
            if saves:
                notes = {"line": line, "losses": watch.losses}
                with meter.lost("checkpoint"):
                    must = ends or "stopped" in line
                    keeper.save(done, state, notes, meter.step_seconds, wait=must)
            if done % COLLECT_EVERY == 0:
                gc.collect()
            if "stopped" in line:
                break
        keeper.finish()
    return state.outcome(), line


def note(job: Job, first: int) -> Files:
    """Where the run's figures go."""
    config, tracking = job.config, None
    if config.mlflow:
        key = digest([config.name, dict(job.identity)])
        tracking = Tracking(config.mlflow, config.name, key, config.facts())
    return Files(job.folder, first, tracking)


def early(line: dict[str, Any], config: TrainConfig, state: State) -> bool:
    """Note in the line whether it is the best so far; tell whether patience is at its end.

    Prechelt 1998, "Early stopping, but when?": so many validations without improvement.
    """
    loss, best = line["validation_loss"], line.get("best_validation_loss", math.inf)
    if loss < best - config.min_delta:
        state.remember()
        line |= {"best_validation_loss": loss, "best_step": line["step"]}
        return False
    assert config.patience is not None
    since: int = line["step"] - line["best_step"]
    return since >= config.patience * config.validation_every


@contextmanager
def collected_by_hand() -> Iterator[None]:
    """Keep the garbage collector from stopping one process while the others wait for it."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
