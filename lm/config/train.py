"""An entry of the recipe's `train` list: one model to train."""

from typing import Any, Self

from pydantic import model_validator

from lm.config.data import DataConfig
from lm.config.model import ModelConfig
from lm.config.optim import OptimConfig
from lm.config.run import OPERATIONAL_FIELDS, RunConfig

DEFAULT_STEP_TOKENS = 4096  # default tokens per step: beside it, an update's own cost is small
DEFAULT_VALIDATION_TOKENS = 65_536  # default
CPU_MICRO_BATCH_TOKENS = (
    4096  # per process and pass: about where a core's matrix kernels are at speed
)
GPU_MICRO_BATCH_TOKENS = 65_536
MAX_PROCESSES_PER_NODE = (
    1024  # on one machine: more are a slip of the hand, and would bring it down
)


class TrainConfig(RunConfig, OptimConfig, DataConfig, ModelConfig):
    """A decoder and how it is trained.

    Defaults hold for the sizes that a laptop trains, from one to some ten million parameters; the
    sources are named with the fields. "Measured" refers to the table in docs/train.md.
    """

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"width {self.hidden_size} is not a multiple of heads {self.num_heads}"
            )
        if self.architecture == "gpt2" and (self.num_kv_heads or self.num_heads) != self.num_heads:
            raise ValueError("kv_heads: layout gpt2 has as many as heads")
        if self.architecture == "llama" and self.bias:
            raise ValueError("bias: layout llama has none")
        if self.architecture == "llama" and self.hidden_size // self.num_heads % 2:
            raise ValueError(
                f"width/heads is {self.hidden_size // self.num_heads}; rotary positions need an even number"
            )
        if self.num_heads % (self.num_kv_heads or self.num_heads):
            raise ValueError(
                f"heads {self.num_heads} is not a multiple of kv_heads {self.num_kv_heads}"
            )
        if self.num_processes % self.num_nodes:
            raise ValueError(
                f"processes {self.num_processes} is not a multiple of nodes {self.num_nodes}"
            )
        if self.local_processes > MAX_PROCESSES_PER_NODE:
            raise ValueError(
                f"processes {self.num_processes} are {self.local_processes} on each of {self.num_nodes} "
                f"machines; at most {MAX_PROCESSES_PER_NODE} are possible"
            )
        for field, value in (("rendezvous", self.rendezvous), ("checkpoints", self.checkpoint_url)):
            if self.num_nodes > 1 and value is None:
                raise ValueError(f"{field}: nodes {self.num_nodes} need one that all of them reach")
        if self.sequences_per_step % self.num_processes:
            raise ValueError(
                f"batch {self.sequences_per_step} is not a multiple of processes {self.num_processes}"
            )
        if self.micro_batch_size and self.sequences_per_process % self.micro_batch_size:
            raise ValueError(
                f"{self.sequences_per_process} sequences per process and step are not a multiple of "
                f"micro_batch {self.micro_batch_size}"
            )
        if 0 < self.effective_validation_tokens < self.context_length:
            raise ValueError(
                f"validation_tokens {self.validation_tokens} are less than one row of context "
                f"{self.context_length}: nothing would be validated; 0 says so"
            )
        if self.early_stopping_patience and not self.effective_validation_tokens:
            raise ValueError("patience needs held-out tokens: set validation_tokens above 0")
        return self

    @property
    def sequences_per_step(self) -> int:
        """Sequences per step over all processes."""
        whole = max(1, round(DEFAULT_STEP_TOKENS / self.context_length / self.num_processes))
        return self.global_batch_size or whole * self.num_processes

    @property
    def sequences_per_process(self) -> int:
        """Sequences per step and process."""
        return self.sequences_per_step // self.num_processes

    @property
    def effective_validation_tokens(self) -> int:
        """Held-out tokens that the validation loss is taken over, at most; 0: no validation."""
        if self.validation_tokens is None:
            return max(DEFAULT_VALIDATION_TOKENS, self.context_length)
        return self.validation_tokens

    @property
    def steps(self) -> int:
        """Updates in all: enough for ``tokens``, at least one."""
        return max(1, round(self.train_tokens / (self.sequences_per_step * self.context_length)))

    @property
    def local_processes(self) -> int:
        """Processes on each machine."""
        return self.num_processes // self.num_nodes

    @property
    def cpu_cores(self) -> int:
        """Cores of this machine that the run keeps busy when it is trained on the CPU."""
        return self.local_processes * self.threads_per_process

    def grad_accumulation_steps(self, *, gpu: bool) -> int:
        """Passes per step over which a process accumulates gradients: the fewest that fit."""
        if self.micro_batch_size:
            return self.sequences_per_process // self.micro_batch_size
        most = max(
            1, (GPU_MICRO_BATCH_TOKENS if gpu else CPU_MICRO_BATCH_TOKENS) // self.context_length
        )
        return next(
            n
            for n in range(1, self.sequences_per_process + 1)
            if self.sequences_per_process % n == 0 and self.sequences_per_process // n <= most
        )

    def architecture_key(self) -> dict[str, Any]:
        """What fixes the parameters but for the vocabulary, as in the model's ``config.json``."""
        found = {
            "layout": self.architecture,
            "layers": self.num_layers,
            "width": self.hidden_size,
            "heads": self.num_heads,
            "kv_heads": self.num_kv_heads or self.num_heads,
            "hidden": self.effective_ffn_size,
            "tied": self.tie_embeddings,
            "bias": self.bias,
        }
        if self.architecture == "gpt2":
            found["context"] = self.context_length  # its positions are learned
        return found

    def weights_key(self) -> dict[str, Any]:
        """What the weights depend on, as JSON: all fields but the operational ones."""
        left_out = (
            OPERATIONAL_FIELDS - {"validation_every"}
            if self.early_stopping_patience
            else OPERATIONAL_FIELDS
        )
        return {key: value for key, value in self.to_json().items() if key not in left_out}
