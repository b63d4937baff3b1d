"""``gristmill trace``: training steps to documents, and a document to its steps."""

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from cli.common import print_json, recipe_command
from infra.errors import UserError

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.store.storage import Storage
    from views.history.training_data import DocumentSteps, TracedRun

MAX_STEPS_SHOWN = 12  # without --json


@recipe_command
@click.option("--model", "name", help="an entry of train; optional if there is only one")
@click.option("--steps", metavar="A:B", help="the documents of steps A to B - 1")
@click.option("--url", help="the steps that trained on the document with this URL")
@click.option(
    "--id", "document", help="the steps that trained on this document; a prefix of its id is enough"
)
@click.option("--in-progress", "running", is_flag=True, help="the run in progress, not the model")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="number of documents printed",
)
def trace(
    recipe: "Recipe",
    store: "Storage",
    name: str | None,
    steps: str | None,
    url: str | None,
    document: str | None,
    running: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List the documents of training steps, or the training steps of a document."""
    from views.history.training_data import documents_in_steps, steps_with_document

    if sum(item is not None for item in (steps, url, document)) != 1:
        raise UserError("one of --steps A:B, --url and --id is expected")
    first, end = _parse_step_range(steps)
    run = _open_run(store, recipe.name, _resolve_model(recipe, name), running=running)
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
    model = f"{run.name} ({run.path}{', in progress' if run.in_progress else ''})"
    if steps is not None:
        lines = _format_steps(run, documents, model, first, end - 1, limit)
    else:
        lines = [line for item in documents for line in _format_document(run, item, model)]
    for line in lines:
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


def _resolve_model(recipe: "Recipe", name: str | None) -> str:
    names = [entry.name for entry in recipe.models]
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        entries = f"train has {', '.join(names)}" if names else "the recipe trains no model"
        raise UserError(f"--model {name}: {entries}" if name else f"--model is expected: {entries}")
    return name


def _open_run(store: "Storage", recipe: str, name: str, *, running: bool) -> "TracedRun":
    """Open the committed model of the latest run, or the run in progress."""
    from flows.steps import TRAIN
    from infra.dataset.manifest import DatasetNotFoundError
    from infra.runs.run_records import RunNotFoundError, latest_results
    from views.history.training_data import find_run_in_progress, run_from_model

    if not running:
        try:
            record = latest_results(store, recipe)
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


def _batch(run: "TracedRun", step: int) -> int:
    from lm.data.shuffle import batch_for_step

    return batch_for_step(step, run.sampler.plan.skip)


def _document_json(run: "TracedRun", document: "DocumentSteps") -> dict[str, Any]:
    at = [
        {"step": step, "batch": _batch(run, step), "positions": positions}
        for step, positions in document.steps.items()
    ]
    return {**asdict(document), "steps": at}


def _format_document(run: "TracedRun", document: "DocumentSteps", model: str) -> list[str]:
    """Format a document and every step that trained on it."""
    start, end = document.first_token, document.end_token
    tokens = f"{end - start:,} tokens [{start}, {end}), {document.predicted_tokens:,} predicted"
    lines = [
        f"{document.url or document.id}  source {document.source}, id {document.id}",
        f"  {tokens} in {len(document.steps):,} of {run.steps:,} steps of {model}",
    ]
    for step, positions in document.steps.items():
        shown = " ".join(map(str, positions))
        lines.append(f"  step {step}  batch {_batch(run, step)}  position {shown}")
    return lines


def _format_steps(
    run: "TracedRun",
    documents: list["DocumentSteps"],
    model: str,
    first: int,
    last: int,
    limit: int,
) -> list[str]:
    """Format the documents of some steps, those with most tokens first."""
    tokens = sum(item.predicted_tokens for item in documents)
    steps = f"step {first}" if first == last else f"steps {first} to {last}"
    lines = [
        f"{steps} of {run.steps:,} of {model}: {tokens:,} tokens of {len(documents):,} documents"
    ]
    ordered = sorted(documents, key=lambda item: (-item.predicted_tokens, item.first_token))
    for item in ordered[:limit]:
        at = " ".join(map(str, list(item.steps)[:MAX_STEPS_SHOWN]))
        more = " ..." if len(item.steps) > MAX_STEPS_SHOWN else ""
        spans = " ".join(f"[{start}, {end})" for start, end in item.token_ranges)
        label = f"{item.url or item.id}  source {item.source}, id {item.id}"
        lines.append(f"{item.predicted_tokens:>8,}  {label}")
        lines.append(f"{'':>8}  steps {at}{more}  tokens {spans}")
    if len(documents) > limit:
        rest = len(documents) - limit
        lines.append(f"… {rest:,} more: --limit {len(documents)} or --json shows all")
    return lines
