"""Write the model card from the lineage of the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from infra.config import flatten_sections
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.manifest import FINGERPRINT_CHARS, DatasetNotFoundError
from infra.store.storage import Storage
from lm.models.model_kind import HFModelKind


@dataclass(frozen=True)
class LineageEntry:
    """A data set that the model was made from; ``dataset`` is None if it was deleted."""

    stage: str
    source: str | None
    fingerprint: str
    dataset: Dataset | None


def collect_lineage(root: Storage, datasets: Sequence[Dataset]) -> list[LineageEntry]:
    """Return these data sets and all that they were made from, each once, nearest first."""
    entries = [LineageEntry(d.stage, d.source, d.fingerprint, d) for d in datasets]
    fingerprints = {item.fingerprint for item in entries}
    for item in entries:  # grows during the iteration
        for parent in item.dataset.manifest.inputs if item.dataset else ():
            if parent["fingerprint"] in fingerprints:
                continue
            fingerprints.add(parent["fingerprint"])
            name = f"{parent['source'] or 'all'}-{parent['fingerprint'][:FINGERPRINT_CHARS]}"
            try:
                data = open_dataset(root.subdir(parent["stage"], name))
            except DatasetNotFoundError:
                data = None
            entries.append(
                LineageEntry(parent["stage"], parent["source"], parent["fingerprint"], data)
            )
    return entries


def count_licenses(entries: Sequence[LineageEntry]) -> dict[str, int]:
    """Count the documents of the corpus by license; ``unknown`` if none was recorded."""
    counted: dict[str, int] = {}
    for ancestor in entries:
        if ancestor.stage != "select" or ancestor.dataset is None:
            continue
        for part in ancestor.dataset.parts:
            for license_ in part.table(["license"])["license"].to_pylist():
                name = license_ or "unknown"
                counted[name] = counted.get(name, 0) + 1
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def render_card(
    model: Dataset,
    tokens: Dataset,
    config: Mapping[str, Any],
    lineage: Sequence[LineageEntry],
    kind: HFModelKind,
    hf_class: str,
    *,
    has_own_code: bool = False,
    formats: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Render README.md: what the model is, what it needs, what it was made from, how it was trained.

    Args:
        model: the data set of `train`.
        tokens: the token shards that it was trained on.
        config: the model's ``config.json``.
        lineage: the data sets that the tokens were made from.
        kind: what it is.
        hf_class: the class that loads it.
        has_own_code: whether the class is in a file of the folder, not in transformers.
        formats: statistics of further formats, by name (``tasks.release.formats.write``).
    """
    stats: Any = model.stats
    training, model_config = config["training"], config["model_config"]
    in_llama_cpp = kind.in_llama_cpp and not has_own_code
    trust = ", trust_remote_code=True" if has_own_code else ""
    needs = (
        "It needs transformers 5 or newer. transformers have no such model: its code is the `modeling` file of "
        "this folder, which `trust_remote_code=True` allows to run."
        if has_own_code
        else "It needs transformers 4.57 or newer, or a server that loads its folders, such as vLLM; no code "
        "of its own."
        if in_llama_cpp
        else "It needs transformers 5 or newer; no code of its own."
    )
    base = stats.get("init_from")
    initial = f"from the weights of {base}, which is among its data," if base else "from scratch"
    losses = [f"{stats['loss']:.4f} nats per token over the last steps of training"]
    if stats.get("validation_loss") is not None:
        losses.append(f"{stats['validation_loss']:.4f} nats per token on held-out documents")
    return "\n".join(
        [
            *front_matter(tokens, "transformers", kind.pipeline_tag),
            "",
            f"# {model.source}",
            "",
            (
                f"{kind.title} (`{hf_class}`) with {stats['parameters']:,} parameters "
                f"(vocabulary {model_config['vocab_size']:,}, context {model_config['context_length']:,} tokens), trained "
                f"{initial} by Gristmill on {stats['tokens']:,} tokens "
                f"({stats['epochs']:.2f} epochs). It was built from raw pages and books in one run; "
                "all numbers below are from that run's records."
            ),
            "",
            "## Use",
            "",
            "```python",
            f"from transformers import {kind.auto_class}, AutoTokenizer",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("."{trust})',
            f'model = {kind.auto_class}.from_pretrained("."{trust})',
            *kind.usage,
            "```",
            "",
            f"{needs} Weights are in fp32. {kind.input_note}",
            "",
            *(
                []
                if "gguf" in formats
                else [_llama_cpp_note(tokens), ""]
                if in_llama_cpp
                else ["llama.cpp has no model of this kind.", ""]
            ),
            (
                f"{kind.output_note} It was not tuned to follow instructions or to be safe, and it may "
                "reproduce its training data, errors included."
            ),
            "",
            *_describe_formats(formats),
            "## Loss",
            "",
            *(f"- {line}" for line in losses),
            "",
            *data_section(lineage),
            "## Training",
            "",
            *markdown_table(
                ("setting", "value"),
                [(key, f"`{value}`") for key, value in sorted(flatten_sections(training).items())],
            ),
            "",
        ]
    )


