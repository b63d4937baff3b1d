"""The stage `release`: export a trained model, and commit it only if its logits are the same."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from infra.compute.progress import Progress
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context, DatasetSpec, Stage, commit_files
from lm.models.registry import hf_modules, trained_package
from lm.models.transformers_lock import TRANSFORMERS_LOCK
from tasks.release.model_card import collect_lineage, render_card

STAGE = Stage(
    "release",
    modules=("tasks.release.task",),
    libraries=("transformers", "tokenizers", "safetensors"),
)
FILES = ("config.json", "model.safetensors", "reference_logits.safetensors", "tokenizer.json")


def spec(ctx: Context, *, model: Dataset, tokens: Dataset) -> DatasetSpec:  # noqa: ARG001
    """Describe the release of a trained model; its code version covers the model's family only."""
    package = trained_package(model.manifest.config)
    stage = replace(STAGE, modules=(*STAGE.modules, *hf_modules(package)))
    return DatasetSpec(stage, model.source, {}, (model, tokens))


def build(ctx: Context, spec: DatasetSpec, *, model: Dataset, tokens: Dataset) -> Dataset:
    """Export, check, and commit.

    Returns:
        A data set that is a Hugging Face folder: ``config.json``, ``generation_config.json``,
        ``model.safetensors``, the tokenizer's files, ``README.md`` and, for a model that
        transformers do not have, its modeling file.

    Raises:
        ParityError: if the exported model's logits or tokens differ from the trained one's.
    """
    from tasks.release.export import TrainedModel, export, read_hf_class

    ctx.reporter.update(Progress(STAGE.name, spec.source, 0, 1, "exporting"))
    files = {name: model.read(name) for name in FILES}
    config = json.loads(files["config.json"])
    with tempfile.TemporaryDirectory(prefix="gristmill-release-") as scratch:
        folder = Path(scratch)
        trained = TrainedModel.from_files(files, tokens.stats["eos_id"])
        with TRANSFORMERS_LOCK:
            difference = export(trained, folder)
            hf_class = read_hf_class(folder)
        ancestors = collect_lineage(ctx.storage, [model, tokens])
        has_own_code = any(folder.glob("*.py"))
        text = render_card(model, tokens, config, ancestors, hf_class, has_own_code=has_own_code)
        (folder / "README.md").write_text(text, encoding="utf-8")
        dataset = commit_files(
            ctx,
            spec,
            {path.name: path for path in folder.iterdir()},
            counts=model.counts,
            stats={
                "parameters": model.stats["parameters"],
                "largest_logit_difference": difference,
                "format": hf_class,
            },
        )
    note = f"logits within {difference:.1g} of the trained model's"
    ctx.reporter.update(Progress(STAGE.name, spec.source, 1, 1, note))
    return dataset
