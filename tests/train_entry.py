"""Entries of the recipe's `train` list from fields without their sections."""

from typing import Any

from lm.config.data import DataConfig
from lm.config.entry import TrainEntry
from lm.config.optim import OptimConfig
from lm.config.run import RunConfig
from lm.config.train import TrainConfig
from lm.models.cnn.config import CNNConfig
from lm.models.decoder.gpt2.config import GPT2Config
from lm.models.decoder.llama.config import LlamaConfig
from lm.models.encoder.bert.config import BertConfig
from lm.models.recurrent.sections import RecurrentSection
from lm.models.registry import parse_entry
from lm.models.seq2seq.gru.config import GRUConfig
from lm.models.seq2seq.t5.config import T5Config

SECTIONS = {
    field: name
    for name, models in {
        "model": (
            LlamaConfig,
            GPT2Config,
            RecurrentSection,
            CNNConfig,
            BertConfig,
            T5Config,
            GRUConfig,
        ),
        "data": (DataConfig,),
        "optim": (OptimConfig,),
        "run": (RunConfig,),
    }.items()
    for model in models
    for field in model.model_fields
}


def train_entry(**fields: Any) -> dict[str, Any]:
    """Put each field into its section: ``num_layers`` into ``model``, ``lr`` into ``optim``.

    A field that is ``None`` is left out, which means its default.
    """
    entry: dict[str, Any] = {"model": {}, "data": {}}
    for name, value in fields.items():
        target = entry.setdefault(SECTIONS[name], {}) if name in SECTIONS else entry
        if value is not None:
            target[name] = value
    return entry


def train_config(**fields: Any) -> TrainConfig:
    """The validated entry of these fields."""
    return in_steps(parse_entry(train_entry(**fields)))


def in_steps(entry: TrainEntry) -> TrainConfig:
    """The entry, which is of a family that is trained in steps."""
    assert isinstance(entry, TrainConfig)
    return entry


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
