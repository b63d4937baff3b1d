"""An entry of the recipe's `train` list: one model to train."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from infra.config import Section

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

# Fields that say how a run is watched, kept and restarted. No weight depends on them, so changing
# one does not train again.
OPERATIONAL = frozenset(
    {"name", "log_every", "validation_every", "checkpoint_every", "keep", "restarts"}
)
HIDDEN_MULTIPLE = 32  # hidden widths are rounded to it, for the matrix kernels' sake
STEP_TOKENS = 4096  # default tokens per step: beside it, an update's own cost is small
CPU_PASS_TOKENS = 4096  # per process and pass: about where a core's matrix kernels are at speed
GPU_PASS_TOKENS = 65_536


class TrainConfig(Section):
    """A decoder in Llama's layout and how it is trained.

    Defaults hold for the sizes that a laptop trains, from one to some ten million parameters; the
    sources are named with the fields. "Measured" refers to the table in docs/train.md.
    """

    name: Name = Field(description="names the model in folders, reports and exports")

    layers: int = Field(ge=1, description="number of blocks")
    width: int = Field(ge=8, description="width of the residual stream")
    heads: int = Field(ge=1, description="number of attention heads; divides the width")
    kv_heads: int | None = Field(
        None, ge=1, description="number of key and value heads; default: as many as heads"
    )
    hidden: int | None = Field(
        None,
        ge=8,
        description=(
            "hidden width of the feed-forward; default: 8/3 of the width, rounded to a multiple "
            "of 32 (Touvron et al. 2023, section 2.2)"
        ),
    )
    context: int = Field(256, ge=8, description="tokens that a prediction looks back on, at most")
    tied: bool = Field(
        True,
        description="whether the head is the embedding (Press & Wolf 2017, arXiv:1608.05859)",
    )

    tokens: int = Field(ge=1, description="tokens to train on, in all")
    batch: int | None = Field(
        None,
        ge=1,
        description=(
            "sequences per step over all processes; default: as many as make 4,096 tokens "
            "(measured: larger steps learn less per token, smaller ones cost more per token)"
        ),
    )
    micro_batch: int | None = Field(
        None,
        ge=1,
        description=(
            "sequences per process in one pass, gradients being accumulated over passes; "
            "default: what makes at most 4,096 tokens on a CPU, 65,536 on a GPU"
        ),
    )
    processes: int = Field(2, ge=1, description="processes (data parallel), one per core or GPU")
    threads: int = Field(
        1,
        ge=1,
        description=(
            "threads per process on a CPU; not taken from the machine, because the order in which "
            "sums are formed, hence the weights' last bits, depends on it"
        ),
    )

    optimizer: Literal["muon", "adamw"] = Field(
        "muon",
        description=(
            "muon: the blocks' matrices by Muon (Jordan et al. 2024), the rest by AdamW; "
            "adamw: everything by AdamW (Loshchilov & Hutter 2019)"
        ),
    )
    learning_rate: float = Field(
        0.01,
        gt=0,
        description="peak rate (measured for muon; try 0.001 to 0.004 with adamw)",
    )
    embedding_ratio: float = Field(
        10.0,
        gt=0,
        description=(
            "with muon: the rate of what AdamW moves (embedding, head, norms) as a multiple of "
            "learning_rate (measured)"
        ),
    )
    min_ratio: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "the last step's rate as a share of the peak; 0 after Bergsma et al. 2025 "
            "(arXiv:2502.15938), and measured"
        ),
    )
    warmup: float = Field(
        0.03, ge=0, lt=1, description="share of the steps over which the rate rises to its peak"
    )
    weight_decay: float = Field(
        0.1, ge=0, description="of matrices in the blocks (Brown et al. 2020, appendix B)"
    )
    betas: tuple[float, float] = Field(
        (0.9, 0.95), description="AdamW's averaging (Brown et al. 2020, appendix B)"
    )
    momentum: float = Field(0.95, ge=0, lt=1, description="Muon's averaging (Jordan et al. 2024)")
    clip: float = Field(
        1.0, ge=0, description="largest norm of the gradient; 0: any (Brown et al. 2020)"
    )

    precision: Literal["bf16", "fp32"] = Field(
        "bf16", description="type of the matrix products; weights and sums are fp32 in either"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU if there is one"
    )
    compile: bool = Field(False, description="torch.compile; its first step takes tens of seconds")

    validation_tokens: int = Field(
        65_536, ge=0, description="held-out tokens that the validation loss is taken over, at most"
    )
    validation_every: int = Field(
        100, ge=1, description="steps between validations; the last step is always followed by one"
    )
    checkpoint_every: int = Field(
        100, ge=1, description="steps between checkpoints; the last step is always kept"
    )
    keep: int = Field(2, ge=1, description="number of complete checkpoints to keep")
    restarts: int = Field(
        3, ge=0, description="times that a run goes on from its last checkpoint after a crash"
    )
    log_every: int = Field(10, ge=1, description="steps between lines of the log")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.width // self.heads % 2:
            raise ValueError(
                f"width/heads is {self.width // self.heads}; rotary positions need an even number"
            )
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.sequences % self.processes:
            raise ValueError(
                f"batch {self.sequences} is not a multiple of processes {self.processes}"
            )
        if self.micro_batch and self.per_process % self.micro_batch:
            raise ValueError(
                f"{self.per_process} sequences per process and step are not a multiple of "
                f"micro_batch {self.micro_batch}"
            )
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
    def steps(self) -> int:
        """Updates in all: enough for ``tokens``, at least one."""
        return max(1, round(self.tokens / (self.sequences * self.context)))

    @property
    def hidden_width(self) -> int:
        """Hidden width of the feed-forward."""
        rounded = round(self.width * 8 / 3 / HIDDEN_MULTIPLE) * HIDDEN_MULTIPLE
        return self.hidden or max(HIDDEN_MULTIPLE, rounded)

    @property
    def slots(self) -> int:
        """Cores of this machine that the run keeps busy when it is trained on the CPU."""
        return self.processes * self.threads

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

    def essence(self) -> dict[str, Any]:
        """What the weights depend on, as JSON: all fields but the operational ones."""
        return {key: value for key, value in self.facts().items() if key not in OPERATIONAL}
