"""The stage `release`: export a trained model, and commit it only if its logits are the same."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from infra.compute.progress import Progress
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context, DatasetSpec, Stage, commit_files
from lm.models.model_kind import HFModelKind
from lm.models.registry import counting_modules, hf_modules, load_counting, trained_package
from lm.models.transformers_lock import TRANSFORMERS_LOCK
from tasks.release.formats.supported import PACKAGES
from tasks.release.model_card import collect_lineage, render_card, render_counted_card

STAGE = Stage(
    "release",
    modules=("tasks.release.task",),
    libraries=("transformers", "tokenizers", "safetensors"),
)
FORMAT_MODULES = (
    "tasks.release.formats.write",
    "tasks.release.formats.supported",
    "tasks.release.formats.gguf",
    "tasks.release.formats.llama_cpp",
    "tasks.release.formats.onnx",
)
FILES = ("config.json", "model.safetensors", "reference_logits.safetensors", "tokenizer.json")


def spec(
    ctx: Context,  # noqa: ARG001
    *,
    model: Dataset,
    tokens: Dataset | None,
    formats: Sequence[str] = (),
) -> DatasetSpec:
    """Describe the release of a trained model; its code version covers the model's family only.

    Args:
        ctx: the run.
        model: to be exported.
        tokens: what it, or its base, was trained on; ``None`` if its base is a released folder.
        formats: further formats, of `release.formats`.
    """
    inputs = (model,) if tokens is None else (model, tokens)
    if is_finetuned(model):
        own = ("tasks.release.finetuned", *hf_modules(model.stats["architecture"]))
        stage = replace(STAGE, modules=(*STAGE.modules, *own))
        return DatasetSpec(stage, model.source, {}, inputs)
    package = trained_package(model.manifest.config)
    modules = (*STAGE.modules, *hf_modules(package), *counting_modules(package, "export"))
    if not formats:
        stage = replace(STAGE, modules=modules)
        return DatasetSpec(stage, model.source, {}, inputs)
    libraries = (*STAGE.libraries, *_format_libraries(formats))
    stage = replace(STAGE, modules=(*modules, *FORMAT_MODULES), libraries=libraries)
    return DatasetSpec(stage, model.source, {"formats": sorted(formats)}, inputs)


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    model: Dataset,
    tokens: Dataset | None,
    formats: Sequence[str] = (),
) -> Dataset:
    """Export, check, and commit.

    Returns:
        A data set that is a Hugging Face folder: ``config.json``, ``generation_config.json``,
        ``model.safetensors``, the tokenizer's files, ``README.md`` and, for a model that
        transformers do not have, its modeling file. Of a model that was counted, what its family's
        ``export`` writes and ``README.md``. Its statistics have the model's ``kind``, by which it is
        evaluated and shown.

    Raises:
        ParityError: if the exported model's logits or tokens differ from the trained one's.
    """
    if is_finetuned(model):
        # By name, so that the code version of other releases does not cover it.
        finetuned: Any = import_module("tasks.release.finetuned")
        return cast("Dataset", finetuned.build(ctx, spec, model=model, tokens=tokens))
    assert tokens is not None  # only a fine-tuned model can be of others
    counting = load_counting(trained_package(model.manifest.config), "export")
    if counting is not None:
        return _build_counted(ctx, spec, model, tokens, counting)
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
        written = _write_formats(trained, folder, model, tokens, formats)
        ancestors = collect_lineage(ctx.storage, [model, tokens])
        has_own_code = any(folder.glob("*.py"))
        kind: HFModelKind = trained.hf.KIND
        text = render_card(
            model,
            tokens,
            config,
            ancestors,
            kind,
            hf_class,
            has_own_code=has_own_code,
            formats=written,
        )
        (folder / "README.md").write_text(text, encoding="utf-8")
        dataset = commit_files(
            ctx,
            spec,
            {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()},
            counts=model.counts,
            stats={
                "parameters": model.stats["parameters"],
                "kind": kind.name,
                "largest_logit_difference": difference,
                "format": hf_class,
                **({"formats": written} if formats else {}),
            },
        )
    note = f"logits within {difference:.1g} of the trained model's"
    ctx.reporter.update(Progress(STAGE.name, spec.source, 1, 1, note))
    return dataset


def _write_formats(
    trained: Any, folder: Path, model: Dataset, tokens: Dataset, formats: Sequence[str]
) -> Mapping[str, Any]:
    if not formats:
        return {}
    # By name, so that the code version of releases without further formats does not cover it.
    writer: Any = import_module(FORMAT_MODULES[0])
    return cast(
        "Mapping[str, Any]",
        writer.write_formats(trained, folder, str(model.source), tokens, formats),
    )


def _format_libraries(formats: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({item for name in formats for item in PACKAGES[name]}))


def is_finetuned(model: Dataset) -> bool:
    """Return whether a model is one of the stage `finetune`, not of `train`."""
    return model.stage == "finetune"


def _build_counted(
    ctx: Context,
    spec: DatasetSpec,
    model: Dataset,
    tokens: Dataset,
    family: Any,
) -> Dataset:
    """Export and commit a model that was counted, with its family's module ``export``."""
    ctx.reporter.update(Progress(STAGE.name, spec.source, 0, 1, "exporting"))
    with tempfile.TemporaryDirectory(prefix="gristmill-release-") as scratch:
        folder = Path(scratch)
        family.export(model, folder)
        ancestors = collect_lineage(ctx.storage, [model, tokens])
        text = render_counted_card(model, tokens, ancestors, family)
        (folder / "README.md").write_text(text, encoding="utf-8")
        dataset = commit_files(
            ctx,
            spec,
            {path.name: path for path in folder.iterdir()},
            counts=model.counts,
            stats={
                "parameters": model.stats["parameters"],
                "kind": family.KIND.name,
                "format": family.FORMAT,
            },
        )
    ctx.reporter.update(Progress(STAGE.name, spec.source, 1, 1, f"written as {family.FORMAT}"))
    return dataset
