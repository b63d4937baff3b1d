"""A released folder, as far as the endpoint needs it: what the model can do, and how text becomes its ids.

It is read without torch and without transformers: the weights belong to the process of an engine.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from infra.dataset.model_folder import MODEL_CONFIG, digest_weights, is_decisive
from infra.errors import UserError
from lm.models.embedding.files import VOCABULARY_FILE
from lm.models.model_kind import CAUSAL, COUNTS, MASKED, SEQ2SEQ, VECTORS
from lm.models.released import MODEL_CONFIG_KEY, TOKENIZER
from serve.text.length_bound import LengthBound

if TYPE_CHECKING:
    from jinja2 import Template

GENERATING = (CAUSAL.name, SEQ2SEQ.name, COUNTS.name)
CLASSIFICATION, TAGGING, EMBEDDING = "classification", "tagging", "embedding"
# The kinds that engines run, by how the names of transformers' classes end.
KINDS = {
    "ForCausalLM": CAUSAL.name,
    "LMHeadModel": CAUSAL.name,
    "ForConditionalGeneration": SEQ2SEQ.name,
    "ForMaskedLM": MASKED.name,
    "ForSequenceClassification": CLASSIFICATION,
    "ForTokenClassification": TAGGING,
}
# By kind: the methods of ``TextModel``. A head of labels takes the place of what gives vectors.
TASKS = {
    CAUSAL.name: frozenset(["embed"]),
    MASKED.name: frozenset(["embed", "fill_mask"]),
    EMBEDDING: frozenset(["embed"]),
    VECTORS.name: frozenset(["embed"]),
    CLASSIFICATION: frozenset(["classify"]),
    TAGGING: frozenset(["tag"]),
}
ENCODERS = ("bert", "modernbert")  # in whose texts an end of text also comes last
SENTINEL = "<extra_id_0>"
SOURCE_ROOM = 8  # tokens that an encoder reads beyond its context: ends of text, and a sentinel
UNLIMITED = 1 << 31  # tokens


class NoChatTemplateError(UserError):
    """A model was not trained on conversations."""


@dataclass(frozen=True)
class ServedModel:
    """A released model. Methods that take texts block: for seconds with a megabyte.

    Attributes:
        name: under which it is served.
        folder: its files, on this machine.
        kind: of ``lm.models.model_kind``, or the task of a head: classification, tagging, embedding.
        architecture: ``model_type`` of ``config.json``, such as ``llama``; of counts and vectors the family.
        tokenizer: of ``tokenizers``; it adds the tokens that a fine-tuned model reads around a text.
        length_bound: of its texts.
        context_length: most tokens of prompt and output together; of an encoder-decoder, of each.
        eos_id: the end of text.
        stop_ids: tokens that end what is generated.
        digest: of weights, configuration and code, as the stages know the model by.
        chat_template: in Jinja, if it was trained on conversations.
        labels: of a classifier or tagger.
        multi_label: whether a text may have several of them.
        mask_id: the token that stands for one to be filled in.
    """

    name: str
    folder: Path
    kind: str
    architecture: str
    tokenizer: Tokenizer
    length_bound: LengthBound
    context_length: int
    eos_id: int
    stop_ids: frozenset[int]
    digest: str
    chat_template: str | None = None
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    mask_id: int | None = None

    @property
    def generates(self) -> bool:
        """Whether an ``Engine`` runs it."""
        return self.kind in GENERATING

    @property
    def max_prompt_tokens(self) -> int:
        """Most tokens of a prompt: an encoder also has room for the tokens that are added around a text."""
        return self.context_length + (SOURCE_ROOM if self.kind == SEQ2SEQ.name else 0)

    @property
    def tasks(self) -> frozenset[str]:
        """The methods of ``TextModel`` that it has."""
        return TASKS.get(self.kind, frozenset())

    @property
    def embeds(self) -> bool:
        """Whether it has vectors for texts."""
        return "embed" in self.tasks

    def tokenize(
        self, text: str, pair: str | None = None, *, adds_tokens: bool = True
    ) -> list[int]:
        """Return the ids of a text, or of a pair, with what the tokenizer adds unless ``adds_tokens`` is false."""
        # Of the methods of a tokenizer only those for several texts let other threads run meanwhile.
        texts = [text if pair is None else (text, pair)]
        [encoding] = self.tokenizer.encode_batch_fast(texts, add_special_tokens=adds_tokens)
        ids: list[int] = encoding.ids
        return ids

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, with special tokens."""
        [text] = self.tokenizer.decode_batch([list(ids)], skip_special_tokens=False)
        return str(text)

    def encode_prompt(self, text: str) -> list[int]:
        """Return what the model reads to continue a text: its tokenizer's ids.

        An encoder-decoder that restores spans reads the text as in training, with a span left out at its
        end unless the text says itself where.
        """
        ids = self.tokenize(text)
        sentinel = self.tokenizer.token_to_id(SENTINEL)
        if self.kind != SEQ2SEQ.name or sentinel is None or self._adds_tokens:
            return ids
        span = [] if sentinel in ids else [sentinel]
        return [self.eos_id, *ids, *span, self.eos_id]

    def encode_text(self, text: str, pair: str | None = None) -> list[int]:
        """Return the ids of a whole text, or of a pair, as a model reads it that says something of it.

        They are the tokenizer's with what it adds. If it adds nothing, as that of a language model, the text
        begins with an end of text as documents did in training, and for an encoder ends with one.
        """
        ids = self.tokenize(text, pair)
        if self.kind == VECTORS.name or self._adds_tokens:
            return ids
        return [self.eos_id, *ids, *([self.eos_id] if self.architecture in ENCODERS else [])]

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the text of a conversation, up to where the assistant's next turn begins.

        Args:
            messages: each with ``role`` and ``content``.

        Raises:
            NoChatTemplateError: if the model has none.
            UserError: if its template refuses the messages.
        """
        from jinja2 import TemplateError

        end = self.tokenizer.id_to_token(self.eos_id)
        try:
            return self._chat_template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=True,
                bos_token=end,
                eos_token=end,
            )
        except TemplateError as error:
            raise UserError(
                f"{self.name}: its chat template refuses the messages: {error}"
            ) from None

    @cached_property
    def _chat_template(self) -> "Template":
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        if self.chat_template is None:
            raise NoChatTemplateError(
                f"{self.name} has no chat template: it was not trained on conversations"
            )

        def refuse(message: str) -> None:
            raise TemplateError(message)

        # As transformers set it up, so that the same template gives the same text.
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = refuse
        return environment.from_string(self.chat_template)

    @property
    def _adds_tokens(self) -> bool:
        return bool(self.tokenizer.num_special_tokens_to_add(is_pair=False))


def load_served_model(folder: Path, name: str) -> ServedModel:
    """Read a released folder.

    Args:
        folder: what ``release`` or ``gristmill release`` wrote, on this machine.
        name: under which it is served.

    Raises:
        UserError: if it is no folder of a model that can be served.
    """
    config = _read_json(folder / MODEL_CONFIG)
    if not (folder / TOKENIZER).is_file():
        raise UserError(f"{folder} has no {TOKENIZER}: name the folder of a released model")
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    kind = _find_kind(config, folder)
    if kind in (COUNTS.name, VECTORS.name):
        # An n-gram model reads texts of any length; its state is that of its last tokens.
        eos = int(config.get("eos", 0))
        return ServedModel(
            name=name,
            folder=folder,
            kind=kind,
            architecture=str(config["family"]) if kind == COUNTS.name else "vectors",
            tokenizer=tokenizer,
            length_bound=LengthBound(tokenizer),
            context_length=UNLIMITED,
            eos_id=eos,
            stop_ids=frozenset([eos]),
            digest=_digest(folder),
        )
    eos = _as_list(config["eos_token_id"])[0]
    generation = folder / "generation_config.json"
    stops = _read_json(generation).get("eos_token_id", eos) if generation.is_file() else eos
    labels = config.get("id2label", {}) if kind in (CLASSIFICATION, TAGGING) else {}
    length = config[
        "max_position_embeddings" if "max_position_embeddings" in config else "n_positions"
    ]
    return ServedModel(
        name=name,
        folder=folder,
        kind=kind,
        architecture=str(config["model_type"]),
        tokenizer=tokenizer,
        length_bound=LengthBound(tokenizer),
        context_length=int(length),
        eos_id=eos,
        stop_ids=frozenset(_as_list(stops)),
        digest=_digest(folder),
        chat_template=_read_chat_template(folder),
        labels=tuple(labels[str(number)] for number in range(len(labels))),
        multi_label=config.get("problem_type") == "multi_label_classification",
        mask_id=int(config["vocab_size"]) - 1 if kind == MASKED.name else None,
    )


def _find_kind(config: Mapping[str, Any], folder: Path) -> str:
    if (folder / VOCABULARY_FILE).is_file() and "unit" in config:
        return VECTORS.name
    if config.get("family") == "ngram":
        return COUNTS.name
    hf_class = str(next(iter(config.get("architectures", ())), ""))
    head = config.get(MODEL_CONFIG_KEY, {}).get("head", {})
    if head.get("task") == EMBEDDING:
        return EMBEDDING
    for ending, kind in KINDS.items():
        if hf_class.endswith(ending):
            return kind
    raise UserError(
        f"{folder}: {MODEL_CONFIG} names the class {hf_class or 'of no model'}, which is not served; language "
        "models, classifiers, taggers, embeddings and word vectors are"
    )


def _read_chat_template(folder: Path) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    template = _read_json(settings).get("chat_template") if settings.is_file() else None
    return template if isinstance(template, str) else None


def _digest(folder: Path) -> str:
    """Return the digest that ``lm.scoring.load.weights_digest`` returns of the release."""
    digests = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if is_decisive(name):
            with path.open("rb") as file:
                digests[name] = file_digest(file, "sha256").hexdigest()
    return digest_weights(digests)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path.parent} has no {path.name}: name the folder of a released model"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    return content


def _as_list(value: Any) -> list[int]:
    return [int(item) for item in value] if isinstance(value, list) else [int(value)]
