"""The model card, written from the lineage of the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.config import flatten_sections
from infra.dataset.dataset import SHORT, Dataset, DatasetNotFoundError, open_dataset
from infra.store.storage import Storage


@dataclass(frozen=True)
class LineageEntry:
    """A data set that the model was made from, as far as it is still in the store."""

    stage: str
    source: str | None
    fingerprint: str
    dataset: Dataset | None


def collect_lineage(root: Storage, datasets: Sequence[Dataset]) -> list[LineageEntry]:
    """All data sets that these were made from, themselves first, each once, nearest first."""
    found = [LineageEntry(d.stage, d.source, d.fingerprint, d) for d in datasets]
    seen = {item.fingerprint for item in found}
    for item in found:  # grows while it is walked
        for parent in item.dataset.manifest.inputs if item.dataset else ():
            if parent["fingerprint"] in seen:
                continue
            seen.add(parent["fingerprint"])
            name = f"{parent['source'] or 'all'}-{parent['fingerprint'][:SHORT]}"
            try:
                data = open_dataset(root.subdir(parent["stage"], name))
            except DatasetNotFoundError:
                data = None
            found.append(
                LineageEntry(parent["stage"], parent["source"], parent["fingerprint"], data)
            )
    return found


def count_licenses(entries: Sequence[LineageEntry]) -> dict[str, int]:
    """Documents of the corpus by their licence; ``unknown`` where none was recorded."""
    counted: dict[str, int] = {}
    for ancestor in entries:
        if ancestor.stage != "select" or ancestor.dataset is None:
            continue
        for part in ancestor.dataset.parts:
            for licence in part.table(["license"])["license"].to_pylist():
                name = licence or "unknown"
                counted[name] = counted.get(name, 0) + 1
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def render_card(
    model: Dataset,
    tokens: Dataset,
    training: Mapping[str, Any],
    model_config: Mapping[str, Any],
    lineage: Sequence[LineageEntry],
) -> str:
    """README.md of the folder: what the model is, what it was made from, how it was trained.

    Args:
        model: the data set of `train`.
        tokens: the token shards that it was trained on.
        training: the recipe's entry.
        model_config: the decoder's shape.
        lineage: where the tokens come from.
    """
    facts: Any = model.stats
    rights = [(name, f"{count:,}") for name, count in count_licenses(lineage).items()]
    languages = sorted(
        key for key in tokens.stats.get("by_language", {}) if key and len(key) in (2, 3)
    )
    front = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    if languages:
        front += ["language:", *(f"- {code!r}" for code in languages)]
    front += ["tags:", "- gristmill", "---"]
    base = facts.get("init_from")
    begun = f"from the weights of {base}, which is among its data," if base else "from scratch"
    losses = [f"{facts['loss']:.4f} nats per token over the last steps of training"]
    if facts.get("validation_loss") is not None:
        losses.append(f"{facts['validation_loss']:.4f} nats per token on held-out documents")
    return "\n".join(
        [
            *front,
            "",
            f"# {model.source}",
            "",
            (
                f"A decoder in Llama's layout with {facts['parameters']:,} parameters "
                f"(vocabulary {model_config['vocab_size']:,}, context {model_config['context_length']:,} tokens), trained "
                f"{begun} by Gristmill on {facts['tokens']:,} tokens "
                f"({facts['epochs']:.2f} epochs). It was built from raw pages and books in one run; "
                "every figure below is taken from that run's records."
            ),
            "",
            "## Use",
            "",
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            'model = AutoModelForCausalLM.from_pretrained(".")',
            'prompt = tokenizer(tokenizer.bos_token + "Once", return_tensors="pt")',
            "print(tokenizer.decode(model.generate(**prompt, max_new_tokens=40)[0]))",
            "```",
            "",
            (
                "It continues text. It was not tuned to follow instructions or to be safe, and it may "
                "repeat what it has read, errors included."
            ),
            "",
            "## Loss",
            "",
            *(f"- {line}" for line in losses),
            "",
            "## Data",
            "",
            *_markdown_table(
                ("stage", "source", "documents in", "kept", "fingerprint"),
                [
                    (
                        item.stage,
                        item.source or "",
                        f"{item.dataset.counts.n_in:,}" if item.dataset else "not in the store",
                        f"{item.dataset.counts.kept:,}" if item.dataset else "",
                        f"`{item.fingerprint[:SHORT]}`",
                    )
                    for item in lineage
                ],
            ),
            "",
            "Licences of the corpus, as its sources state them:",
            "",
            *(_markdown_table(("licence", "documents"), rights) if rights else ["none recorded."]),
            "",
            "## Training",
            "",
            *_markdown_table(
                ("setting", "value"),
                [(key, f"`{value}`") for key, value in sorted(flatten_sections(training).items())],
            ),
            "",
        ]
    )


def _markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
