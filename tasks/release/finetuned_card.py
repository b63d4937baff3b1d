"""Write the model card of a fine-tuned model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.config import flatten_sections
from infra.dataset.dataset import Dataset
from tasks.release.model_card import LineageEntry, data_section, front_matter, markdown_table

READ = (
    "from transformers import pipeline",
    "",
)


@dataclass(frozen=True)
class TaskText:
    """What a card says of a task.

    Attributes:
        title: what the model is.
        pipeline_tag: its task on the Hugging Face Hub.
        usage: lines of Python; ``TRUST`` stands for ``trust_remote_code=True`` where a folder has its own code.
        intended: what it is for.
    """

    title: str
    pipeline_tag: str
    usage: tuple[str, ...]
    intended: str


_LOAD_PAIR = (
    "import torch",
    "from transformers import AutoTokenizer, {auto}",
    "",
    'tokenizer = AutoTokenizer.from_pretrained("."TRUST)',
    'model = {auto}.from_pretrained("."TRUST)',
)


def _load(auto: str) -> tuple[str, ...]:
    return tuple(line.format(auto=auto) for line in _LOAD_PAIR)


TEXTS = {
    "classification": TaskText(
        "A text classifier",
        "text-classification",
        (
            *READ,
            'print(pipeline("text-classification", model="."TRUST)("some text", truncation=True))',
        ),
        "It assigns the labels below to texts like those it was trained on.",
    ),
    "tagging": TaskText(
        "A tagger of words",
        "token-classification",
        (
            *READ,
            'tag = pipeline("token-classification", model=".", aggregation_strategy="first"TRUST)',
            'print(tag("words that are divided by spaces"))',
        ),
        "It assigns a tag to each word; the first token of a word carries its tag. Divide words and punctuation "
        "by spaces, as in the training data.",
    ),
    "qa": TaskText(
        "A finder of answers in passages",
        "question-answering",
        (
            *_load("AutoModelForQuestionAnswering"),
            'inputs = tokenizer("the question", "the passage", return_tensors="pt")',
            "output = model(**inputs)",
            "start, end = output.start_logits.argmax(), output.end_logits.argmax()",
            "print(tokenizer.decode(inputs.input_ids[0, start : end + 1]))",
        ),
        "It marks the span of a passage that answers a question; start and end at the first token mean that it "
        "finds none.",
    ),
    "embedding": TaskText(
        "A model of text embeddings",
        "sentence-similarity",
        (
            "from sentence_transformers import SentenceTransformer",
            "",
            'vectors = SentenceTransformer("."TRUST).encode(["a query", "a text"])',
            "print(vectors[0] @ vectors[1])",
        ),
        "It gives texts vectors of length 1, whose product is large if one answers the other.",
    ),
    "seq2seq": TaskText(
        "A model that rewrites texts",
        "text2text-generation",
        (
            *_load("AutoModelForSeq2SeqLM"),
            'inputs = tokenizer("the source", return_tensors="pt")',
            "ids = model.generate(**inputs, max_new_tokens=60)[0]",
            "print(tokenizer.decode(ids, skip_special_tokens=True))",
        ),
        "It writes a target for a source like those it was trained on.",
    ),
    "chat": TaskText(
        "A model that answers in conversations",
        "text-generation",
        (
            *READ,
            'chat = pipeline("text-generation", model="."TRUST)',
            'print(chat([{"role": "user", "content": "Hello"}], max_new_tokens=60))',
        ),
        "It answers the user's turns. The tokenizer has its chat template.",
    ),
    "completion": TaskText(
        "A model that completes programs",
        "text-generation",
        (
            *_load("AutoModelForCausalLM"),
            'text = tokenizer.bos_token + "<fim_prefix>def f(x):<fim_suffix>    return y<fim_middle>"',
            'ids = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=40)[0]',
            "print(tokenizer.decode(ids))",
        ),
        "It continues text, and fills in what is missing between a prefix and a suffix.",
    ),
}


def render_finetuned_card(
    model: Dataset,
    tokens: Dataset | None,
    config: Mapping[str, Any],
    lineage: Sequence[LineageEntry],
    hf_class: str,
    *,
    has_own_code: bool,
) -> str:
    """Render README.md: what the model does and how it is used, its base, data, training and limits.

    Args:
        model: the data set of `finetune`.
        tokens: the token shards that the base was trained on; ``None`` if it is a released folder.
        config: the model's ``config.json``.
        lineage: the data sets that it was made from.
        hf_class: the class that loads it.
        has_own_code: whether the class is in a file of the folder, not in transformers.
    """
    stats: Any = model.stats
    text, labels = TEXTS[stats["task"]], config["model_config"].get("head", {}).get("labels", [])
    if stats["task"] == "seq2seq" and "num_sentinels" not in config["model_config"]:
        text = _DECODER_SEQ2SEQ
    trust = ", trust_remote_code=True" if has_own_code else ""
    usage = [line.replace("TRUST", trust) for line in text.usage]
    code = (
        " transformers have no such model: its code is in the `modeling` files of this folder, which "
        "`trust_remote_code=True` allows to run."
        if has_own_code
        else ""
    )
    origin = (
        "from random weights, for comparison"
        if stats["from_scratch"]
        else f"from the weights of `{stats['base']}`"
    )
    examples = stats["examples"]
    losses = [f"- {stats['loss']:.4f} nats per target over the last steps of training"]
    if stats.get("validation_loss") is not None:
        losses.append(
            f"- {stats['validation_loss']:.4f} nats per target on the validation examples"
        )
    return "\n".join(
        [
            *front_matter(tokens, "transformers", text.pipeline_tag),
            "",
            f"# {model.source}",
            "",
            (
                f"{text.title} (`{hf_class}`) with {stats['parameters']:,} parameters, fine-tuned by Gristmill {origin} on "
                f"{examples['train']:,} examples."
            ),
            "",
            "## Use",
            "",
            "```python",
            *usage,
            "```",
            "",
            (
                f"{text.intended} It needs transformers 5 or newer.{code} Weights are in fp32. Of a longer text "
                f"{stats['max_length']:,} tokens are read."
            ),
            "",
            *(
                ["Labels: " + ", ".join(f"`{label}`" for label in labels) + ".", ""]
                if labels
                else []
            ),
            "## Metrics",
            "",
            *losses,
            "",
            (
                "What is tested is the exported model: its metrics on the test examples, with 95 % intervals and beside "
                "baselines, are in the report of the run, and on the card of a released version under Evaluation."
            ),
            "",
            "## Limits",
            "",
            (
                "It knows what its examples show: on texts of another kind, language or time it may do worse, and its "
                "figures say nothing of them. Errors and biases of the examples and of the base's corpus are in it. "
                "It was not checked for uses in which an error does harm."
            ),
            "",
            *_task_data(lineage),
            *_base_data(stats, lineage),
            "## Training",
            "",
            *markdown_table(
                ("setting", "value"),
                [
                    (key, f"`{value}`")
                    for key, value in sorted(flatten_sections(config["training"]).items())
                ],
            ),
            "",
        ]
    )


def _task_data(lineage: Sequence[LineageEntry]) -> list[str]:
    """Return the lines about the licenses of the examples, with an empty one at the end."""
    counts: Counter[str] = Counter()
    for item in lineage:
        if item.stage == "prepare" and item.dataset is not None:
            for part in item.dataset.parts:
                licenses = part.table(["license"])["license"].to_pylist()
                counts.update(name or "not stated" for name in licenses)
    rows = [(name, f"{count:,}") for name, count in counts.most_common()]
    return [
        "## Examples",
        "",
        "Licenses of all examples, those of validation and test included, as the recipe or their files state them:",
        "",
        *(
            markdown_table(("license", "examples"), rows)
            if rows
            else ["they are not in the store."]
        ),
        "",
    ]


def _base_data(stats: Mapping[str, Any], lineage: Sequence[LineageEntry]) -> list[str]:
    """Return the lines about the base's data, with an empty one at the end."""
    if not stats["from_folder"]:
        return data_section(lineage)
    return [
        "## Data of the base",
        "",
        (
            f"The base is the released model `{stats['base']}`. What it was trained on, and under which licenses, is "
            "on its own card."
        ),
        "",
    ]


_DECODER_SEQ2SEQ = TaskText(
    TEXTS["seq2seq"].title,
    "text-generation",
    (
        *_load("AutoModelForCausalLM"),
        'inputs = tokenizer("the source", return_tensors="pt")',
        "ids = model.generate(**inputs, max_new_tokens=60)[0, inputs.input_ids.shape[1] :]",
        "print(tokenizer.decode(ids, skip_special_tokens=True))",
    ),
    TEXTS["seq2seq"].intended,
)
