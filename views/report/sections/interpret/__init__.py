"""What models look at: attributions, attention and embeddings of a text, and the picture of word vectors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import Dataset, try_open_dataset
from lm.interpret.packed_maps import unpack_map
from lm.models.embedding.token_text import write_field
from views.report.embedding_plot import Place, place_points
from views.report.finetuned_models import find_main_models
from views.report.heatmap import heatmap
from views.report.quotes import not_removed
from views.report.report_run import ReportRun, Section


@dataclass(frozen=True)
class Attribution:
    """What is explained, its probability, and what each token that was read adds to it."""

    target: str
    probability: float
    scores: Sequence[float]


@dataclass(frozen=True)
class Interpretation:
    """A model and what it makes of a text.

    Attributes:
        name: of the model.
        document: id of the document or example that the text is of; ``None`` for word vectors.
        url: of that document.
        where: file and row of an example.
        hf_class: the model's class.
        score: what the attributions are of.
        tokens: as the model reads them.
        attributions: one per label, or token that was written.
        rollout: a picture.
        maps: pictures with their titles.
        neighbors: each token with its neighbors, as text.
        places: of the tokens in the picture of embeddings.
        too_large: the number of parameters of a model that is not explained for its size; all else is empty.
    """

    name: str
    document: str | None
    url: str | None
    where: str
    hf_class: str
    score: str | None
    tokens: Sequence[str]
    attributions: Sequence[Attribution]
    rollout: str | None
    maps: Sequence[tuple[str, str]]
    neighbors: Sequence[tuple[str, str]]
    places: Sequence[Place]
    too_large: int | None = None


def collect(run: ReportRun) -> list[Interpretation] | None:
    """Return the models of a run that were explained, trained and fine-tuned ones; ``None`` without any."""
    return [*_trained(run), *_fine_tuned(run)] or None


def _trained(run: ReportRun) -> Iterator[Interpretation]:
    for entry in run.record.models:
        data = try_open_dataset(run.storage, entry.evaluate) if entry.evaluate else None
        if data is None:
            continue
        if projection := data.stats.get("projection"):
            yield _picture_words(entry.name, projection)
        yield from _mention_size(entry.name, data)
        item = data.stats.get("interpretation")
        if item and not run.find_removed({item["id"]: item["url"]}):
            yield _draw(entry.name, item)


def _fine_tuned(run: ReportRun) -> Iterator[Interpretation]:
    for name, scores in find_main_models(run):
        yield from _mention_size(name, scores)
        item = scores.stats.get("interpretation")
        if item and not_removed(run, [item]):
            yield _draw(name, item)


def _mention_size(name: str, data: Dataset) -> Iterator[Interpretation]:
    size = data.stats.get("too_large_to_explain")
    if size is not None:
        yield Interpretation(name, None, None, "", "", None, (), (), None, (), (), (), int(size))


def _picture_words(name: str, projection: Mapping[str, Sequence[float]]) -> Interpretation:
    places = place_points((write_field(word), point) for word, point in projection.items())
    return Interpretation(name, None, None, "", "word vectors", None, (), (), None, (), (), places)


def _draw(name: str, item: Mapping[str, Any]) -> Interpretation:
    tokens = item["tokens"]
    return Interpretation(
        name,
        item["id"],
        item["url"],
        f"{item['file']}:{item['row']}" if "file" in item else "",
        item["hf_class"],
        item["score"],
        tokens,
        [
            Attribution(own["target"], own["probability"], own["scores"])
            for own in item["attributions"]
        ],
        heatmap(unpack_map(item["rollout"])) if item["rollout"] else None,
        [
            (f"layer {layer}, head {number}", heatmap(unpack_map(head)))
            for layer, heads in zip(item["layers"] or (), item["maps"] or (), strict=True)
            for number, head in enumerate(heads, 1)
        ],
        [
            (token, "; ".join(f"{other} {cosine:.2f}" for other, cosine in own))
            for token, own in dict(zip(tokens, item["neighbors"], strict=True)).items()
        ],
        place_points(zip(tokens, item["points"], strict=True)),
    )


SECTION = Section("interpret", "What models look at", collect)
