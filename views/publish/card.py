"""What a model card says beyond the export's own: evaluation, gates, data, removals, energy, limits."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.config import flatten_sections
from infra.registry.versions import FAILED, Version
from views.publish.lineage import Provenance
from views.publish.other_systems import describe_test
from views.removal.exposure import ExposureRecord
from views.report.formatting import format_duration
from views.report.sections.leaderboard.board import JOULES_PER_WH, measure_energy


@dataclass(frozen=True)
class Prices:
    """What an operator states about electricity; ``None`` if nothing.

    Attributes:
        grams_per_kwh: grams of carbon dioxide per kilowatt-hour.
        cost_per_kwh: its price.
    """

    grams_per_kwh: float | None = None
    cost_per_kwh: float | None = None


def extend_card(
    card: str, provenance: Provenance, exposure: ExposureRecord | None, prices: Prices
) -> str:
    """Return an export's card with what is known only after it was evaluated and registered.

    Args:
        card: the export's ``README.md``.
        provenance: what the model was made from.
        exposure: removed documents that it was trained on; ``None`` if there are none.
        prices: of electricity.
    """
    version = provenance.version
    sections = [
        ("Version", _version(version)),
        ("Evaluation", _evaluation(version)),
        *_test(provenance),
        ("Gates", _gates(version)),
        ("Languages", _languages(provenance)),
        ("Filters", _filters(provenance)),
        ("Removals", _removals(exposure)),
        ("Energy, carbon and cost", _energy(provenance, prices)),
        ("Intended use and limits", _limits(version, provenance)),
        ("Check this folder", _check()),
    ]
    # What the export says of limits is part of the last section.
    parts = [re.sub(r"(?ms)^## Limits\n.*?(?=^## |\Z)", "", card, count=1).rstrip()]
    for title, lines in sections:
        parts.append("\n".join([f"## {title}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def _version(version: Version) -> list[str]:
    against = "no champion" if version.champion is None else f"version {version.champion}"
    return [
        (
            f"Version {version.number} of `{version.recipe}`, registered {version.created} by the run "
            f"`{version.run}`; judged against {against}. The digest of its files is `{version.weights}`."
        )
    ]


def _evaluation(version: Version) -> list[str]:
    rows = [
        (
            f"`{row['name']}`",
            _number(row["value"]),
            f"{_number(row['low'])} to {_number(row['high'])}" if row["low"] is not None else "",
            "" if row["n"] is None else f"{row['n']:,}",
            "more" if row["higher_is_better"] else "less",
        )
        for row in version.metrics
    ]
    if not rows:
        return ["It was not evaluated."]
    columns = ("metric", "value", "95 % interval", "items", "better is")
    return [*_table(columns, rows)]


def _test(provenance: Provenance) -> list[tuple[str, list[str]]]:
    """Return the section about a fine-tuned model's test; none for other models."""
    if provenance.test is None:
        return []
    name, stats = provenance.version.model, provenance.test.stats
    return [("Beside other systems", describe_test(name, stats))]


def _gates(version: Version) -> list[str]:
    if not version.gates:
        return ["The recipe has no gates."]
    rows = [
        (
            f"`{gate.gate}`",
            _number(gate.value),
            _number(gate.limit),
            "" if gate.n is None else f"{gate.n:,}",
            "passed" if gate.passed else "FAILED",
            gate.note,
        )
        for gate in version.gates
    ]
    return _table(("condition", "value", "limit", "items", "result", "note"), rows)


def _languages(provenance: Provenance) -> list[str]:
    rows = [
        (
            name or "unknown",
            f"{group['documents']:,}",
            f"{group['tokens']:,}",
            f"{group['bytes']:,}",
        )
        for name, group in provenance.languages.items()
    ]
    if not rows:
        return ["The tokenized corpus is not in the store."]
    note = "Of the tokenized corpus, its held-out documents included."
    return [note, "", *_table(("language", "documents", "tokens", "bytes"), rows)]


