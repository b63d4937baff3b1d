"""The model card, written from the lineage of the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import SHORT, Dataset, NotCommitted, open_dataset
from infra.store.storage import Storage


@dataclass(frozen=True)
class Ancestor:
    """A data set that the model was made from, as far as it is still in the store."""

    stage: str
    source: str | None
    fingerprint: str
    dataset: Dataset | None


def lineage(root: Storage, youngest: Sequence[Dataset]) -> list[Ancestor]:
    """All data sets that these were made from, themselves first, each once, nearest first."""
    found = [Ancestor(d.stage, d.source, d.fingerprint, d) for d in youngest]
    seen = {item.fingerprint for item in found}
    for item in found:  # grows while it is walked
        for parent in item.dataset.manifest.inputs if item.dataset else ():
            if parent["fingerprint"] in seen:
                continue
            seen.add(parent["fingerprint"])
            name = f"{parent['source'] or 'all'}-{parent['fingerprint'][:SHORT]}"
            try:
                data = open_dataset(root.at(parent["stage"], name))
            except NotCommitted:
                data = None
            found.append(Ancestor(parent["stage"], parent["source"], parent["fingerprint"], data))
    return found


def licences(ancestors: Sequence[Ancestor]) -> dict[str, int]:
    """Documents of the corpus by their licence; ``unknown`` where none was recorded."""
    counted: dict[str, int] = {}
    for ancestor in ancestors:
        if ancestor.stage != "select" or ancestor.dataset is None:
            continue
        for part in ancestor.dataset.parts:
            for licence in part.table(["license"])["license"].to_pylist():
                name = licence or "unknown"
                counted[name] = counted.get(name, 0) + 1
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def card(
    model: Dataset,
    tokens: Dataset,
    training: Mapping[str, Any],
    shape: Mapping[str, Any],
    ancestors: Sequence[Ancestor],
) -> str:
    """README.md of the folder: what the model is, what it was made from, how it was trained.

    Args:
        model: the data set of `train`.
        tokens: the token shards that it was trained on.
        training: the recipe's entry.
        shape: the decoder's shape.
        ancestors: where the tokens come from.
    """
    facts: Any = model.facts
    rights = [(name, f"{count:,}") for name, count in licences(ancestors).items()]
    languages = sorted(
        key for key in tokens.facts.get("by_language", {}) if key and len(key) in (2, 3)
    )
    front = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    if languages:
        front += ["language:", *(f"- {code!r}" for code in languages)]
    front += ["tags:", "- gristmill", "---"]
    base = facts.get("start_from")
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
                f"(vocabulary {shape['vocabulary']:,}, context {shape['context']:,} tokens), trained "
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
            *_table(
                ("stage", "source", "documents in", "kept", "fingerprint"),
                [
                    (
                        item.stage,
                        item.source or "",
                        f"{item.dataset.counts.in_:,}" if item.dataset else "not in the store",
                        f"{item.dataset.counts.kept:,}" if item.dataset else "",
                        f"`{item.fingerprint[:SHORT]}`",
                    )
                    for item in ancestors
                ],
            ),
            "",
            "Licences of the corpus, as its sources state them:",
            "",
            *(_table(("licence", "documents"), rights) if rights else ["none recorded."]),
            "",
            "## Training",
            "",
            *_table(
                ("setting", "value"),
                [(key, f"`{value}`") for key, value in sorted(training.items())],
            ),
            "",
        ]
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
