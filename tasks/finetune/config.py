"""The recipe's `finetune` section: a list of entries, each with the keys of its task."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from infra.config import EXPANDED, ConfigModel
from infra.form_schema import ConditionalForm
from infra.schemas.languages import LID_LANGUAGES
from lm.config.entry import MAX_NAME_CHARS, Name, Seed, TrainEntry, seeded_name
from lm.config.finetune import FinetuneModelConfig, FinetuneOptimConfig, weights_key
from lm.config.run import RunConfig
from lm.config.train import TrainConfig
from tasks.finetune.augment_config import AugmentConfig, Seq2SeqAugmentConfig
from tasks.finetune.baselines.config import BaselinesConfig
from tasks.finetune.data.config import LabelDataConfig, TaskDataConfig

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
        return self.is_main and isinstance(self.entry, ClassificationEntry) and self.entry.folds > 0

    def weights_key(self) -> dict[str, Any]:
        """Return what its weights depend on besides the base and the examples, as nested JSON."""
        key = self.entry.weights_key()
        if self.from_scratch:  # all weights are trained
            key["model"] |= {"lora": None, "freeze": None}
        return {**key, "budget": self.budget, "from_scratch": self.from_scratch}


class ClassificationEntry(FinetuneEntry):
    """Labels of texts or pairs of texts: topic, sentiment, inference, similarity."""

    task: Literal["classification"] = Field(description="the task")
    data: LabelDataConfig
    multi_label: bool = Field(
        False, description="whether a text may have several labels, or none, each decided by itself"
    )
    class_weights: Literal["balanced"] | dict[str, float] | None = Field(
        None,
        description=(
            "by which the loss of a label is multiplied: by label, or balanced: inversely to its "
            "frequency, as in scikit-learn"
        ),
    )
    augment: AugmentConfig | None = Field(
        None, description="train on edited copies of the texts, too; default: on none"
    )
    folds: int = Field(
        0,
        ge=0,
        le=50,
        description=(
            "number of folds of a cross-validation of the training examples, stratified by label; its "
            "out-of-fold predictions are kept; 0: none"
        ),
    )

    @field_validator("folds")
    @classmethod
    def _check_folds(cls, value: int) -> int:
        if value == 1:
            raise ValueError("cross-validation takes at least 2 folds; 0 is none")
        return value


class TaggingEntry(FinetuneEntry):
    """A tag for each word: named entities, semantic roles."""

    task: Literal["tagging"] = Field(description="the task")
    data: LabelDataConfig
    class_weights: Literal["balanced"] | dict[str, float] | None = Field(
        None, description="as for classification"
    )


class QuestionEntry(FinetuneEntry):
    """Answers that are spans of a passage, or none."""

    families: ClassVar[tuple[str, ...]] = ("encoder",)

    task: Literal["qa"] = Field(description="the task")


class TextEntry(FinetuneEntry):
    """A task whose model still gives texts a probability, as its base does: the base of such tasks' entries."""

    suites: bool = Field(
        False,
        description=(
            "score the models of this entry that had all examples on `evaluate.suites`, too, beside the model that they "
            "started from"
        ),
    )

    @model_validator(mode="after")
    def _check_suites(self) -> Self:
        if self.suites and self.base_folder is not None:
            raise ValueError(
                "suites: the base is a folder, which no suite of this recipe was scored with; name a model of train"
            )
        if self.suites and not any(variant.is_main for variant in self.expand()):
            raise ValueError(
                "suites: no model of this entry has all examples; add 1.0 to baselines.budgets, or seeds"
            )
        return self


