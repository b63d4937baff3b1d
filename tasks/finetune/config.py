"""The recipe's `finetune` section: a list of entries, each with the keys of its task."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from infra.form_schema import ConditionalForm
from infra.schemas.languages import LID_LANGUAGES
from lm.config.run import RunConfig
from tasks.finetune.augment_config import AugmentConfig, Seq2SeqAugmentConfig
from tasks.finetune.data.config import LabelDataConfig
from tasks.finetune.entry import NEXT_TOKEN, FinetuneEntry


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

    @property
    def num_folds(self) -> int:
        """See ``FinetuneEntry``."""
        return self.folds

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
