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

from infra.config import flatten_sections
from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import json_sha256
from lm.checkpoint.manager import CheckpointManager
from lm.checkpoint.retention import CheckpointStore
from lm.config.train import TrainConfig
from lm.data.loader import build_loader
from lm.distributed.parallel import clip_gradients, gradient_sync, parallelize, pick_device
from lm.metrics.goodput import record_attempt
from lm.metrics.logger import MetricsLogger, NullLogger
from lm.metrics.meter import TrainingMetrics, all_reduce_sum, local_rank, rank_and_world_size
from lm.metrics.mlflow import MlflowLogger, require_mlflow
from lm.models.causal_lm import WEIGHTS, load_weights
from lm.models.decoder_config import DecoderConfig
from lm.models.dropout import dropout_keys
from lm.models.registry import build_model
from lm.optim.loss_scale import LossScale
from lm.optim.optimizers import build_optimizers, decayed_parameters, learning_rate, step_optimizers
from lm.optim.penalty import add_penalty_gradients
from lm.train.loss_spike import LossSpikeDetector
from lm.train.state import State, Weights, clone_weights
from lm.train.validation import (
    split_inputs_targets,
    to_device,
    validate,
    validation_rows_for,
    warm_up,
)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
BEST_KEYS = ("best_validation_loss", "best_step")  # what lines carry on with patience
GC_INTERVAL = 500  # steps between garbage collections: on every process at the same step


@dataclass(frozen=True)
class TrainJob:
    """All that a run depends on besides the tokens themselves.

    Attributes:
        config: the recipe's entry.
        seed: the recipe's seed.
        vocab_size: V, number of token ids.
        eos_id: the id that closes documents.
        folder: where checkpoints, log and curves lie.
        compatibility_key: what a checkpoint must agree on to be resumed from, by name.
        checkpoint_store: where checkpoints lie; by default in the folder.
        skip: half-open ranges of batch numbers that are left out.
        base_model: the model whose weights it starts with; by default they are random.
    """

    config: TrainConfig
    seed: int
    vocab_size: int
    eos_id: int
    folder: Path
    compatibility_key: Mapping[str, Any] = field(default_factory=dict)
    checkpoint_store: CheckpointStore | None = None
    skip: tuple[tuple[int, int], ...] = ()
    base_model: Dataset | None = None

    @property
    def model_config(self) -> DecoderConfig:
        """The model's shape."""
        return self.config.model.resolve(self.vocab_size)


