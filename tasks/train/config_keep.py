"""How a run is watched, kept and restarted: a part of an entry of the recipe's `train` list."""

from pydantic import Field

from infra.config import Section

# No weight depends on these fields, so changing one does not train again.
OPERATIONAL = frozenset(
    {"name", "log_every", "validation_every", "checkpoint_every", "keep", "restarts"}
)


class KeepPart(Section):
    """Checkpoints, validations, restarts and the log."""

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
