"""How weights are moved: a part of an entry of the recipe's `train` list."""

from typing import Literal

from pydantic import Field

from infra.config import Section


class UpdatePart(Section):
    """Processes, optimizer, schedule and precision."""

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
