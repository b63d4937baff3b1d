"""The `optim` section of an entry of the recipe's `train` list: how weights are updated."""

from typing import Annotated, Literal

from pydantic import Field

from infra.config import ConfigModel

Decay = Annotated[float, Field(ge=0, lt=1)]  # of a running average, per step


class OptimConfig(ConfigModel):
    """Optimizer, learning rate schedule, regularization, weight averaging and early stopping."""

    optimizer: Literal["muon", "adamw"] = Field(
        "muon",
        description=(
            "muon: the blocks' matrices by Muon (Jordan et al. 2024), the rest by AdamW; "
            "adamw: everything by AdamW (Loshchilov & Hutter 2019)"
        ),
    )
    lr: float = Field(
        0.01,
        gt=0,
        description="peak learning rate (measured for muon; try 0.001 to 0.004 with adamw)",
    )
    embedding_lr_multiplier: float = Field(
        10.0,
        gt=0,
        description=(
            "with muon: the learning rate of the parameters that AdamW updates (embedding, head, "
            "norms) as a multiple of lr (measured)"
        ),
    )
    schedule: Literal["cosine", "wsd", "linear"] = Field(
        "cosine",
        description=(
            "how the learning rate falls after the warm-up: cosine (Loshchilov & Hutter 2017), "
            "linear, or wsd: constant, then over the last decay_fraction of the steps by 1 - sqrt "
            "(Haegele et al. 2024, arXiv:2405.18392)"
        ),
    )
    decay_fraction: float = Field(
        0.2,
        gt=0,
        le=1,
        description="schedule wsd: fraction of the steps over which the learning rate falls",
    )
    min_lr_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "final learning rate as a fraction of lr, which the step after the last would have; 0 "
            "after Bergsma et al. 2025 (arXiv:2502.15938), and measured"
        ),
    )
    warmup_fraction: float = Field(
        0.03,
        ge=0,
        lt=1,
        description="fraction of the steps over which the learning rate rises to its peak",
    )
    weight_decay: float = Field(
        0.1, ge=0, description="of the blocks' matrices (Brown et al. 2020, appendix B)"
    )
    weight_decay_embeddings: bool = Field(
        False,
        description="whether embeddings (and an untied head) are decayed as well, as in nanoGPT",
    )
    l1: float = Field(
        0.0,
        ge=0,
        description="L1 penalty: this times the sign of a decayed weight is added to its gradient",
    )
    l2: float = Field(
        0.0,
        ge=0,
        description=(
            "L2 penalty: this times a decayed weight is added to its gradient, in addition to "
            "weight_decay"
        ),
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "fraction of the embedding's and of each sublayer's output that training drops "
            "(Srivastava et al. 2014); drawn from seed, step and sample, so that it does not "
            "depend on the number of processes"
        ),
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "fraction of the target that is spread over the vocabulary (Szegedy et al. 2016); the "
            "training loss in the log includes it, the validation loss does not"
        ),
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description=(
            "decay per step of an exponential moving average of the weights (at most "
            "(1 + t) / (10 + t) in step t, so that the first steps do not dominate it), which is "
            "then validated and kept (Polyak & Juditsky 1992); try 0.999"
        ),
    )
    early_stopping_patience: int | None = Field(
        None,
        ge=1,
        description=(
            "number of validations without a better loss after which training stops; the weights "
            "of the best one are kept; default: training runs to the end"
        ),
    )
    min_delta: float = Field(
        0.0,
        ge=0,
        description=(
            "with early_stopping_patience: nats by which a loss must be lower to count as better"
        ),
    )
    loss_spike_sigma: float | None = Field(
        None,
        gt=0,
        description=(
            "a step whose loss is this many standard deviations above the mean of the 128 steps "
            "before it is a loss spike and leads to a rollback, as NaN and Inf always do; "
            "docs/checkpoints.md describes what follows; default: only NaN and Inf; try 8"
        ),
    )
    adam_betas: tuple[Decay, Decay] = Field(
        (0.9, 0.95), description="AdamW's averaging (Brown et al. 2020, appendix B)"
    )
    muon_momentum: float = Field(
        0.95, ge=0, lt=1, description="Muon's averaging (Jordan et al. 2024)"
    )
    max_grad_norm: float = Field(
        1.0,
        ge=0,
        description="norm to which gradients are clipped; 0: no clipping (Brown et al. 2020)",
    )
