"""What the training loop, its launcher and its optimizers read of an entry, whatever it trains."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from lm.config.optim import OptimConfig
from lm.config.run import RunConfig

# Tokens per process and pass: about where the matrix kernels of a core reach their full speed.
CPU_MICRO_BATCH_TOKENS = 4096
GPU_MICRO_BATCH_TOKENS = 65_536

# The module of ``lm.train`` that gives the loop its model and its batches.
Workload = Literal["pretraining", "finetuning"]


class RunsOnThisMachine(Protocol):
    """An entry of the recipe whose models processes of this machine train."""

    @property
    def name(self) -> str:
        """The entry's name."""

    @property
    def run(self) -> RunConfig:
        """Where and how the training runs."""

    @property
    def field(self) -> str:
        """The entry's place in the recipe, such as ``train.tiny``, for messages."""


class LoopConfig(RunsOnThisMachine, Protocol):
    """What the training loop trains: one model."""

    @property
    def optim(self) -> OptimConfig:
        """How weights are updated."""

    @property
    def workload(self) -> Workload:
        """What it trains."""

    @property
    def steps(self) -> int:
        """Number of updates."""

    @property
    def sequences_per_step(self) -> int:
        """Number of sequences per step over all processes."""

    @property
    def sequences_per_process(self) -> int:
        """Number of sequences per step and process."""

    @property
    def uses_dropout_keys(self) -> bool:
        """Whether a training step needs the keys of its samples, from which dropout is drawn."""

    def grad_accumulation_steps(self, *, gpu: bool) -> int:
        """Return the passes per step over which a process accumulates gradients."""

    def weights_key(self) -> dict[str, Any]:
        """Return what the weights depend on, as nested JSON."""

    def to_record(self) -> Mapping[str, Any]:
        """Return all settings as JSON values that may be stored."""


def fewest_passes(sequences: int, length: int, *, gpu: bool) -> int:
    """Return the fewest equal passes in which a process can take its sequences of a step.

    Args:
        sequences: of the process.
        length: maximum tokens of one.
        gpu: whether it has a GPU.
    """
    max_tokens = GPU_MICRO_BATCH_TOKENS if gpu else CPU_MICRO_BATCH_TOKENS
    max_sequences = max(1, max_tokens // length)
    return next(
        n for n in range(1, sequences + 1) if sequences % n == 0 and sequences // n <= max_sequences
    )
