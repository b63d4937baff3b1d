"""The stage: rules per part, one election over all copies, then the corpus part by part."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dag import Step
from infra.dataset import BrokenPromise, Dataset
from infra.errors import UserError
from infra.fingerprint import digest
from infra.progress import Progress
from infra.removals import Removal, raw
from infra.stage import Context, Spec, Stage, Unit
from infra.stage import build as build_dataset
from tasks.select.config import SelectConfig
from tasks.select.elect import Candidate, Loss, elect
from tasks.select.part import COPIES, Triple, survey, write
from tasks.select.part import STAGE as NAME

STAGE = Stage(NAME, modules=("tasks.select", "infra.rules"), libraries=("pyarrow",))
EDGES = "edges.parquet"
SHOWN_CLUSTERS = 3

I64 = npt.NDArray[np.int64]


class ImplausibleLoss(UserError):
    """A source loses so large a share of its documents to duplication that something is wrong."""


def spec(
    ctx: Context,  # noqa: ARG001
    *,
    config: SelectConfig,
    documents: Sequence[Dataset],
    notes: Sequence[Dataset],
    marks: Dataset,
    removals: Sequence[Removal] = (),
) -> Spec:
    """What would be made of these data sets, less what was taken out.

    Raises:
        UserError: if ``overrides`` names a source that is not in the recipe.
    """
    names = [data.source for data in documents]
    for source in config.overrides:
        if source not in names:
            known = ", ".join(sorted(str(name) for name in names))
            raise UserError(
                f"select.overrides.{source}: no source has this name; there are {known}"
            )
    return Spec(STAGE, None, config.facts(), (*documents, *notes, marks), raw(removals))


def build(
    ctx: Context,
    spec: Spec,
    *,
    config: SelectConfig,
    documents: Sequence[Dataset],
    notes: Sequence[Dataset],
    marks: Dataset,
    removals: Sequence[Removal] = (),
) -> Dataset:
    """Choose the corpus.

    A document that was taken out is dropped before any rule is asked and has no part in the
    election. Only parts that hold such a document, or a copy of one, are written anew.

    Raises:
        ImplausibleLoss: if a source loses more than ``max_source_loss`` to duplication.
        BrokenPromise: if documents, notes and marks do not belong together.
    """
    triples = _triples(documents, notes, marks)
    gates = [config.gates(data.source) for data in documents]
    starts = np.cumsum([0, *(triple.documents.rows for triple in triples)])
    passed = [0] * len(documents)
    payloads = [(triple, gates[triple.source], removals) for triple in triples]
    copies: list[pa.Table] = [COPIES.empty_table()] * len(triples)
    taken: list[dict[str, Any]] = [{}] * len(triples)
    for done, (index, (count, *found)) in enumerate(ctx.cluster.map(survey, payloads), 1):
        passed[triples[index].source] += count
        copies[index], taken[index] = found
        note = f"{done:,} of {len(triples):,} parts judged"
        ctx.reporter.update(Progress(STAGE.name, None, 0, len(triples), note))
    candidates = _candidates(triples, copies, starts)
    lost = elect(list(candidates.values()), _pairs(marks, copies, starts))
    _alarm(config, documents, passed, Counter(candidates[n].source for n in lost), marks)
    drops = [
        copied | gone
        for copied, gone in zip(_drops(triples, copies, starts, lost), taken, strict=True)
    ]
    units = [
        Unit(
            digest([t.documents.content, t.notes.content, t.marks.content, t.source, dropped]),
            (t, gates[t.source], dropped),
            t.notes.rows,
        )
        for t, dropped in zip(triples, drops, strict=True)
    ]
    losses = Counter(
        (documents[candidates[n].source].source, loss.reason) for n, loss in lost.items()
    )
    facts = {
        "sources": {
            str(data.source): {
                "passed_rules": passed[place],
                "exact_duplicate": losses[data.source, "exact_duplicate"],
                "near_duplicate": losses[data.source, "near_duplicate"],
            }
            for place, data in enumerate(documents)
        }
    }
    return build_dataset(ctx, spec, units, write, facts=lambda _: facts)


def _triples(
    documents: Sequence[Dataset], notes: Sequence[Dataset], marks: Dataset
) -> list[Triple]:
    parts = [
        (source, texts, noted)
        for source, (data, annotated) in enumerate(zip(documents, notes, strict=True))
        for texts, noted in zip(data.parts, annotated.parts, strict=True)
    ]
    out = []
    for (source, texts, noted), marked in zip(parts, marks.parts, strict=True):
        if noted.name != texts.name or marked.rows != texts.rows or noted.rows > texts.rows:
            raise BrokenPromise(
                f"{texts.storage.url} part {texts.name}: {texts.rows} documents, but "
                f"{noted.rows} notes in part {noted.name} and {marked.rows} marks"
            )
        out.append(Triple(source, texts, noted, marked))
    return out


def _candidates(
    triples: Sequence[Triple], copies: Sequence[pa.Table], starts: I64
) -> dict[int, Candidate]:
    """The copies that passed the rules, by number."""
    found = {}
    for triple, table, start in zip(triples, copies, starts, strict=False):
        for row in table.filter(table["passed"]).to_pylist():
            number = int(start) + row["row"]
            group = row["exact_group"] or number
            found[number] = Candidate(number, triple.source, row["characters"], row["id"], group)
    return found


def _pairs(
    marks: Dataset, copies: Sequence[pa.Table], starts: I64
) -> list[tuple[str | int, str | int, float]]:
    """The verified pairs, as pairs of what `_candidates` calls a group."""
    groups: dict[int, str] = {}
    for table, start in zip(copies, starts, strict=False):
        grouped = table.filter(pc.is_valid(table["exact_group"]))
        groups.update(
            zip(
                (int(start) + row for row in grouped["row"].to_pylist()),
                grouped["exact_group"].to_pylist(),
                strict=True,
            )
        )
    edges = pq.read_table(pa.BufferReader(marks.read(EDGES)))
    ends = [
        (starts[edges[f"part_{side}"].to_numpy()] + edges[f"row_{side}"].to_numpy()).tolist()
        for side in "ab"
    ]
    return [
        (groups.get(a, a), groups.get(b, b), similarity)
        for a, b, similarity in zip(*ends, edges["similarity"].to_pylist(), strict=True)
    ]


def _drops(
    triples: Sequence[Triple], copies: Sequence[pa.Table], starts: I64, lost: Mapping[int, Loss]
) -> list[dict[str, Any]]:
    """For each part, its lost copies by row; JSON values, since they name the unit of work."""
    names = {}
    for table, start in zip(copies, starts, strict=False):
        for row in table.select(["row", "id", "url"]).to_pylist():
            names[int(start) + row["row"]] = (row["id"], row["url"])
    out: list[dict[str, Any]] = [{} for _ in triples]
    for number, loss in sorted(lost.items()):
        part = int(np.searchsorted(starts, number, side="right")) - 1
        survivor, url = names[loss.survivor]
        out[part][str(number - int(starts[part]))] = {
            "reason": loss.reason,
            "evidence": {"survivor": survivor, "url": url, "similarity": loss.similarity},
        }
    return out


def _alarm(
    config: SelectConfig,
    documents: Sequence[Dataset],
    passed: Sequence[int],
    lost: Mapping[int, int],
    marks: Dataset,
) -> None:
    """Stop before anything is committed if a source loses too much."""
    for place, data in enumerate(documents):
        gone, had = lost.get(place, 0), passed[place]
        if had < config.min_source_documents or gone <= config.max_source_loss * had:
            continue
        largest = [
            f"{cluster['documents']} documents with {_address(cluster['members'][0])}"
            for cluster in marks.facts["largest_clusters"]
            if str(data.source) in cluster["sources"]
        ]
        raise ImplausibleLoss(
            f"select: source {data.source!r} would lose {gone} of its {had} documents "
            f"({gone / had:.1%}) to duplication; select.max_source_loss allows "
            f"{config.max_source_loss:.0%}. Its largest clusters: "
            f"{'; '.join(largest[:SHOWN_CLUSTERS]) or 'none among the ten largest'}. "
            f"If these are copies indeed, raise select.max_source_loss; nothing was committed"
        )


def _address(member: Mapping[str, Any]) -> str:
    return str(member.get("url") or member.get("title") or member["id"])


select = Step("select", spec, build)
