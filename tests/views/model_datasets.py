"""Models of the miniature run: training logs and evaluations in the stages' formats."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import Counts, Dataset
from infra.dataset.stage import DatasetSpec, Stage, commit_files
from tests.views.datasets import Made, Road, add, ledger, pages

TRIGRAM, UNIGRAM = 2.31, 4.62
HELD_OUT = {"site": 41_200, "library": 22_900}
LANGUAGES = {"en": 49_000, "de": 9_800, "fr": 5_300}


def models(road: Road, tokens: Dataset, path: Path) -> None:
    """Two models: one better than the baselines, one between them."""
    for place, name in enumerate(("tiny", "narrow")):
        log = path / f".{name}.jsonl"
        log.write_text("".join(json.dumps(line) + "\n" for line in training_log(place)))
        spec = DatasetSpec(
            Stage("train", ("infra.dataset.ledger",)),
            name,
            {"model": {"num_layers": 4, "hidden_size": 128}},
            (tokens,),
        )
        data = commit_files(
            road.ctx,
            spec,
            {"logs/metrics.jsonl": log},
            counts=Counts(40, 40),
            stats={"parameters": 1_342_208, "steps": 1000, "context_length": 256},
        )
        log.unlink()
        road.datasets[f"train {name}"] = data
        facts = {"metrics": metrics(1.93 + 0.44 * place), "samples": samples()}
        kept = pages()[:8]
        made: Made = (pa.table({"id": [page.id for page in kept]}), ledger("evaluate", kept), {})
        add(road, "evaluate", name, [data, tokens], [made], facts)


def training_log(place: int) -> list[dict[str, float]]:
    """A loss that falls and flattens, validated every tenth line."""
    lines = []
    for step in range(10, 1001, 10):
        loss = 3.2 + 0.5 * place + 5 * math.exp(-step / 120) + 0.12 * math.sin(step * 1.7)
        line: dict[str, float] = {
            "step": step,
            "tokens": step * 2048,
            "loss": loss,
            "learning_rate": 0.01 * min(1, step / 30) * (1 - step / 1100),
            "gradient_norm": 0.4 + 2 * math.exp(-step / 60),
            "tokens_per_second": 15_500 + 300 * math.sin(step),
            "mfu": 0.41,
        }
        if step % 100 == 0:
            line["validation_loss"] = loss + 0.15
        lines.append(line)
    return lines


def _rates(bits: float, size: int) -> dict[str, Any]:
    def one(value: float) -> dict[str, float]:
        return {"bits_per_byte": round(value, 6), "perplexity": round(2 ** (value * 4), 4)}

    return {
        "documents": max(1, size // 6000),
        "tokens": size // 4,
        "bytes": size,
        **one(bits),
        "baselines": {
            "unigram": one(UNIGRAM + size % 7 / 50),
            "trigram": one(TRIGRAM + size % 5 / 50),
        },
    }


def metrics(bits: float) -> dict[str, Any]:
    """Figures in the form of the evaluation stage."""
    return {
        **_rates(bits, sum(HELD_OUT.values())),
        "by_source": {name: _rates(bits + 0.1, size) for name, size in HELD_OUT.items()},
        "by_language": {
            name: _rates(bits + place * 0.2, size)
            for place, (name, size) in enumerate(LANGUAGES.items())
        },
    }


def samples() -> list[dict[str, str]]:
    """Continuations, one of them with markup in it."""
    return [
        {
            "id": "a" * 32,
            "url": "https://docs.example.org/page/4",
            "source": "site",
            "language": "en",
            "prompt": "The mill turns as long as there is",
            "generated": " a river, and the <b>stones</b> of the miller were not to be had.",
            "continuation": " water in the race.",
        },
        {
            "id": "b" * 32,
            "url": "book:volume-3",
            "source": "library",
            "language": "de",
            "prompt": "Als der Fluss gefror,",
            "generated": " ging der Müller in den Wald.",
            "continuation": " erzählte der Müller Geschichten.",
        },
    ]
