"""Release a fine-tuned model: the class of transformers with its head, and a tokenizer that reads as training did."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load
from tokenizers import Tokenizer

from infra.compute.progress import Progress
from infra.dataset.dataset import Dataset
from infra.dataset.stage import Context, DatasetSpec, commit_files
from lm.models.heads.config import parse
from lm.models.heads.hf import run_hf_model, to_hf_model
from lm.models.hf_auto import load_model
from lm.models.registry import family_name
from lm.models.seq2seq.sections import Seq2SeqConfig
from lm.models.transformers_lock import TRANSFORMERS_LOCK
from lm.objectives.chat import TEMPLATE, TURN_END
from lm.objectives.text_rows import text_template
from tasks.release.export import (
    LOGIT_TOLERANCE,
    ParityError,
    TrainedModel,
    add_model_config,
    added_tokens,
    check_tokenizer,
    export,
    read_hf_class,
    save_tokenizer,
)
from tasks.release.finetuned_card import render_finetuned_card
from tasks.release.model_card import collect_lineage

FILES = ("config.json", "model.safetensors", "reference_logits.safetensors", "tokenizer.json")


def build(ctx: Context, spec: DatasetSpec, *, model: Dataset, tokens: Dataset | None) -> Dataset:
    """Export, check, and commit.

    Returns:
        A data set that is a Hugging Face folder; see ``tasks.release.task``.

    Raises:
        ParityError: if the exported model's outputs or tokens differ from the fine-tuned one's.
    """
    ctx.reporter.update(Progress("release", spec.source, 0, 1, "exporting"))
    files = {name: model.read(name) for name in FILES}
    config, task = json.loads(files["config.json"]), str(model.stats["task"])
    trained = TrainedModel(
        config["model_config"],
        load(files["model.safetensors"]),
        load(files["reference_logits.safetensors"]),
        files["tokenizer.json"],
        int(model.stats["eos_id"]),
    )
    with tempfile.TemporaryDirectory(prefix="gristmill-release-") as scratch:
        folder = Path(scratch)
        with TRANSFORMERS_LOCK:
            difference = export_finetuned(trained, task, folder)
            hf_class = read_hf_class(folder)
        lineage = collect_lineage(ctx.storage, [model, *([tokens] if tokens else [])])
        has_own_code = any(folder.glob("*.py"))
        text = render_finetuned_card(
            model, tokens, config, lineage, hf_class, has_own_code=has_own_code
        )
        (folder / "README.md").write_text(text, encoding="utf-8")
        dataset = commit_files(
            ctx,
            spec,
            {
                path.relative_to(folder).as_posix(): path
                for path in folder.rglob("*")
                if path.is_file()
            },
            counts=model.counts,
            stats={
                "parameters": model.stats["parameters"],
                "kind": task,
                "task": task,
                "largest_logit_difference": difference,
                "format": hf_class,
            },
        )
    note = f"outputs within {difference:.1g} of the fine-tuned model's"
    ctx.reporter.update(Progress("release", spec.source, 1, 1, note))
    return dataset


def export_finetuned(trained: TrainedModel, task: str, folder: Path) -> float:
    """Write a folder that transformers' ``Auto`` classes load, and check it.

    Returns:
        The largest difference of an output of the exported and of the fine-tuned model.

    Raises:
        ParityError: if it is above 1e-4, or the tokenizer encodes differently.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # they would clutter the run's log
    base, head = parse(trained.model_config)
    added, processor = added_tokens(trained), template(trained, task, base)
    if head is None:
        difference = export(trained, folder)
    else:
        model = to_hf_model(trained.model_config, trained.weights)
        model.save_pretrained(folder)
        tokens, expected = (trained.reference_logits[name] for name in ("tokens", "logits"))
        outputs = run_hf_model(load_model(folder), head, tokens)
        gaps = (outputs - expected).abs()
        if gaps.dim() == 3:  # at the padding, outputs mean nothing
            gaps = gaps[tokens >= 0]
        difference = float(gaps.max())
        if not difference <= LOGIT_TOLERANCE:
            raise ParityError(
                f"release: an output of the exported model differs by {difference:.3g} from the fine-tuned "
                f"model's (tolerance {LOGIT_TOLERANCE:g}); nothing was released"
            )
    chat = TEMPLATE if task == "chat" else None
    save_tokenizer(trained, folder, added, post_processor=processor, chat_template=chat)
    check_tokenizer(trained, folder, added, post_processor=processor)
    if task == "chat":
        _stop_at(folder, [trained.eos, trained.model_config["added_tokens"][TURN_END]])
    add_model_config(folder, trained.model_config)
    if task == "embedding":
        write_sentence_transformers_files(folder, trained.model_config)
    return difference


def template(trained: TrainedModel, task: str, base: Any) -> Any:
    """Return what adds tokens around a text, as training did; ``None`` if nothing does.

    A conversation has its own template, and a program that is filled in its own marks.
    """
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer.from_str(trained.tokenizer.decode())
    if task in ("chat", "completion"):
        return None
    if task == "seq2seq" and isinstance(base, Seq2SeqConfig):
        name = tokenizer.id_to_token(trained.eos)
        return TemplateProcessing(
            single=["$A:0", f"{name}:0"], special_tokens=[(name, trained.eos)]
        )
    # A decoder writes the target after the end of the source.
    ends_text = family_name(base.architecture) == "encoder" or task == "seq2seq"
    return text_template(tokenizer, trained.eos, ends_text=ends_text)


def _stop_at(folder: Path, ids: list[int]) -> None:
    """Let ``generate`` stop at any of these tokens."""
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text())
    settings["eos_token_id"] = ids
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def write_sentence_transformers_files(folder: Path, model_config: Mapping[str, Any]) -> None:
    """Write what ``SentenceTransformer(folder)`` reads: take the mean of the states, at length 1."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
        {
            "idx": 2,
            "name": "2",
            "path": "2_Normalize",
            "type": "sentence_transformers.models.Normalize",
        },
    ]
    pooling = {
        "word_embedding_dimension": model_config["hidden_size"],
        "pooling_mode_mean_tokens": True,
    }
    settings = {"max_seq_length": model_config["context_length"], "do_lower_case": False}
    for name, value in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("sentence_bert_config.json", settings),
    ):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
