"""How a run is watched, kept and restarted: a part of an entry of the recipe's `train` list."""

from pydantic import Field

from infra.config import ConfigModel

# No weight depends on these fields, so changing one does not train again.
OPERATIONAL_FIELDS = frozenset(
    {
        "name",
        "log_every",
        "mlflow",
        "validation_every",
        "checkpoint_every",
        "keep",
        "keep_every",
        "checkpoints",
        "cache_bytes",
        "store_patience",
        "restarts",
        "branches",
        "nodes",
        "rendezvous",
    }
)


class RunConfig(ConfigModel):
    """Checkpoints, validations, restarts and the log."""

    validation_interval: int = Field(
        100, ge=1, description="steps between validations; the last step is always followed by one"
    )
    checkpoint_interval: int = Field(
        100, ge=1, description="steps between checkpoints; the last step is always kept"
    )
    keep_last: int = Field(
        2,
        ge=2,
        description=(
            "number of newest complete checkpoints to keep; not fewer than two, since the newest may "
            "hold the update that spoils the weights, and a branch then begins at the one before"
        ),
    )
    keep_interval: int = Field(
        0,
        ge=0,
        description=(
            "checkpoints whose step is a multiple of this stay as well, and are committed with the "
            "model; 0: none"
        ),
    )
    checkpoint_url: str | None = Field(
        None,
        min_length=1,
        description=(
            "folder or URL, such as s3://bucket/checkpoints, below which checkpoints are kept while "
            "the run lasts; default: this machine's cache"
        ),
    )
    storage_timeout: float = Field(
        600.0,
        ge=0,
        description=(
            "seconds that a checkpoint store elsewhere may be away before the run gives up; it can "
            "go on later"
        ),
    )
    max_restarts: int = Field(
        3, ge=0, description="times that a run goes on from its last checkpoint after a crash"
    )
    max_rollbacks: int = Field(
        3,
        ge=0,
        description=(
            "times that a run whose loss is no number or leaps starts again from the last good "
            "checkpoint, leaving out the batches that did it"
        ),
    )
    num_nodes: int = Field(
        1,
        ge=1,
        description=(
            "machines that share the processes, which must be a multiple of this; the others run "
            "`gristmill join` (docs/checkpoints.md, Several machines)"
        ),
    )
    rendezvous: str | None = Field(
        None,
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:/]+):[0-9]{1,5}$",
        description="with nodes: host:port of the first machine, where the processes meet",
    )
    mlflow_tracking_uri: str | None = Field(
        None,
        min_length=1,
        description=(
            "tracking server that is told the figures, too, such as http://host:5000; needs "
            "gristmill[mlflow]"
        ),
    )
    log_interval: int = Field(10, ge=1, description="steps between lines of the log")
