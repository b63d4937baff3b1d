"""An entry of the recipe's `train` list whose model the training loop trains."""

from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from infra.config import EXPANDED
from lm.config.data import DataConfig
from lm.config.entry import DEFAULT_FAMILY, SeededEntry
from lm.config.loop import Workload, fewest_passes
from lm.config.model import ModelSection
from lm.config.optim import OptimConfig
from lm.config.run import RunConfig

# Default tokens per step: the cost of an update itself is small beside that of so many.
DEFAULT_STEP_TOKENS = 4096
DEFAULT_VALIDATION_TOKENS = 65_536

# No weight depends on these fields of each section, so changing one does not train again.
OPERATIONAL_FIELDS = {
    "data": frozenset({"shard_cache_bytes"}),
    "run": frozenset(
        {
            "validation_interval",
            "checkpoint_interval",
            "keep_last",
            "keep_interval",
            "checkpoint_url",
            "storage_timeout",
            "max_restarts",
            "max_rollbacks",
            "num_nodes",
            "rendezvous",
            "mlflow_tracking_uri",
            "log_interval",
            "watts",
        }
    ),
}


class TrainConfig(SeededEntry):
    """A neural language model and how it is trained: the base of such families' entries."""

    # Whether each token of a row is predicted from those before it.
    predicts_next_token: ClassVar[bool] = True

    init_from: str | None = Field(
        None,
        description=(
            "name of an earlier entry of `train` whose weights this one starts from, as a further "
            "training stage (docs/train.md, Stages); default: random weights"
        ),
    )
    model: ModelSection
    data: DataConfig
    optim: OptimConfig = Field(default_factory=OptimConfig)
    run: RunConfig = Field(default_factory=RunConfig)

    @model_validator(mode="after")
    def _check_sections(self) -> Self:
        """Check what concerns more than one section."""
        context_length = self.model.context_length
        if self.sequences_per_step % self.run.num_processes:
            raise ValueError(
                f"data.global_batch_size {self.sequences_per_step} is not a multiple of "
                f"run.num_processes {self.run.num_processes}"
            )
        micro_batch_size = self.data.micro_batch_size
        if micro_batch_size and self.sequences_per_process % micro_batch_size:
            raise ValueError(
                f"{self.sequences_per_process} sequences per process and step are not a multiple of "
                f"data.micro_batch_size {micro_batch_size}"
            )
        if 0 < self.effective_validation_tokens < context_length:
            raise ValueError(
                f"data.validation_tokens {self.data.validation_tokens} is less than one row of "
                f"model.context_length {context_length}, so nothing would be validated; "
                "set 0 for no validation"
            )
        if self.data.goldfish is not None and not self.predicts_next_token:
            raise ValueError(
                f"data.goldfish is for models that predict next tokens, not for family {self.family}"
            )
        if self.optim.early_stopping_patience and not self.effective_validation_tokens:
            raise ValueError(
                "optim.early_stopping_patience needs held-out tokens: "
                "set data.validation_tokens above 0"
            )
        return self

    @property
    def field(self) -> str:
        """See ``LoopConfig``."""
        return f"train.{self.name}"

    @property
    def workload(self) -> Workload:
        """See ``LoopConfig``."""
        return "pretraining"

    @property
    def package(self) -> str:
        """The package of ``lm.models`` that holds the model; it is in a model's ``config.json``."""
        return self.family

    @property
    def uses_dropout_keys(self) -> bool:
        """Whether a training step needs the keys of its samples, from which dropout is drawn."""
        return bool(self.optim.dropout)

    @property
    def carries_state(self) -> bool:
        """Whether a sequence continues the one at its place in the batch before it."""
        return False

    @property
    def sequences_per_step(self) -> int:
        """Number of sequences per step over all processes."""
        processes = self.run.num_processes
        per_process = max(1, round(DEFAULT_STEP_TOKENS / self.model.context_length / processes))
        return self.data.global_batch_size or per_process * processes

    @property
    def sequences_per_process(self) -> int:
        """Number of sequences per step and process."""
        return self.sequences_per_step // self.run.num_processes

    @property
    def effective_validation_tokens(self) -> int:
        """Maximum number of held-out tokens for the validation loss; 0: no validation."""
        if self.data.validation_tokens is None:
            return max(DEFAULT_VALIDATION_TOKENS, self.model.context_length)
        return self.data.validation_tokens

    @property
    def steps(self) -> int:
        """Number of updates: as many as ``train_tokens`` make, at least one."""
        step_tokens = self.sequences_per_step * self.model.context_length
        return max(1, round(self.data.train_tokens / step_tokens))

    def grad_accumulation_steps(self, *, gpu: bool) -> int:
        """Return the passes per step over which a process accumulates gradients: the fewest that fit."""
        if self.data.micro_batch_size:
            return self.sequences_per_process // self.data.micro_batch_size
        return fewest_passes(self.sequences_per_process, self.model.context_length, gpu=gpu)

    def weights_key(self) -> dict[str, Any]:
        """Return what the weights depend on, as nested JSON: all fields except the operational ones.

        The seed is not in it: it may be the recipe's.

        The decoder has no ``family`` in it, and data without ``goldfish`` no such key: models that were
        trained before there were others keep their names.
        """
        key = self.model_dump(
            mode="json",
            exclude={
                "name": True,
                "seed": True,
                "seeds": True,
                **({"family": True} if self.family == DEFAULT_FAMILY else {}),
                **{name: set(fields) for name, fields in OPERATIONAL_FIELDS.items()},
            },
            context=EXPANDED,
        )
        if self.data.goldfish is None:
            del key["data"]["goldfish"]
        if self.optim.early_stopping_patience:
            key["run"]["validation_interval"] = self.run.validation_interval
        return key
