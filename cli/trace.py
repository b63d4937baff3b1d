"""``gristmill trace``: training steps to documents, and a document to its steps."""

import re
from dataclasses import asdict
from typing import Any

import click

from cli.common import handle_errors, json_option, print_json, recipe_options
from flows.recipe import Recipe
from flows.recipe_loader import load_recipe
from flows.steps import TRAIN
from infra.dataset.dataset import DatasetNotFoundError
from infra.errors import UserError
from infra.runs.run_records import RunNotFoundError, latest_run, with_earlier_results
from infra.store.storage import Storage
from lm.data.shuffle import batch_for_step
from views.history.training_data import (
    DocumentSteps,
    TracedRun,
    documents_in_steps,
    find_run_in_progress,
    run_from_model,
    steps_with_document,
)

DEFAULT_LIMIT, MAX_STEPS_SHOWN = 20, 12  # printed without --json


@click.command()
@recipe_options
@click.option("--model", "name", help="an entry of train; optional if there is only one")
@click.option("--steps", metavar="A:B", help="the documents of steps A to B - 1")
@click.option("--url", help="the steps that trained on the document with this URL")
@click.option(
    "--id", "document", help="the steps that trained on this document; a prefix of its id is enough"
)
@click.option(
    "--in-progress",
    "running",
    is_flag=True,
    help="trace the run in progress, not the committed model",
)
@click.option(
    "--limit",
    type=int,
    default=DEFAULT_LIMIT,
    show_default=True,
    help="number of documents printed",
)
@json_option
@handle_errors
def trace(
    path: str,
    storage: str | None,
    overrides: tuple[str, ...],
    name: str | None,
    steps: str | None,
    url: str | None,
    document: str | None,
    running: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List the documents of training steps, or the training steps of a document."""
    if sum(item is not None for item in (steps, url, document)) != 1:
        raise UserError("one of --steps A:B, --url and --id is expected")
    recipe = load_recipe(path, overrides, storage)
    first, end = _parse_step_range(steps)
    run = _open_run(recipe, _resolve_model(recipe, name), running=running)
    if steps is not None:
        documents = documents_in_steps(run, first, end)
    else:
        documents = steps_with_document(run, str(url or document))
    head = {
        "recipe": recipe.name,
        "model": run.name,
        "path": run.path,
        "running": run.in_progress,
        "total_steps": run.steps,
        "global_batch_size": run.sampler.plan.global_batch_size,
        "init_from": run.init_from,
    }
    if as_json:
        query = {"steps": [first, end]} if steps is not None else {"url": url, "id": document}
        print_json(
            {**head, **query, "documents": [_document_json(run, item) for item in documents]}
        )
        return
    for line in _format_trace(run, documents, limit, (first, end) if steps is not None else None):
        click.echo(line)
    if run.init_from is not None:
        click.echo(
            f"{run.name} started from the weights of {run.init_from}; see --model {run.init_from}"
        )


def _parse_step_range(steps: str | None) -> tuple[int, int]:
    if steps is None:
        return 0, 0
    match = re.fullmatch(r"(\d+):(\d+)", steps)
    if match is None:
        raise UserError(f"--steps {steps}: A:B is expected, two step numbers")
    return int(match[1]), int(match[2])


def _resolve_model(recipe: Recipe, name: str | None) -> str:
    names = [entry.name for entry in recipe.train]
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        entries = f"train has {', '.join(names)}" if names else "the recipe trains no model"
        raise UserError(f"--model {name}: {entries}" if name else f"--model is expected: {entries}")
    return name


def _open_run(recipe: Recipe, name: str, *, running: bool) -> TracedRun:
    """Open the committed model of the latest run, or the run in progress."""
    store = Storage(recipe.storage)
    if not running:
        try:
            record = with_earlier_results(store, latest_run(store, recipe.name))
        except RunNotFoundError:
            record = None
        for stage in record.stages if record else ():
            if (stage.stage, stage.entry) == (TRAIN.name, name):
                try:
                    return run_from_model(stage.open(store), stage.path)
                except DatasetNotFoundError as error:
                    raise UserError(
                        f"model {name} ({stage.path}) cannot be traced: {error}"
                    ) from None
    run = find_run_in_progress(store, name)
    if run is None:
        if running:
            raise UserError(
                f"{store.url} has no run in progress on this machine named {name}; "
                "without --in-progress its finished model is traced"
            )
        raise UserError(
            f"{store.url} has neither a model nor a run named {name}; `gristmill run` trains it"
        )
    return run


def _document_json(run: TracedRun, document: DocumentSteps) -> dict[str, Any]:
    at = [
        {"step": step, "batch": batch_for_step(step, run.sampler.plan.skip), "positions": positions}
        for step, positions in document.steps.items()
    ]
    return {**asdict(document), "steps": at}


def _format_trace(
    run: TracedRun, documents: list[DocumentSteps], limit: int, step_range: tuple[int, int] | None
) -> list[str]:
    model = f"{run.name} ({run.path}{', in progress' if run.in_progress else ''})"
    if step_range is None:
        lines = []
        for item in documents:
            lines.append(f"{item.url or item.id}  source {item.source}, id {item.id}")
            steps = f"in {len(item.steps):,} of {run.steps:,} steps of {model}"
            size = item.end_token - item.first_token
            lines.append(
                f"  {size:,} tokens [{item.first_token}, {item.end_token}), {item.predicted_tokens:,} predicted "
                f"{steps}"
            )
            for step, positions in item.steps.items():
                batch = batch_for_step(step, run.sampler.plan.skip)
                shown = " ".join(map(str, positions))
                lines.append(f"  step {step}  batch {batch}  position {shown}")
        return lines
    tokens = sum(item.predicted_tokens for item in documents)
    total = f"{tokens:,} tokens of {len(documents):,} documents"
    first, last = step_range[0], step_range[1] - 1
    steps_text = f"step {first}" if first == last else f"steps {first} to {last}"
    lines = [f"{steps_text} of {run.steps:,} of {model}: {total}"]
    for item in sorted(documents, key=lambda item: (-item.predicted_tokens, item.first_token))[
        :limit
    ]:
        at = " ".join(map(str, list(item.steps)[:MAX_STEPS_SHOWN])) + (
            " ..." if len(item.steps) > MAX_STEPS_SHOWN else ""
        )
        spans = " ".join(f"[{a}, {b})" for a, b in item.token_ranges)
        lines.append(
            f"{item.predicted_tokens:>8,}  {item.url or item.id}  source {item.source}, id {item.id}"
        )
        lines.append(f"{'':>8}  steps {at}  tokens {spans}")
    if len(documents) > limit:
        lines.append(
            f"… {len(documents) - limit:,} more: --limit {len(documents)} or --json shows all"
        )
    return lines
