"""Entries of the recipe's `train` list from fields without their sections."""

from typing import Any

from lm.config.train import TrainConfig

SECTIONS = {
    field: name
    for name in ("model", "data", "optim", "run")
    for field in TrainConfig.model_fields[name].annotation.model_fields  # type: ignore[union-attr]
}


def train_entry(**fields: Any) -> dict[str, Any]:
    """Put each field into its section: ``num_layers`` into ``model``, ``lr`` into ``optim``."""
    entry: dict[str, Any] = {"model": {}, "data": {}}
    for name, value in fields.items():
        target = entry.setdefault(SECTIONS[name], {}) if name in SECTIONS else entry
        target[name] = value
    return entry


def train_config(**fields: Any) -> TrainConfig:
    """The validated entry of these fields."""
    return TrainConfig.model_validate(train_entry(**fields))


def replace_fields(config: TrainConfig, **fields: Any) -> TrainConfig:
    """A copy with other values of some fields; they are not validated again."""
    changes: dict[str, Any] = {}
    for name, value in fields.items():
        section = SECTIONS.get(name)
        if section is None:
            changes[name] = value
        else:
            base = changes.get(section, getattr(config, section))
            changes[section] = base.model_copy(update={name: value})
    return config.model_copy(update=changes)
