"""What a run makes as Prefect assets: segments, corpus, tokens, models and evaluations.

An asset is a name that stays, such as ``gristmill://quickstart/corpus``; each data set that is
committed under it is a materialization, with its fingerprint, folder and counts. Prefect adds which
assets it was made from. The open-source server keeps these events and can start automations by them.
"""

from collections.abc import Mapping
from typing import Any

from prefect.assets import Asset, AssetProperties

from flows.execute import StepResult
from infra.dataset.step import Output, Step

NAMES: Mapping[Output, str] = {
    "corpus": "corpus",
    "tokens": "tokens",
    "model": "models",
    "scores": "evaluations",
    "suite_scores": "suites",
    "repeated_passages": "memorization",
    "test_scores": "evaluations",
}
SEGMENTS = "segments"
STATS = ("tokens", "parameters", "vocab_size")  # of a data set, if it has them


def step_assets(recipe: str, step: Step[...], name: str | None) -> list[Asset]:
    """Return the asset that a step materializes: one, or none for data sets in between.

    Args:
        recipe: the recipe's name.
        step: the step.
        name: of the source or the model that the step is done for.
    """
    kind = NAMES.get(step.output) if step.inputs else SEGMENTS
    if kind is None:
        return []
    path = "/".join(part for part in (recipe, kind, name) if part)
    title = " ".join(part for part in (recipe, kind, name) if part)
    return [Asset(key=f"gristmill://{path}", properties=AssetProperties(name=title))]


def asset_metadata(result: StepResult) -> dict[str, Any]:
    """Return what identifies a data set, and its size, for the event of its materialization."""
    manifest = result.dataset.manifest
    metrics = manifest.stats.get("metrics", {})
    return {
        "folder": result.folder,
        "fingerprint": manifest.fingerprint,
        **manifest.counts.to_json(),
        "parts": len(manifest.parts),
        "bytes": sum(file.bytes for file in manifest.all_files),
        "seconds": round(result.seconds, 3),
        **{key: manifest.stats[key] for key in STATS if key in manifest.stats},
        **({"bits_per_byte": metrics["bits_per_byte"]} if "bits_per_byte" in metrics else {}),
    }
