"""An entry of the recipe's `train` list: one model to train."""

from typing import Any, Self

from pydantic import model_validator

from lm.config.data import DataPart
from lm.config.model import ModelPart
from lm.config.optim import UpdatePart
from lm.config.run import OPERATIONAL, KeepPart

STEP_TOKENS = 4096  # default tokens per step: beside it, an update's own cost is small
VALIDATION_TOKENS = 65_536  # default
CPU_PASS_TOKENS = 4096  # per process and pass: about where a core's matrix kernels are at speed
GPU_PASS_TOKENS = 65_536
MOST_PROCESSES = 1024  # on one machine: more are a slip of the hand, and would bring it down


class TrainConfig(KeepPart, UpdatePart, DataPart, ModelPart):
    """A decoder and how it is trained.

    Defaults hold for the sizes that a laptop trains, from one to some ten million parameters; the
    sources are named with the fields. "Measured" refers to the table in docs/train.md.
    """

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.layout == "gpt2" and (self.kv_heads or self.heads) != self.heads:
            raise ValueError("kv_heads: layout gpt2 has as many as heads")
        if self.layout == "llama" and self.bias:
            raise ValueError("bias: layout llama has none")
        if self.layout == "llama" and self.width // self.heads % 2:
            raise ValueError(
                f"width/heads is {self.width // self.heads}; rotary positions need an even number"
            )
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.processes % self.nodes:
            raise ValueError(f"processes {self.processes} is not a multiple of nodes {self.nodes}")
        if self.processes_here > MOST_PROCESSES:
            raise ValueError(
                f"processes {self.processes} are {self.processes_here} on each of {self.nodes} "
                f"machines; at most {MOST_PROCESSES} are possible"
            )
        for field, value in (("rendezvous", self.rendezvous), ("checkpoints", self.checkpoints)):
            if self.nodes > 1 and value is None:
                raise ValueError(f"{field}: nodes {self.nodes} need one that all of them reach")
        if self.sequences % self.processes:
            raise ValueError(
                f"batch {self.sequences} is not a multiple of processes {self.processes}"
            )
        if self.micro_batch and self.per_process % self.micro_batch:
            raise ValueError(
                f"{self.per_process} sequences per process and step are not a multiple of "
                f"micro_batch {self.micro_batch}"
            )
        if 0 < self.held_out_tokens < self.context:
            raise ValueError(
                f"validation_tokens {self.validation_tokens} are less than one row of context "
                f"{self.context}: nothing would be validated; 0 says so"
            )
        if self.patience and not self.held_out_tokens:
            raise ValueError("patience needs held-out tokens: set validation_tokens above 0")
        return self

    @property
    def sequences(self) -> int:
        """Sequences per step over all processes."""
        whole = max(1, round(STEP_TOKENS / self.context / self.processes))
        return self.batch or whole * self.processes

    @property
    def per_process(self) -> int:
        """Sequences per step and process."""
        return self.sequences // self.processes

    @property
    def held_out_tokens(self) -> int:
        """Held-out tokens that the validation loss is taken over, at most; 0: no validation."""
        if self.validation_tokens is None:
            return max(VALIDATION_TOKENS, self.context)
        return self.validation_tokens

    @property
    def steps(self) -> int:
        """Updates in all: enough for ``tokens``, at least one."""
        return max(1, round(self.tokens / (self.sequences * self.context)))

    @property
    def processes_here(self) -> int:
        """Processes on each machine."""
        return self.processes // self.nodes

    @property
    def slots(self) -> int:
        """Cores of this machine that the run keeps busy when it is trained on the CPU."""
        return self.processes_here * self.threads

    def passes(self, *, gpu: bool) -> int:
        """Passes per step over which a process accumulates gradients: the fewest that fit."""
        if self.micro_batch:
            return self.per_process // self.micro_batch
        most = max(1, (GPU_PASS_TOKENS if gpu else CPU_PASS_TOKENS) // self.context)
        return next(
            n
            for n in range(1, self.per_process + 1)
            if self.per_process % n == 0 and self.per_process // n <= most
        )

    def architecture(self) -> dict[str, Any]:
        """What fixes the parameters but for the vocabulary, as in the model's ``config.json``."""
        found = {
            "layout": self.layout,
            "layers": self.layers,
            "width": self.width,
            "heads": self.heads,
            "kv_heads": self.kv_heads or self.heads,
            "hidden": self.hidden_width,
            "tied": self.tied,
            "bias": self.bias,
        }
        if self.layout == "gpt2":
            found["context"] = self.context  # its positions are learned
        return found

    def essence(self) -> dict[str, Any]:
        """What the weights depend on, as JSON: all fields but the operational ones."""
        left_out = OPERATIONAL - {"validation_every"} if self.patience else OPERATIONAL
        return {key: value for key, value in self.facts().items() if key not in left_out}
