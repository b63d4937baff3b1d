"""What all entries of the recipe's `finetune` have in common, and the models that one describes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from infra.config import EXPANDED, ConfigModel
from lm.config.entry import MAX_NAME_CHARS, Name, Seed, TrainEntry, seeded_name
from lm.config.finetune import FinetuneModelConfig, FinetuneOptimConfig, weights_key
from lm.config.run import RunConfig
from lm.config.train import TrainConfig
from tasks.finetune.baselines.config import BaselinesConfig
from tasks.finetune.data.config import TaskDataConfig

# Which data set each field of an entry decides: its examples, the scores of its models, or none; all others
# decide the weights.
PREPARE_KEY = frozenset({"task", "data", "folds", "multi_label", "languages"})
SCORE_KEY = frozenset({"max_new_tokens"})
NO_KEY = frozenset({"name", "base", "seeds", "baselines", "suites"})
WEIGHTS_TOO = frozenset({"task", "folds", "multi_label"})  # of PREPARE_KEY

# What a task's base must be, by family (or architecture, of encoders).
ONE_TEXT = ("encoder", "decoder", "rnn", "lstm", "gru", "cnn")
NEXT_TOKEN = ("decoder", "rnn", "lstm", "gru", "cnn")


class FinetuneEntry(ConfigModel):
    """A base model and a task that it is fine-tuned for: the base of each task's entry."""

    families: ClassVar[tuple[str, ...]] = ONE_TEXT

    name: Name = Field(description="names the model in folders, reports and exports")
    base: str = Field(
        min_length=1,
        description=(
            "the model to start from: an entry of `train`, NAME-seedN for one with `seeds`; or the path or "
            "URL of a folder that Gristmill released, with a / in it, such as ./model"
        ),
    )
    data: TaskDataConfig
    model: FinetuneModelConfig = Field(
        default_factory=lambda: FinetuneModelConfig.model_validate({})
    )
    optim: FinetuneOptimConfig = Field(
        default_factory=lambda: FinetuneOptimConfig.model_validate({})
    )
    seeds: tuple[Seed, ...] = Field(
        (), description="fine-tunes a model with each of these seeds, named NAME-seedN"
    )
    baselines: BaselinesConfig = Field(default_factory=lambda: BaselinesConfig.model_validate({}))
    run: RunConfig = Field(default_factory=RunConfig)

    @property
    def field(self) -> str:
        """See ``RunsOnThisMachine``."""
        return f"finetune.{self.name}"

    @property
    def base_folder(self) -> str | None:
        """The path or URL of the released folder that is the base; ``None`` for a model of `train`."""
        return self.base if "/" in self.base else None

    @property
    def num_folds(self) -> int:
        """Parts of the training examples that are each predicted by a model of the others; 0: none are."""
        return 0

    @property
    def task_name(self) -> str:
        """The task; each task's entry narrows the field ``task``."""
        return str(getattr(self, "task"))  # noqa: B009

    @model_validator(mode="before")
    @classmethod
    def _set_optimizer(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        model, optim = data.get("model"), data.get("optim", {})
        if (
            isinstance(optim, Mapping)
            and isinstance(model, Mapping)
            and model.get("lora") is not None
        ):
            return {**data, "optim": {"optimizer": "adamw", **optim}}
        return data

    @model_validator(mode="after")
    def _check_entry(self) -> Self:
        if self.model.lora and self.optim.optimizer == "muon":
            raise ValueError(
                "optim.optimizer: muon updates whole matrices; with model.lora leave it out"
            )
        if self.optim.batch_size % self.run.num_processes:
            raise ValueError(
                f"optim.batch_size {self.optim.batch_size} is not a multiple of run.num_processes "
                f"{self.run.num_processes}"
            )
        if self.run.num_nodes > 1:
            raise ValueError("run.num_nodes: a model is fine-tuned on one machine")
        drawn = bool(self.data.files)
        if not (self.data.test or (drawn and self.data.test_fraction)):
            raise ValueError(
                "data.test_fraction is 0 and data.test names no file: nothing to test on"
            )
        if self.optim.label_smoothing and self.task_name in ("qa", "embedding"):
            raise ValueError(
                f"optim.label_smoothing: the loss of {self.task_name} has none; leave it out"
            )
        has_validation = self.data.validation or (drawn and self.data.validation_fraction)
        for field, used in (
            ("lr_grid", len(self.optim.lr_grid) > 1),
            ("early_stopping_patience", bool(self.optim.early_stopping_patience)),
        ):
            if used and not has_validation:
                raise ValueError(
                    f"optim.{field} needs validation examples: set data.validation_fraction above 0 "
                    "or name files under data.validation"
                )
        longest = max((variant.name for variant in self.expand()), key=len)
        if len(longest) > MAX_NAME_CHARS:
            raise ValueError(f"name: {longest} has more than {MAX_NAME_CHARS} characters")
        return self

    def expand(self) -> "Iterator[Variant]":
        """Yield a variant for each model that this entry describes."""
        if self.seeds:
            for seed in self.seeds:
                yield Variant(self, seeded_name(self.name, seed), seed)
        elif 1.0 in self.baselines.budgets:
            yield Variant(self, self.name)
        first = self.seeds[0] if self.seeds else None
        for budget in sorted(self.baselines.budgets, reverse=True):
            if budget < 1:
                yield Variant(self, f"{self.name}-{100 * budget:g}pct", first, budget)
        if self.baselines.from_scratch:
            yield Variant(self, f"{self.name}-scratch", first, from_scratch=True)

    def check_base(self, base: TrainEntry) -> None:
        """Raise ``ValueError`` unless a model of this entry of `train` can do the task."""
        length = base.model.context_length if isinstance(base, TrainConfig) else 0
        self.check_sizes(base.name, base.family, length)

    def check_sizes(self, base: str, family: str, context_length: int) -> None:
        """Raise ``ValueError`` unless a model of this family and context length can do the task."""
        if family not in self.families:
            raise ValueError(
                f"finetune.{self.name}.base: {self.task_name} cannot start from {base}, a model of "
                f"the family {family}; it takes {', '.join(self.families)}"
            )
        if self.model.max_length is not None and self.model.max_length > context_length:
            raise ValueError(
                f"finetune.{self.name}.model.max_length: {self.model.max_length} is above the "
                f"context_length {context_length} of its base {base}"
            )

    def weights_key(self) -> dict[str, Any]:
        """Return what the weights of a variant depend on, besides its own fields and the examples."""
        left_out = dict.fromkeys((*NO_KEY, *PREPARE_KEY - WEIGHTS_TOO, *SCORE_KEY), True)
        key = weights_key(self, left_out)
        # Left out, it is once per epoch.
        is_given = "validation_interval" in self.run.model_fields_set
        counts = bool(self.optim.early_stopping_patience) and is_given
        key["run"]["validation_interval"] = self.run.validation_interval if counts else None
        return key

    @property
    def bleu_tokenizer(self) -> str:
        """How sacrebleu divides the targets of ``seq2seq`` into words: its default for most languages."""
        return "13a"

    def prepare_key(self) -> dict[str, Any]:
        """Return what the examples depend on besides the files."""
        key = self.model_dump(mode="json", include=set(PREPARE_KEY), context=EXPANDED)
        for name in ("files", "train", "validation", "test"):
            del key["data"][name]  # URLs may hold secrets; digests stand for the files
        return key

    def score_key(self) -> dict[str, Any]:
        """Return what the predictions of a model depend on besides it and the examples."""
        key = self.model_dump(mode="json", include=set(SCORE_KEY), context=EXPANDED)
        return {**key, "max_length": self.model.max_length, "bleu_tokenizer": self.bleu_tokenizer}


@dataclass(frozen=True)
class Variant:
    """One model of an entry.

    Attributes:
        entry: the entry.
        name: of the model.
        seed: of its order, dropout and head; ``None``: the recipe's.
        budget: fraction of the training examples.
        from_scratch: whether it starts from random weights.
    """

    entry: FinetuneEntry
    name: str
    seed: int | None = None
    budget: float = 1.0
    from_scratch: bool = False

    @property
    def is_main(self) -> bool:
        """Whether it is what the entry is for: trained on all examples, from the base."""
        return self.budget == 1.0 and not self.from_scratch

    @property
    def cross_validates(self) -> bool:
        """Whether a model per fold is trained, too."""
        return self.is_main and self.entry.num_folds > 0

    def weights_key(self) -> dict[str, Any]:
        """Return what its weights depend on besides the base and the examples, as nested JSON."""
        key = self.entry.weights_key()
        if self.from_scratch:  # all weights are trained
            key["model"] |= {"lora": None, "freeze": None}
        return {**key, "budget": self.budget, "from_scratch": self.from_scratch}
