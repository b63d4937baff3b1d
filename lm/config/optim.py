"""How weights are moved: a part of an entry of the recipe's `train` list."""

from typing import Annotated, Literal

from pydantic import Field

from infra.config import ConfigModel

Decay = Annotated[float, Field(ge=0, lt=1)]  # of a running average, per step


class OptimConfig(ConfigModel):
    """Processes, optimizer, schedule and precision."""

    num_processes: int = Field(
        2,
        ge=1,
        description=(
            "processes (data parallel), one per core or GPU; on a machine with one GPU: 1"
        ),
    )
    threads_per_process: int = Field(
        1,
        ge=1,
        le=1024,
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
    embedding_lr_multiplier: float = Field(
        10.0,
        gt=0,
        description=(
            "with muon: the rate of what AdamW moves (embedding, head, norms) as a multiple of "
            "learning_rate (measured)"
        ),
    )
    schedule: Literal["cosine", "wsd", "linear"] = Field(
        "cosine",
        description=(
            "how the rate falls after the warm-up: cosine (Loshchilov & Hutter 2017), linear, or "
            "wsd: level, then over the last `cooldown` of the steps by 1 - sqrt (Haegele et al. "
            "2024, arXiv:2405.18392)"
        ),
    )
    decay_fraction: float = Field(
        0.2, gt=0, le=1, description="schedule wsd: share of the steps over which the rate falls"
    )
    min_lr_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "where the rate falls to, as a share of the peak: a step after the last would have it; 0 "
            "after Bergsma et al. 2025 (arXiv:2502.15938), and measured"
        ),
    )
    warmup_fraction: float = Field(
        0.03, ge=0, lt=1, description="share of the steps over which the rate rises to its peak"
    )
    weight_decay: float = Field(
        0.1, ge=0, description="of matrices in the blocks (Brown et al. 2020, appendix B)"
    )
    weight_decay_embeddings: bool = Field(
        False, description="whether embeddings (and an untied head) decay as well, as in nanoGPT"
    )
    l1: float = Field(
        0.0, ge=0, description="times the sign of what decays is added to its gradient"
    )
    l2: float = Field(
        0.0, ge=0, description="times the weight is added to its gradient, beside weight_decay"
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "share of the embedding's and of each sublayer's output that is left out in training "
            "(Srivastava et al. 2014); drawn from seed, step and sample, whichever process has it"
        ),
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "share of the target spread over the vocabulary (Szegedy et al. 2016); the training "
            "loss in the log includes it, the validation loss does not"
        ),
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description=(
            "per step decay of an exponential moving average of the weights (early in a run at most "
            "(1 + t) / (10 + t) in step t, so that the beginning is soon forgotten), which is then what "
            "is validated and kept (Polyak & Juditsky 1992); try 0.999"
        ),
    )
    early_stopping_patience: int | None = Field(
        None,
        ge=1,
        description=(
            "validations without a better loss after which training stops; the weights of the "
            "best one are kept. Default: trains to the end"
        ),
    )
    min_delta: float = Field(
        0.0, ge=0, description="with patience: nats by which a loss must be lower to be better"
    )
    loss_spike_sigma: float | None = Field(
        None,
        gt=0,
        description=(
            "a step whose loss is so many standard deviations above the mean of the 128 steps "
            "before it ends the attempt, as a loss that is no number always does; what follows "
            "is described in docs/checkpoints.md. Default: only what is no number does; try 8"
        ),
    )
    adam_betas: tuple[Decay, Decay] = Field(
        (0.9, 0.95), description="AdamW's averaging (Brown et al. 2020, appendix B)"
    )
    muon_momentum: float = Field(
        0.95, ge=0, lt=1, description="Muon's averaging (Jordan et al. 2024)"
    )
    max_grad_norm: float = Field(
        1.0, ge=0, description="largest norm of the gradient; 0: any (Brown et al. 2020)"
    )

    precision: Literal["bf16", "fp16", "fp32"] = Field(
        "bf16",
        description=(
            "type of the matrix products (autocast); weights and sums are fp32 in any. fp16 scales "
            "the loss (Micikevicius et al. 2018, arXiv:1710.03740)"
        ),
    )
    data_parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description=(
            "ddp: every process holds all weights; fsdp: each holds its share of weights, "
            "gradients and optimizer state (PyTorch's fully_shard)"
        ),
    )
    activation_checkpointing: bool = Field(
        False,
        description=(
            "make the blocks' activations again in the backward pass instead of keeping them: "
            "about a third more work for a fraction of the memory"
        ),
    )
    deterministic: bool = Field(
        False, description="on a GPU: only kernels that give the same bits each time; slower"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description=(
            "auto: GPUs if there is one for every process, else the CPU (a run on a machine with "
            "fewer GPUs than processes says so)"
        ),
    )
    compile: bool = Field(False, description="torch.compile; its first step takes tens of seconds")
