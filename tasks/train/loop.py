"""The training loop, on one screen.

Every process calls ``train`` with the same arguments. Sums that decide anything (the gradient, the
token count, the losses that are logged) run over all processes; between two lines of the log no
step waits for the device.
"""

import gc
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from infra.errors import UserError
from infra.tokens import TokenShards
from tasks.train import checkpoint
from tasks.train.config import TrainConfig
from tasks.train.feed import Feed, validation_rows
from tasks.train.journal import Files, Silence
from tasks.train.meter import Meter, place, reduced
from tasks.train.model import Decoder, Shape
from tasks.train.optim import build_optimizers, learning_rate
from tasks.train.order import Order, count_windows

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
COLLECT_EVERY = 500  # steps between garbage collections: on every process at the same step


class NotFinite(UserError):
    """A loss that is no number: the weights are spoilt, their last checkpoint is not."""


@dataclass(frozen=True)
class Job:
    """All that a run depends on besides the tokens themselves.

    Attributes:
        config: the recipe's entry.
        seed: the recipe's seed.
        vocabulary: V, number of token ids.
        folder: where checkpoints, log and curves lie.
        identity: what a checkpoint must agree on to be resumed from, by name.
    """

    config: TrainConfig
    seed: int
    vocabulary: int
    folder: Path
    identity: Mapping[str, Any] = field(default_factory=dict)

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
        )


def train(job: Job, training: TokenShards, held_out: TokenShards) -> tuple[Decoder, dict[str, Any]]:
    """Train from the newest checkpoint, or from the beginning, to the end.

    Args:
        job: what to train and how.
        training: tokens to learn from.
        held_out: tokens for the validation loss; may be empty.

    Returns:
        ``(model, last line of the log)``.

    Raises:
        NotFinite: if the loss is no number; on every process alike.
        OtherRun: if the folder holds a checkpoint of another run.
        TooFewTokens: if the training split is shorter than one window.
    """
    config, (rank, world) = job.config, place()
    device, dtype = pick_device(config, rank), DTYPES[config.precision]
    torch.manual_seed(job.seed)
    model = Decoder(job.shape).to(device)
    optimizers = build_optimizers(model, config, dtype)
    outer = wrap(model, config, device)
    order = Order(job.seed, count_windows(len(training), config.context), config.sequences)
    feed = Feed(training, order, config.context, rank, world)
    fixed = torch.from_numpy(
        validation_rows(held_out, config.context, config.validation_tokens)
    ).to(device)
    passes = config.passes(gpu=device.type == "cuda")
    autocast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
    blank = torch.zeros(1, config.context, dtype=torch.int64, device=device)
    settle(outer, optimizers, blank, autocast)

    root = job.folder / "checkpoints"
    found = checkpoint.resume(root, model, optimizers, job.identity)
    first, line = (found.step, dict(found.notes)) if found else (0, {})
    journal = Files(job.folder, first) if rank == 0 else Silence()
    meter = Meter(model, device, dtype)

    with collected_by_hand(), journal:
        for step in range(first, config.steps):
            before = time.perf_counter()
            rows, digest = feed.rows(step)
            meter.waited += time.perf_counter() - before
            meter.digest += digest
            tokens = torch.from_numpy(rows).to(device, non_blocking=True)
            inputs, targets = tokens[:, :-1].clamp_min(0), tokens[:, 1:]
            counted = reduced((targets >= 0).sum())
            batches = list(zip(inputs.chunk(passes), targets.chunk(passes), strict=True))
            for number, (x, y) in enumerate(batches):
                ends_step = world == 1 or number == len(batches) - 1
                # Gradients travel once per step. DDP takes their mean over processes, but the
                # loss is a sum over all tokens of the step, wherever they were.
                with nullcontext() if ends_step else outer.no_sync():
                    with autocast:
                        loss = outer(x, y)
                    (loss * (world / counted)).backward()
                meter.add(loss, (y >= 0).sum())
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf)
            rate = learning_rate(step, config)
            for optimizer in optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = rate * group.get("ratio", 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

            done = step + 1
            ends = done == config.steps
            validates = len(fixed) > 0 and (ends or done % config.validation_every == 0)
            saves = ends or done % config.checkpoint_every == 0
            if saves or validates or done % config.log_every == 0:
                line = {"step": done, "tokens": done * config.sequences * config.context}
                line |= {"learning_rate": rate, "gradient_norm": float(norm), **meter.read()}
                if not (math.isfinite(line["loss"]) and math.isfinite(line["gradient_norm"])):
                    raise NotFinite(_spoilt(line, root))
                if validates:
                    line["validation_loss"] = validate(model, fixed, autocast, len(x))
                    if not math.isfinite(line["validation_loss"]):
                        raise NotFinite(_spoilt(line, root))
                line["clock"] = time.time()
                journal.write(line)
            if saves:
                checkpoint.save(
                    root, done, model, optimizers, job.identity, notes=line, keep=config.keep
                )
            if done % COLLECT_EVERY == 0:
                gc.collect()
    return model, line


def on_gpu(config: TrainConfig) -> bool:
    """Whether the run takes GPUs: unless told otherwise, if there is one for every process."""
    return config.device != "cpu" and torch.cuda.device_count() >= config.processes


def pick_device(config: TrainConfig, rank: int) -> torch.device:
    """The device of this process. Raises ``UserError`` if the recipe asks for GPUs there are not."""
    if on_gpu(config):
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
        return device
    if config.device == "cuda":
        raise UserError(
            f"train.{config.name}.device: cuda, but torch sees {torch.cuda.device_count()} GPUs "
            f"for {config.processes} processes"
        )
    return torch.device("cpu")


def wrap(model: Decoder, config: TrainConfig, device: torch.device) -> Any:
    """The model as the loop calls it: compiled and data parallel where asked for."""
    outer: Any = torch.compile(model) if config.compile else model
    if place()[1] == 1:
        return outer
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(outer, device_ids=ids, gradient_as_bucket_view=True)


def settle(outer: Any, optimizers: Mapping[str, Optimizer], blank: Tensor, autocast: Any) -> None:
    """Run the model twice on nothing, so that compilation and DDP's buckets are done with.

    DDP lays its buckets out anew after the first pass, and sums over three or more processes
    depend on the layout: without this, a resumed run would differ from an undisturbed one.
    """
    for _ in range(2):
        with autocast:
            loss = outer(blank, blank)
        loss.backward()
    for optimizer in optimizers.values():
        optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def validate(model: Decoder, fixed: Tensor, autocast: Any, rows: int) -> float:
    """Mean nats per held-out token.

    Args:
        model: on the device of ``fixed``.
        fixed: int64[n, context + 1], the same on every process; each takes its share.
        autocast: as in training.
        rows: rows per pass.
    """
    rank, world = place()
    sums = torch.zeros(2, dtype=torch.float64, device=fixed.device)
    for part in fixed[rank::world].split(rows):
        if not len(part):
            continue  # fewer rows than processes: this one has none
        targets = part[:, 1:]
        with autocast:
            sums[0] += model(part[:, :-1].clamp_min(0), targets)
        sums[1] += (targets >= 0).sum()
    nats, tokens = reduced(sums).tolist()
    return float(nats / tokens)


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


def _spoilt(line: Mapping[str, Any], root: Path) -> str:
    good = checkpoint.complete(root)
    kept = f"the last good checkpoint is {good[-1].folder}" if good else "there is no checkpoint"
    return (
        f"the loss is {line['loss']} at step {line['step']} (gradient norm "
        f"{line['gradient_norm']:.3g}); {kept}; lower train.learning_rate or raise train.warmup"
    )
