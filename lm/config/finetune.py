"""How a base model is fine-tuned: the sections of an entry of `finetune` that training reads."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from infra.config import EXPANDED, ConfigModel
from infra.schemas.examples import Task
from lm.config.loop import Workload, fewest_passes
from lm.config.optim import Decay, OptimConfig
from lm.config.run import RunConfig
from lm.config.train import OPERATIONAL_FIELDS

# In the job's folder: the weights of a base that is a released folder, by the training model's names.
BASE_WEIGHTS = "base.safetensors"
MUON_LR, ADAMW_LR = 0.005, 0.0005


class LoraConfig(ConfigModel):
    """Low-rank updates beside frozen matrices (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = Field(
        8, ge=1, description="rank of the update of each matrix; query, key and value are three"
    )
    alpha: float = Field(16.0, gt=0, description="the update is multiplied by alpha / rank")
    targets: tuple[str, ...] = Field(
        (),
        description=(
            "names of the layers that are updated, such as qkv; default: all matrices of the blocks"
        ),
    )


class FinetuneModelConfig(ConfigModel):
    """Which weights are updated, and how much of a text is read."""

    lora: LoraConfig | None = Field(
        None,
        description=(
            "update the base by low-rank matrices, which are merged at the end; default: all weights"
        ),
    )
    freeze: Literal["embeddings"] | Annotated[int, Field(ge=1)] | None = Field(
        None,
        description=(
            "what keeps the base's weights: embeddings, or a number N: embeddings and the first N "
            "blocks; default: nothing"
        ),
    )
    max_length: int | None = Field(
        None,
        ge=8,
        description=(
            "maximum tokens of an example; longer ones are cut, and counted; default: the base's "
            "context_length"
        ),
    )


class FinetuneOptimConfig(OptimConfig):
    """As `train[].optim`, with rates and passes of fine-tuning.

    The optimizer is that of `train`, since its bases have matrices and embeddings as Muon with a high rate
    for embeddings leaves them: updates of AdamW at the rates of BERT hardly move those. Measured on an
    encoder of 3 million parameters, five topics of news, two passes: validation loss 0.26 with muon at
    0.002 and 0.31 at 0.01; with adamw 1.26 at 0.0005, 1.04 at 0.001 and 0.89 at 0.002.
    """

    optimizer: Literal["muon", "adamw"] = Field(
        "muon",
        description=(
            "as in `train[].optim`; with model.lora adamw, also by default: its matrices are not Muon's"
        ),
    )
    lr: float = Field(
        MUON_LR,
        gt=0,
        description=(
            f"peak learning rate; default: {MUON_LR} with muon, {ADAMW_LR} with adamw (models of some "
            "million parameters take more than the 0.00002 to 0.00005 of BERT-base)"
        ),
    )
    schedule: Literal["cosine", "wsd", "linear"] = Field(
        "linear",
        description="how the learning rate falls after the warm-up: as in `train[].optim`",
    )
    warmup_fraction: float = Field(
        0.1, ge=0, lt=1, description="fraction of the steps over which the learning rate rises"
    )
    weight_decay: float = Field(0.01, ge=0, description="of the matrices")
    dropout: float = Field(
        0.1, ge=0, lt=1, description="fraction of activations that training drops"
    )
    adam_betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="AdamW's averaging")
    epochs: int = Field(3, ge=1, le=10_000, description="passes over the training examples")
    batch_size: int = Field(
        32, ge=1, description="examples per step over all processes; a multiple of num_processes"
    )
    lr_grid: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (),
        description=(
            "learning rates to try instead of lr: a run each, of which the one with the lowest "
            "validation loss is kept"
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _set_rate(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("optimizer") == "adamw":
            return {"lr": ADAMW_LR, **data}
        return data


class FinetuneConfig(ConfigModel):
    """One training run of a fine-tuned model: what its processes read of ``job.json``.

    The stage derives it from an entry of `finetune`, its base and its examples.
    """

    name: str = Field(description="of the model")
    task: Task = Field(description="what it is fine-tuned for")
    model: FinetuneModelConfig
    optim: FinetuneOptimConfig
    run: RunConfig
    architecture: dict[str, Any] = Field(
        description="`model_config` of the model: the base's sizes, and `head`"
    )
    added_tokens: dict[str, int] = Field(
        default_factory=dict, description="tokens that the base has not, by spelling: their ids"
    )
    fim_fraction: float = Field(
        0.0, ge=0, le=1, description="task completion: fraction of texts whose middle is filled in"
    )
    eos_id: int = Field(ge=0, description="end of text of the base's tokenizer")
    max_length: int = Field(ge=1, description="maximum tokens of an example")
    examples: int = Field(ge=1, description="training examples of an epoch")

    starts_from_file: bool = Field(
        False, description="whether its base's weights are in a file of the job's folder"
    )

    @property
    def field(self) -> str:
        """See ``LoopConfig``."""
        return f"finetune.{self.name}"

    @property
    def workload(self) -> Workload:
        """See ``LoopConfig``."""
        return "finetuning"

    @property
    def steps(self) -> int:
        """Number of updates: as many as the epochs make, at least one."""
        return max(1, round(self.optim.epochs * self.examples / self.optim.batch_size))

    @property
    def sequences_per_step(self) -> int:
        """Number of examples per step over all processes."""
        return self.optim.batch_size

    @property
    def sequences_per_process(self) -> int:
        """Number of examples per step and process."""
        return self.optim.batch_size // self.run.num_processes

    @property
    def uses_dropout_keys(self) -> bool:
        """Whether a training step needs the keys of its samples, from which dropout is drawn."""
        return bool(self.optim.dropout)

    def grad_accumulation_steps(self, *, gpu: bool) -> int:
        """Return the passes per step; one for embeddings, whose negatives are the whole batch."""
        if self.task == "embedding":
            return 1
        return fewest_passes(self.sequences_per_process, self.max_length, gpu=gpu)

    def weights_key(self) -> dict[str, Any]:
        """Return what the weights depend on, as nested JSON: all but the operational fields."""
        return {**weights_key(self, {"starts_from_file": True}), "examples": self.examples}


def weights_key(config: ConfigModel, exclude: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the fields of an entry of `finetune` that its weights depend on, as nested JSON."""
    operational = {
        name: set(fields) for name, fields in OPERATIONAL_FIELDS.items() if name == "run"
    }
    left_out: Any = {"name": True, **operational, **(exclude or {})}
    return config.model_dump(mode="json", exclude=left_out, context=EXPANDED)
