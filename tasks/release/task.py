"""The stage: a model as it leaves the project, released only if it says what was trained."""

import json
import tempfile
from pathlib import Path

from infra.compute.progress import Progress
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context, Spec, Stage, commit_files
from infra.dataset.step import Step
from tasks.release.model_card import card, lineage

STAGE = Stage(
    "release",
    modules=("tasks.release.task",),
    libraries=("transformers", "tokenizers", "safetensors"),
)
FILES = ("config.json", "model.safetensors", "probe.safetensors", "tokenizer.json")


def spec(ctx: Context, *, model: Dataset, tokens: Dataset) -> Spec:  # noqa: ARG001
    """What would be released."""
    return Spec(STAGE, model.source, {}, (model, tokens))


def build(ctx: Context, spec: Spec, *, model: Dataset, tokens: Dataset) -> Dataset:
    """Export, check, and commit.

    Returns:
        A data set that is a Hugging Face folder: ``config.json``, ``generation_config.json``,
        ``model.safetensors``, the tokenizer's files and ``README.md``.

    Raises:
        ParityBroken: if the exported model's logits or tokens differ from the trained one's.
    """
    from tasks.release.export import Trained, export

    ctx.reporter.update(Progress(STAGE.name, spec.source, 0, 1, "exporting"))
    files = {name: model.read(name) for name in FILES}
    described = json.loads(files["config.json"])
    with tempfile.TemporaryDirectory(prefix="gristmill-release-") as scratch:
        folder = Path(scratch)
        difference = export(Trained.read(files, tokens.facts["eos_id"]), folder)
        ancestors = lineage(ctx.storage, [model, tokens])
        text = card(model, tokens, described["training"], described["shape"], ancestors)
        (folder / "README.md").write_text(text, encoding="utf-8")
        made = commit_files(
            ctx,
            spec,
            {path.name: path for path in folder.iterdir()},
            counts=model.counts,
            facts={
                "parameters": model.facts["parameters"],
                "largest_logit_difference": difference,
                "format": "LlamaForCausalLM",
            },
        )
    note = f"logits within {difference:.1g} of the trained model's"
    ctx.reporter.update(Progress(STAGE.name, spec.source, 1, 1, note))
    return made


release = Step("release", spec, build)
