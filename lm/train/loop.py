"""The training loop, on one screen.

Every process calls ``train`` with the same job. Sums that decide anything (the gradient, the token
count, the logged losses) are taken over all processes. Between two lines of the log, no step waits
for the device. What happens beside the updates is in ``lm.train.callbacks``.
"""

import math
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lm.checkpoint.manager import CheckpointManager
from lm.distributed.parallel import (
    clip_gradients,
    gradient_sync,
    parallelize,
    pick_device,
    shard_rows,
)
from lm.distributed.ranks import all_reduce_sum, local_rank, rank_and_world_size
from lm.metrics.meter import TrainingMetrics
from lm.metrics.mlflow import require_mlflow
from lm.models.dropout import add_step_key, dropout_keys
from lm.objectives.examples import to_device
from lm.optim.loss_scale import LossScale
from lm.optim.optimizers import (
    add_penalty_gradients,
    build_optimizers,
    decayed_parameters,
    learning_rate,
    step_optimizers,
)
from lm.train.callbacks import (
    Callback,
    Checkpointing,
    EarlyStopping,
    ManualGC,
    MetricsLog,
    WeightAveraging,
)
from lm.train.job import TrainJob
from lm.train.loss_spike import LossSpikeDetector
from lm.train.state import State, Weights, clone_weights
from lm.train.validation import validate, warm_up
from lm.train.workload import open_workload

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def train(job: TrainJob) -> tuple[Weights, dict[str, Any]]:
    """Train from the newest checkpoint, or from the start, to the end.

    Args:
        job: what to train and how. Its data need a training split; without a validation split
            nothing is validated.

    Returns:
        ``(weights, last line of the log)``. On the first process the weights are whole, on the CPU,
        under the model's names; on the others they are empty.

    Raises:
        LossDivergedError: if the loss is NaN or spikes; on every process.
        CheckpointMismatchError: if the checkpoints are of another run.
        TooFewTokensError: if the training split is shorter than one row.
    """
    config, (rank, world_size) = job.config, rank_and_world_size()
    if config.run.mlflow_tracking_uri:
        require_mlflow(config.field)
    workload = open_workload(job)
    device, dtype = pick_device(config, local_rank()), DTYPES[config.run.precision]
    autocast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
    validation_rows, eos_id = workload.held_out_rows(), workload.eos

    torch.manual_seed(job.seed)
    model = workload.build_model().to(device)
    model.prepare_training(config)
    objective = workload.build_objective(model, training=True)
    full_objective = workload.build_objective(model, training=False)
    held_out = full_objective(validation_rows, np.arange(len(validation_rows))).to(device)
    carried = model.initial_state(config.sequences_per_process)
    wrapped_model = parallelize(model, config, device)
    optimizers = build_optimizers(model, config, dtype)
    penalized = decayed_parameters(optimizers)
    scale = LossScale() if config.run.precision == "fp16" else None
    accumulation_steps = config.grad_accumulation_steps(gpu=device.type == "cuda")
    metrics = TrainingMetrics(model, device, dtype)
    with metrics.timed("compile"):
        rows = workload.warm_up_rows(config.sequences_per_process // accumulation_steps)
        start_state = model.initial_state(len(rows))
        warm_up(wrapped_model, objective, rows, config, device, autocast, eos_id, start_state)

    patience, ema_decay = config.optim.early_stopping_patience, config.optim.ema_decay
    state = State(
        model,
        optimizers,
        scale,
        ema=clone_weights(model) if ema_decay else {},
        best=clone_weights(model) if patience else {},
        carried=None if carried is None else shard_rows(carried),
    )
    manager = CheckpointManager(job.checkpoint_store, job.compatibility_key)
    with metrics.timed("resume"):
        checkpoint = manager.restore(state)
    start = checkpoint.step if checkpoint else 0
    line = dict(checkpoint.metadata["line"]) if checkpoint else {}
    end = start if "stopped" in line else config.steps

    loader = workload.build_loader(rank, world_size, start)
    detector = LossSpikeDetector(
        config.optim.loss_spike_sigma,
        manager.wait,
        checkpoint.metadata["losses"] if checkpoint else (),
        check_norms=lambda: scale is None or scale.is_exhausted,
    )
    callbacks: list[Callback] = [ManualGC(), detector]
    if ema_decay:
        callbacks.append(WeightAveraging(state, ema_decay))
    if patience:
        patience_steps = patience * config.run.validation_interval
        callbacks.append(EarlyStopping(state, patience_steps, config.optim.min_delta, line))
    if rank == 0:
        callbacks.append(MetricsLog(job, start, world_size))
    # Behind the log, whose lines up to the step a checkpoint holds.
    callbacks.append(Checkpointing(job, manager, state, metrics, detector))

    with ExitStack() as stack:
        stack.enter_context(closing(loader))
        for callback in callbacks:
            stack.enter_context(callback)

        for step in range(start, end):
            with metrics.timed("data_wait"):
                batch = next(loader)
            metrics.digest += batch.digest
            examples = objective(batch.rows, batch.samples).to(device)
            examples = replace(examples, state=carried)
            step_targets = all_reduce_sum((examples.targets >= 0).sum())
            keys: tuple[Tensor | None, ...] = (None,) * accumulation_steps
            if config.uses_dropout_keys:
                sample_keys = dropout_keys(job.seed, batch.samples)
                all_keys = to_device(add_step_key(sample_keys, job.seed, step), device)
                keys = all_keys.chunk(accumulation_steps)
            micro_batches = zip(examples.chunk(accumulation_steps), keys, strict=True)
            for index, (part, key) in enumerate(micro_batches):
                # Gradients are reduced once per step. DDP takes their mean over processes, but the
                # loss is a sum over all targets of the step, on whichever process they are.
                with gradient_sync(wrapped_model, enabled=index == accumulation_steps - 1):
                    with autocast:
                        loss = wrapped_model(
                            part.inputs,
                            part.targets,
                            **part.extra_inputs(),
                            eos=eos_id,
                            dropout_keys=key,
                            label_smoothing=config.optim.label_smoothing,
                        )
                    (
                        loss * (world_size / step_targets) * (scale.value if scale else 1.0)
                    ).backward()
                metrics.add(loss, (part.targets >= 0).sum(), part.num_tokens.sum())
            if scale:
                scale.unscale(model.parameters())
            if config.optim.l1 or config.optim.l2:
                add_penalty_gradients(penalized, config.optim.l1, config.optim.l2)
            norm = clip_gradients(model, config.optim.max_grad_norm or math.inf)
            metrics.end_step(norm)
            lr = learning_rate(step, config)
            applied = scale is None or scale.update(norm)
            if applied:
                step_optimizers(optimizers, lr)
            wrapped_model.zero_grad(set_to_none=True)
            for callback in callbacks:
                callback.after_step(step, applied=applied)

            done = step + 1
            ends = done == config.steps
            validates = len(held_out) > 0 and (ends or done % config.run.validation_interval == 0)
            saves = ends or done % config.run.checkpoint_interval == 0
            if saves or validates or done % config.run.log_interval == 0:
                values, history = metrics.read()
                tokens_done = int(line.get("tokens", 0) + values.pop("tokens"))
                line = {"step": done, "tokens": tokens_done, "learning_rate": lr, **values}
                for callback in callbacks:
                    callback.on_metrics(line, history)
                if validates:
                    with metrics.timed("validation"), state.eval_weights() as eval_model:
                        line["validation_loss"] = validate(
                            eval_model, held_out, autocast, eos_id, len(part)
                        )
                    for callback in callbacks:
                        callback.on_validation(line)
                line["clock"] = time.time()
                for callback in callbacks:
                    callback.on_log(line)
                if "stopped" in line:
                    break
        manager.wait()
    return state.final_weights(), line