def train(job: TrainJob, tokens: Dataset) -> tuple[Weights, dict[str, Any]]:
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
    config, (rank, world) = job.config, rank_and_world_size()
    if config.run.mlflow_tracking_uri:
        require_mlflow(config.name)
    device, dtype = pick_device(config, local_rank()), DTYPES[config.run.precision]
    cache = job.folder.parent / "tokens"
    fixed = validation_rows_for(config, tokens, cache).to(device)
    torch.manual_seed(job.seed)
    model = build_model(job.model_config)
    if job.base_model:
        load_weights(model, job.base_model.read(WEIGHTS))
    model = model.to(device)
    model.dropout, model.activation_checkpointing = (
        config.optim.dropout,
        config.run.activation_checkpointing,
    )
    outer = parallelize(model, config, device)
    optimizers = build_optimizers(model, config, dtype)
    penalised = decayed_parameters(optimizers)
    scale = LossScale() if config.run.precision == "fp16" else None
    passes = config.grad_accumulation_steps(gpu=device.type == "cuda")
    autocast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
    eos = None if config.data.packing == "concatenate" else job.eos_id
    meter = TrainingMetrics(model, device, dtype)
    with meter.timed("compile"):
        warm_up(outer, config, device, autocast, eos)

    state = State(
        model,
        optimizers,
        scale,
        ema=clone_weights(model) if config.optim.ema_decay else {},
        best=clone_weights(model) if config.optim.early_stopping_patience else {},
    )
    keeper = CheckpointManager(
        job.checkpoint_store or CheckpointStore.from_config(config, job.folder),
        job.compatibility_key,
    )
    with meter.timed("resume"):
        found = keeper.restore(state)
    first, notes = (found.step, found.metadata) if found else (0, {"line": {}, "losses": []})
    line = dict(notes["line"])
    last = first if "stopped" in line else config.steps

    def kept() -> int | None:
        keeper.wait()
        return keeper.latest_step

    watch = LossSpikeDetector(config.optim.loss_spike_sigma, kept, notes["losses"])
    feed = build_loader(config, tokens, job.seed, rank, world, cache, first, job.skip)
    if rank == 0:
        record_attempt(job.folder, first, world)
    journal = build_logger(job, first) if rank == 0 else NullLogger()

    with manual_gc(), closing(feed), closing(keeper), journal:
        for step in range(first, last):
            with meter.timed("data_wait"):
                batch = feed.batch(step)
            meter.digest += batch.digest
            inputs, targets = split_inputs_targets(to_device(batch.rows, device))
            counted = all_reduce_sum((targets >= 0).sum())
            keys: tuple[Tensor | None, ...] = (None,) * passes
            if config.optim.dropout:
                keys = to_device(dropout_keys(job.seed, batch.samples), device).chunk(passes)
            parts = zip(inputs.chunk(passes), targets.chunk(passes), keys, strict=True)
            for number, (x, y, key) in enumerate(parts):
                # Gradients travel once per step. DDP takes their mean over processes, but the
                # loss is a sum over all tokens of the step, wherever they were.
                with gradient_sync(outer, enabled=number == passes - 1):
                    with autocast:
                        loss = outer(
                            x,
                            y,
                            eos=eos,
                            dropout_keys=key,
                            label_smoothing=config.optim.label_smoothing,
                        )
                    (loss * (world / counted) * (scale.value if scale else 1.0)).backward()
                meter.add(loss, (y >= 0).sum())
            if scale:
                scale.unscale(model.parameters())
            if config.optim.l1 or config.optim.l2:
                add_penalty_gradients(penalised, config.optim.l1, config.optim.l2)
            norm = clip_gradients(model, config.optim.max_grad_norm or math.inf)
            meter.end_step(norm)
            rate = learning_rate(step, config)
            if scale is None or scale.update(norm):
                step_optimizers(optimizers, rate)
                if config.optim.ema_decay:
                    state.update_ema(config.optim.ema_decay, step)
            outer.zero_grad(set_to_none=True)

            done = step + 1
            ends = done == config.steps
            validates = len(fixed) > 0 and (ends or done % config.run.validation_interval == 0)
            saves = ends or done % config.run.checkpoint_interval == 0
            if saves or validates or done % config.run.log_interval == 0:
                figures, history = meter.read()
                watch.check_training(history, done, check_norms=scale is None or scale.is_exhausted)
                best = {name: line[name] for name in BEST_KEYS if name in line}
                seen = line.get("tokens", 0) + figures.pop("tokens")
                line = {"step": done, "tokens": int(seen), "learning_rate": rate}
                line |= {**figures, **best}
                if validates:
                    with meter.timed("validation"), state.eval_weights() as judged:
                        line["validation_loss"] = validate(judged, fixed, autocast, eos, len(x))
                    watch.check_validation(line["validation_loss"], done)
                    if config.optim.early_stopping_patience and should_stop(line, config, state):
                        line["stopped"] = "early"
                        saves = True
                line["clock"] = time.time()
                journal.write(line)
            if saves:
                notes = {"line": line, "losses": watch.losses}
                with meter.timed("checkpoint"):
                    must = ends or "stopped" in line
                    keeper.save(done, state, notes, meter.step_seconds, wait=must)
            if done % GC_INTERVAL == 0:
                gc.collect()
            if "stopped" in line:
                break
        keeper.wait()
    return state.final_weights(), line


def build_logger(job: TrainJob, start_step: int) -> MetricsLogger:
    """Where the run's figures go."""
    config, tracking = job.config, None
    if config.run.mlflow_tracking_uri:
        key = json_sha256([config.name, dict(job.compatibility_key)])
        tracking = MlflowLogger(
            config.run.mlflow_tracking_uri, config.name, key, flatten_sections(config.to_json())
        )
    return MetricsLogger(job.folder, start_step, tracking)


def should_stop(line: dict[str, Any], config: TrainConfig, state: State) -> bool:
    """Note in the line whether it is the best so far; tell whether patience is at its end.

    Prechelt 1998, "Early stopping, but when?": so many validations without improvement.
    """
    loss, best = line["validation_loss"], line.get("best_validation_loss", math.inf)
    if loss < best - config.optim.min_delta:
        state.save_best()
        line |= {"best_validation_loss": loss, "best_step": line["step"]}
        return False
    assert config.optim.early_stopping_patience is not None
    since: int = line["step"] - line["best_step"]
    return since >= config.optim.early_stopping_patience * config.run.validation_interval


@contextmanager
def manual_gc() -> Iterator[None]:
    """Keep the garbage collector from stopping one process while the others wait for it."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