class Seq2SeqTaskEntry(TextEntry):
    """A text for a text: translation, summarization."""

    families: ClassVar[tuple[str, ...]] = ("seq2seq", *NEXT_TOKEN)

    task: Literal["seq2seq"] = Field(description="the task")
    max_new_tokens: int = Field(
        64, ge=1, description="maximum tokens of a text that the model generates"
    )
    languages: tuple[str, str] | None = Field(
        None,
        description=(
            "codes of the languages of sources and targets, such as [en, de]; pairs that are the wrong "
            "way round then fail as swapped_languages; default: not checked"
        ),
    )
    augment: Seq2SeqAugmentConfig | None = Field(
        None, description="train on translated pairs, too; default: on none"
    )

    @field_validator("languages")
    @classmethod
    def _check_languages(cls, value: tuple[str, str] | None) -> tuple[str, str] | None:
        for code in value or ():
            if code.partition("-")[0] not in LID_LANGUAGES:
                raise ValueError(
                    f"{code!r} is no code of a language that can be identified, such as en or zh-TW"
                )
        return value

    @property
    def bleu_tokenizer(self) -> str:
        """How sacrebleu divides the targets into words; into characters where there are no spaces."""
        language = self.languages[1].partition("-")[0] if self.languages else ""
        return {"zh": "zh", "ja": "char", "ko": "char", "th": "char"}.get(language, "13a")

    def check_translator(self, earlier: Sequence[FinetuneEntry]) -> None:
        """Raise ``ValueError`` unless the entry of back-translation exists and writes sources for targets."""
        if self.augment is None:
            return
        name = self.augment.back_translation.model
        field = f"finetune.{self.name}.augment.back_translation.model"
        translators = {item.name: item for item in earlier if isinstance(item, Seq2SeqTaskEntry)}
        translator = translators.get(name)
        if translator is None:
            raise ValueError(
                f"{field}: {name!r} is not an earlier entry of finetune of the task seq2seq; those are: "
                f"{', '.join(translators) or 'none'}"
            )
        if self.languages is None or translator.languages is None:
            raise ValueError(f"{field}: set languages of both {self.name} and {name}")
        if translator.languages != self.languages[::-1]:
            own, other = ("-".join(item) for item in (self.languages, translator.languages))
            raise ValueError(
                f"{field}: {name} translates {other}; for {own} a model of the other direction is needed"
            )


class ChatEntry(TextEntry):
    """The assistant's turns of dialogues."""

    families: ClassVar[tuple[str, ...]] = NEXT_TOKEN

    task: Literal["chat"] = Field(description="the task")


class CompletionEntry(TextEntry):
    """Text or code, with parts in the middle to fill in (Bavarian et al. 2022, arXiv:2207.14255)."""

    families: ClassVar[tuple[str, ...]] = NEXT_TOKEN

    task: Literal["completion"] = Field(description="the task")
    fim_fraction: float = Field(
        0.5, ge=0, le=1, description="fraction of the examples whose middle is filled in"
    )


class EmbeddingEntry(FinetuneEntry):
    """Vectors of texts, by which a query finds its passage."""

    task: Literal["embedding"] = Field(description="the task")
    temperature: float = Field(
        0.05, gt=0, description="by which similarities are divided in the loss"
    )
    max_negatives: int = Field(
        4, ge=0, le=64, description="`negatives` of an example that are trained on, the first ones"
    )
    run: RunConfig = Field(
        default_factory=lambda: RunConfig.model_validate({"num_processes": 1}),
        description="one process: each text of a batch is compared with all others of it",
    )

    @model_validator(mode="after")
    def _check_processes(self) -> Self:
        if self.run.num_processes > 1:
            raise ValueError(
                "run.num_processes must be 1: each text of a batch is compared with all others of it"
            )
        return self


def _task(entry: Any) -> str:
    return str(entry.get("task", "") if isinstance(entry, dict) else getattr(entry, "task", ""))


# One entry of the recipe's `finetune`: what it may contain follows from its task.
AnyFinetuneEntry = Annotated[
    Annotated[ClassificationEntry, Tag("classification")]
    | Annotated[TaggingEntry, Tag("tagging")]
    | Annotated[QuestionEntry, Tag("qa")]
    | Annotated[Seq2SeqTaskEntry, Tag("seq2seq")]
    | Annotated[ChatEntry, Tag("chat")]
    | Annotated[CompletionEntry, Tag("completion")]
    | Annotated[EmbeddingEntry, Tag("embedding")],
    Discriminator(_task),
    ConditionalForm("task"),
]
