"""The `run` section of an entry of the recipe's `train` list: processes, precision, checkpoints."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from infra.config import ConfigModel

# MLflow's own; a plugin's would run its code.
MLFLOW_SCHEMES = (
    *("http", "https", "databricks", "file"),
    *("sqlite", "postgresql", "mysql", "mssql"),
)
MAX_PROCESSES_PER_NODE = 1024  # a larger number is a typing error and would exhaust the machine


class RunConfig(ConfigModel):
    """Where and how the training runs: hardware, validation, checkpoints, restarts and logs."""

    num_processes: int = Field(
        2,
        ge=1,
        description=(
            "number of processes (data parallel), one per core or GPU; on a machine with one GPU: 1"
        ),
    )
    threads_per_process: int = Field(
        1,
        ge=1,
        le=1024,
        description=(
            "threads per process on a CPU; not taken from the machine, because the order in which "
            "sums are formed, and so the weights' last bits, depends on it"
        ),
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description=(
            "auto: GPUs if there is one for every process, else the CPU (a machine with fewer "
            "GPUs than processes gives a warning)"
        ),
    )
    precision: Literal["bf16", "fp16", "fp32"] = Field(
        "bf16",
        description=(
            "type of the matrix products (autocast); weights and sums are always fp32. fp16 scales "
            "the loss (Micikevicius et al. 2018, arXiv:1710.03740)"
        ),
    )
    data_parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description=(
            "ddp: every process holds all weights; fsdp: weights, gradients and optimizer state "
            "are sharded over the processes (PyTorch's fully_shard)"
        ),
    )
    activation_checkpointing: bool = Field(
        False,
        description=(
            "recompute the blocks' activations in the backward pass instead of keeping them: "
            "about a third more computation for a fraction of the memory"
        ),
    )
    compile: bool = Field(
        False, description="use torch.compile; the first step then takes tens of seconds"
    )
    deterministic: bool = Field(
        False, description="on a GPU: only kernels that give the same bits each time; slower"
    )
    validation_interval: int = Field(
        100, ge=1, description="steps between validations; the last step is always followed by one"
    )
    checkpoint_interval: int = Field(
        100, ge=1, description="steps between checkpoints; the last step is always saved"
    )
    keep_last: int = Field(
        2,
        ge=2,
        description=(
            "number of newest complete checkpoints to keep; at least two, because the newest may "
            "hold the update that made the loss diverge, and a rollback then starts from the one "
            "before"
        ),
    )
    keep_interval: int = Field(
        0,
        ge=0,
        description=(
            "checkpoints whose step is a multiple of this are kept as well, and committed with the "
            "model; 0: none"
        ),
    )
    checkpoint_url: str | None = Field(
        None,
        min_length=1,
        description=(
            "folder or URL, such as s3://bucket/checkpoints, for the checkpoints of a training run "
            "that is not finished; default: this machine's cache"
        ),
    )
    storage_timeout: float = Field(
        600.0,
        ge=0,
        description=(
            "seconds that a remote checkpoint store may be unreachable before the run aborts; it "
            "can be resumed later"
        ),
    )
    max_restarts: int = Field(
        3, ge=0, description="number of crashes after which a run resumes from its last checkpoint"
    )
    max_rollbacks: int = Field(
        3,
        ge=0,
        description=(
            "number of times that a run whose loss is NaN or spikes restarts from the last good "
            "checkpoint without the batches that caused it"
        ),
    )
    num_nodes: int = Field(
        1,
        ge=1,
        description=(
            "number of machines, of which num_processes must be a multiple; the others run "
            "`gristmill train-node` (docs/checkpoints.md, Several machines)"
        ),
    )
    rendezvous: str | None = Field(
        None,
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:/]+):[0-9]{1,5}$",
        description="with num_nodes: host:port of the first machine, to which all processes connect",
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        min_length=1,
        description=(
            "MLflow tracking server that metrics are logged to as well, such as http://host:5000; "
            "needs gristmill[mlflow]"
        ),
    )
    watts: float | None = Field(
        None,
        gt=0,
        description=(
            "electric power that training draws, all machines together, for the leaderboard's estimate "
            "of energy where the hardware does not count it; default: no estimate"
        ),
    )
    log_interval: int = Field(10, ge=1, description="steps between lines of the log")

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _check_tracking_uri(cls, uri: str | None) -> str | None:
        scheme = uri.partition(":")[0].partition("+")[0] if uri is not None and ":" in uri else None
        if scheme is not None and scheme not in MLFLOW_SCHEMES:
            raise ValueError(f"{scheme!r} is not one of {', '.join(MLFLOW_SCHEMES)}")
        return uri

    @model_validator(mode="after")
    def _check_nodes(self) -> Self:
        if self.num_processes % self.num_nodes:
            raise ValueError(
                f"num_processes {self.num_processes} is not a multiple of num_nodes {self.num_nodes}"
            )
        if self.local_processes > MAX_PROCESSES_PER_NODE:
            raise ValueError(
                f"num_processes {self.num_processes} means {self.local_processes} on each of "
                f"{self.num_nodes} machines; the maximum is {MAX_PROCESSES_PER_NODE}"
            )
        for field in ("rendezvous", "checkpoint_url"):
            if self.num_nodes > 1 and getattr(self, field) is None:
                raise ValueError(
                    f"{field} is required with num_nodes {self.num_nodes}: all machines use it"
                )
        return self

    @property
    def local_processes(self) -> int:
        """Number of processes on each machine."""
        return self.num_processes // self.num_nodes

    @property
    def cpu_cores(self) -> int:
        """Number of this machine's cores that training on the CPU keeps busy."""
        return self.local_processes * self.threads_per_process