def _filters(provenance: Provenance) -> list[str]:
    corpus = provenance.dataset("corpus")
    if corpus is None:
        return ["The corpus is not in the store."]
    settings = flatten_sections(corpus.manifest.config)
    rows = [(f"`{key}`", f"`{value}`") for key, value in sorted(settings.items())]
    dropped = sorted(corpus.counts.dropped.items(), key=lambda item: (-item[1], item[0]))
    reasons = [(reason, f"{count:,}") for reason, count in dropped]
    kept = f"{corpus.counts.kept:,} of {corpus.counts.n_in:,} documents stayed."
    lines = [*_table(("setting", "value"), rows), "", kept]
    return [*lines, "", *_table(("reason", "documents"), reasons)] if reasons else lines


def _removals(exposure: ExposureRecord | None) -> list[str]:
    if exposure is None:
        return ["No document that it was trained or validated on is removed as of this release."]
    if exposure.documents is None:
        return [f"{exposure}."]
    return [
        f"Debt: {exposure}.",
        "",
        "Removed documents are no longer in the corpus; these weights were trained on them before.",
    ]


def _energy(provenance: Provenance, prices: Prices) -> list[str]:
    model = provenance.dataset("model")
    if model is None:
        return ["The training's records are not in the store."]
    stats: Mapping[str, Any] = model.stats
    tokens, speed = stats.get("tokens"), stats.get("tokens_per_second")
    seconds = float(tokens) / float(speed) if tokens and speed else None
    joules, source = measure_energy(stats, model.manifest.config.get("run") or {}, seconds)
    lines = []
    if stats.get("cpu_seconds"):
        lines.append(f"- {format_duration(float(stats['cpu_seconds']))} of processor time")
    if stats.get("training_flops"):
        lines.append(f"- {float(stats['training_flops']):.3g} floating-point operations")
    if joules is None:
        lines.append(
            "- energy: not measured (no counter could be read, and the recipe states no `run.watts`)"
        )
        return lines
    hours = joules / JOULES_PER_WH
    lines.append(f"- {hours:.3g} Wh ({source}), training alone, without cooling and idle time")
    if prices.grams_per_kwh is not None:
        grams = hours / 1000 * prices.grams_per_kwh
        lines.append(f"- {grams:.3g} g of CO2 at {prices.grams_per_kwh:g} g per kWh, as stated")
    if prices.cost_per_kwh is not None:
        cost = hours / 1000 * prices.cost_per_kwh
        lines.append(f"- {cost:.3g} for electricity at {prices.cost_per_kwh:g} per kWh, as stated")
    return lines


def _limits(version: Version, provenance: Provenance) -> list[str]:
    lines = [
        *describe_use(provenance.export.stats),
        "- It may reproduce its training data, personal data and errors included.",
        "- The licenses above are those that sources state; whether a use is allowed is for its user to find out.",
    ]
    if version.state == FAILED:
        lines.insert(0, "- **It fails gates of its recipe** and was released all the same.")
    if provenance.missing:
        lines.append(f"- {len(provenance.missing)} data sets that it was made from are deleted.")
    return lines


def describe_use(stats: Mapping[str, Any]) -> list[str]:
    """Say what a model is for and what it was not tuned for, from the statistics of its export."""
    use = (
        f"- It is a {stats.get('kind', 'model')} model of the texts listed above, for use on texts like these: their "
        "languages, subjects and times."
    )
    if "task" in stats:
        use = (
            f"- It was fine-tuned for one task, {stats['task']}, for use on texts like its examples: their "
            "languages, subjects and times. The figures above are of such texts, and say nothing of others. Errors and "
            "biases of the examples and of the base's corpus are in it. It was not checked for uses in which an error "
            "does harm."
        )
    tuned = "- It was not tuned to follow instructions or to be safe, and has no notion of truth."
    if stats.get("task") == "chat":
        tuned = (
            "- It answers as the conversations do that it was tuned on. It was not tuned to be safe, and has no notion "
            "of truth."
        )
    return [use, tuned]


def _check() -> list[str]:
    return [
        (
            "`SHA256SUMS` has the digest of every file (`sha256sum -c SHA256SUMS`). If there is a `SHA256SUMS.sig`, it is "
            "their Ed25519 signature:"
        ),
        "",
        "```sh",
        "openssl pkeyutl -verify -pubin -inkey PUBLIC_KEY.pem -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig",
        "```",
        "",
        "`sbom.cdx.json` is the bill of materials (CycloneDX 1.6), `release.json` the version's record.",
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
