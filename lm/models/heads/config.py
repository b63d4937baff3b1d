"""What a head is: part of a fine-tuned model's ``model_config``, beside the sizes of its base."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from infra.errors import UserError
from lm.models.registry import config_class, family_name
from lm.models.seq2seq.sections import Seq2SeqConfig

if TYPE_CHECKING:
    from lm.models.neural_lm import ArchitectureConfig

Task = Literal["classification", "tagging", "qa", "embedding"]
Pooling = Literal["first", "last", "mean"]


@dataclass(frozen=True)
class HeadConfig:
    """Everything that fixes a head's parameters, its function and its loss.

    Attributes:
        task: classification of texts or pairs; tagging: of words; qa: the span of an answer;
            embedding: a vector per text.
        eos_id: the end of text, which stands before and after texts, and for padding in exports.
        labels: names of the classes, or of the tags.
        multi_label: whether a text may have several labels, or none.
        class_weights: by which the loss of each label is multiplied; empty: all by 1.
        temperature: by which similarities are divided (embedding).
        num_negatives: places of each example for texts that do not answer its query (embedding).
    """

    task: Task
    eos_id: int
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    class_weights: tuple[float, ...] = ()
    temperature: float = 0.05
    num_negatives: int = 0

    def __post_init__(self) -> None:
        """Check what concerns several fields.

        Raises:
            UserError: if labels are missing, repeated, or not as many as their weights.
        """
        if self.task in ("classification", "tagging"):
            required = 1 if self.multi_label else 2
            if len(self.labels) < required:
                raise UserError(
                    f"{self.task} needs at least {required} labels; there are {len(self.labels)}"
                )
        if len(set(self.labels)) < len(self.labels):
            raise UserError(f"{self.task}: a label is given twice")
        if self.class_weights and len(self.class_weights) != len(self.labels):
            raise UserError(
                f"{self.task}: there are {len(self.labels)} labels, but {len(self.class_weights)} class_weights"
            )

    @property
    def num_outputs(self) -> int:
        """Number of logits per text or token: a span has two, its start and its end."""
        return 2 if self.task == "qa" else len(self.labels)

    @property
    def num_targets(self) -> int:
        """Number of targets of an example, if it does not depend on the text's length."""
        if self.task == "classification" and self.multi_label:
            return len(self.labels)
        return 2 if self.task == "qa" else 1


def pooling(architecture: str) -> Pooling:
    """Return which states stand for a text: as the class of transformers has it.

    BERT's is the first token's, a decoder's the last one's. ``ModernBertForSequenceClassification``
    knows first and mean; mean, because no first token stood for a text in pre-training. The families
    with modeling files of their own take the mean.
    """
    pooled: dict[str, Pooling] = {"bert": "first", "llama": "last", "gpt2": "last"}
    return pooled.get(architecture, "mean")


def describe(
    base: "ArchitectureConfig",
    head: HeadConfig | None,
    added_tokens: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return ``model_config`` as JSON values: the base's sizes, and ``head`` and ``added_tokens`` if any."""
    sizes: dict[str, Any] = asdict(base)
    if head is not None:
        lists = {name: list(getattr(head, name)) for name in ("labels", "class_weights")}
        sizes["head"] = {**asdict(head), **lists}
    return {**sizes, "added_tokens": dict(added_tokens)} if added_tokens else sizes


def parse(model_config: Mapping[str, Any]) -> "tuple[ArchitectureConfig, HeadConfig | None]":
    """Return what ``describe`` described."""
    sizes = dict(model_config)
    head = sizes.pop("head", None)
    sizes.pop("added_tokens", None)
    base = config_class(str(sizes["architecture"]))(**sizes)
    if head is None:
        return base, None
    lists = {name: tuple(head[name]) for name in ("labels", "class_weights")}
    return base, HeadConfig(**{**head, **lists})


def check_base(base: "ArchitectureConfig", head: HeadConfig) -> None:
    """Raise a ``UserError`` if no head for the task stands on a model of this kind."""
    if isinstance(base, Seq2SeqConfig):
        raise UserError(
            f"{head.task} needs a base that represents one text; {base.architecture} is an encoder-decoder: "
            "take an encoder, a decoder, a recurrent or a convolutional model, or the task seq2seq"
        )
    # A model that reads from left to right meets the question only before or only after the passage, and its
    # first token, which stands for "no answer", has seen neither.
    if head.task == "qa" and family_name(base.architecture) != "encoder":
        raise UserError(
            f"qa needs a base that reads question and passage in both directions, not {base.architecture}: "
            "take an encoder"
        )