def _describe_formats(stats: Mapping[str, Any]) -> list[str]:
    """Return the lines of a card about further formats; none without any."""
    lines = []
    if "gguf" in stats:
        gap = stats["gguf"]["largest_logprob_difference"]
        lines.append(f"- `model.gguf`, for llama.cpp: log-probabilities within {gap:.1g}")
    if "onnx" in stats:
        gap = stats["onnx"]["largest_logprob_difference"]
        lines.append(f"- `model.onnx`, for onnxruntime: log-probabilities within {gap:.1g}")
    if "int8" in stats:
        int8 = stats["int8"]
        lines.append(
            f"- `model.int8.onnx`, for onnxruntime, {int8['bytes'] / int8['bytes_fp32']:.0%} of the size in fp32: "
            f"{int8['bits_per_byte']:.4f} bits per byte on {int8['documents']} held-out documents, against "
            f"{int8['bits_per_byte_fp32']:.4f} (a loss of {int8['loss']:.4f}, 95 % interval {int8['loss_low']:.4f} to "
            f"{int8['loss_high']:.4f})"
        )
    return ["## Other formats", "", *lines, ""] if lines else []


def _llama_cpp_note(tokens: Dataset) -> str:
    pre_tokenizer = find_llama_cpp_pre_tokenizer(tokens.manifest.config)
    return (
        "For llama.cpp: `convert_hf_to_gguf.py` knows pre-tokenizers by a hash of the vocabulary. "
        + (
            f"Add the hash that it prints for this one to `get_vocab_base_pre`, as `{pre_tokenizer}`."
            if pre_tokenizer
            else "llama.cpp has no pre-tokenizer that splits text as this tokenizer does."
        )
    )


def render_counted_card(
    model: Dataset, tokens: Dataset, lineage: Sequence[LineageEntry], family: Any
) -> str:
    """Render README.md of a model that the training loop did not train.

    Args:
        model: the data set of `train`.
        tokens: the token shards that it was made from.
        lineage: the data sets that the tokens were made from.
        family: its family's module ``export``: ``describe`` and ``list_sizes`` of statistics, ``USAGE``,
            ``KIND``.
    """
    settings = sorted(flatten_sections(model.manifest.config).items())
    return "\n".join(
        [
            *front_matter(tokens, None, family.KIND.pipeline_tag),
            "",
            f"# {model.source}",
            "",
            (
                f"{family.describe(model.stats)} It was built from raw pages and books in one run; all "
                "numbers below are from that run's records."
            ),
            "",
            "## Use",
            "",
            family.USAGE,
            "",
            "It may reproduce its training data, errors included.",
            "",
            *data_section(lineage),
            "## Training",
            "",
            *markdown_table(("setting", "value"), [(key, f"`{value}`") for key, value in settings]),
            "",
            *markdown_table(*family.list_sizes(model.stats)),
            "",
        ]
    )


def front_matter(tokens: Dataset | None, library: str | None, pipeline_tag: str) -> list[str]:
    """Return the YAML at the beginning of a card; without token shards it names no languages."""
    by_language = {} if tokens is None else tokens.stats.get("by_language", {})
    languages = sorted(key for key in by_language if key and len(key) in (2, 3))
    lines = ["---", *([f"library_name: {library}"] if library else [])]
    lines.append(f"pipeline_tag: {pipeline_tag}")
    if languages:
        lines += ["language:", *(f"- {code!r}" for code in languages)]
    return [*lines, "tags:", "- gristmill", "---"]


def data_section(lineage: Sequence[LineageEntry]) -> list[str]:
    """Return the lines about data sets and licenses, with an empty one at the end."""
    rights = [(name, f"{count:,}") for name, count in count_licenses(lineage).items()]
    return [
        "## Data",
        "",
        *markdown_table(
            ("stage", "source", "documents in", "kept", "fingerprint"),
            [
                (
                    item.stage,
                    item.source or "",
                    f"{item.dataset.counts.n_in:,}" if item.dataset else "not in the store",
                    f"{item.dataset.counts.kept:,}" if item.dataset else "",
                    f"`{item.fingerprint[:FINGERPRINT_CHARS]}`",
                )
                for item in lineage
            ],
        ),
        "",
        "Licenses of the corpus, as stated by its sources:",
        "",
        *(markdown_table(("license", "documents"), rights) if rights else ["none recorded."]),
        "",
    ]


def find_llama_cpp_pre_tokenizer(tokenize_config: Mapping[str, Any]) -> str | None:
    """Return llama.cpp's name for the rule by which text is split into words, if it has one."""
    usual = {"digits": "default", "spaces": "merge", "normalization": "none", "tokenizer": None}
    if any(tokenize_config.get(name, value) != value for name, value in usual.items()):
        return None
    return {"gpt2": "gpt-2", "llama3": "llama-bpe"}.get(tokenize_config.get("pretokenizer", ""))


def markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
