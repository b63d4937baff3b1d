"""``gristmill trace``."""

import re
from dataclasses import asdict
from typing import Any

import click

from cli.common import guarded, json_option, recipe_options, show
from flows.recipe import Recipe, load
from infra.dataset.dataset import NotCommitted
from infra.errors import UserError
from infra.runs.run_records import NoRun, extended, latest
from infra.store.storage import Storage
from lm.data.shuffle import batch_of
from views.history.training_data import Document, Run, documents_of, in_progress, of_model, steps_of

DOCUMENTS, STEPS = 20, 12  # shown on a terminal


@click.command()
@recipe_options
@click.option("--model", "name", help="an entry of train; may be left out if there is one")
@click.option("--steps", metavar="A:B", help="what the steps from A to B - 1 learned from")
@click.option("--url", help="the steps that saw the document at this address")
@click.option("--id", "document", help="the steps that saw this document; the beginning does")
@click.option("--running", is_flag=True, help="the run in progress, not the committed model")
@click.option("-n", "count", type=int, default=DOCUMENTS, show_default=True, help="documents shown")
@json_option
@guarded
def trace(
    path: str,
    storage: str | None,
    overrides: tuple[str, ...],
    name: str | None,
    steps: str | None,
    url: str | None,
    document: str | None,
    running: bool,
    count: int,
    as_json: bool,
) -> None:
    """Steps of a training to their documents, and a document to its steps."""
    if sum(item is not None for item in (steps, url, document)) != 1:
        raise UserError("one of --steps A:B, --url and --id is expected")
    recipe = load(path, overrides, storage)
    first, end = _range(steps)
    run = _run(recipe, _model(recipe, name), running=running)
    if steps is not None:
        found = documents_of(run, first, end)
    else:
        found = steps_of(run, url=url, id=document)
    head = {
        "recipe": recipe.name,
        "model": run.name,
        "path": run.path,
        "running": run.running,
        "of_steps": run.steps,
        "batch": run.order.plan.batch,
        "start_from": run.start_from,
    }
    if as_json:
        asked = {"steps": [first, end]} if steps is not None else {"url": url, "id": document}
        show({**head, **asked, "documents": [_json(run, item) for item in found]})
        return
    for line in _lines(run, found, count, (first, end) if steps is not None else None):
        click.echo(line)
    if run.start_from is not None:
        click.echo(
            f"{run.name} started with what {run.start_from} had learned: --model {run.start_from}"
        )


def _range(steps: str | None) -> tuple[int, int]:
    if steps is None:
        return 0, 0
    match = re.fullmatch(r"(\d+):(\d+)", steps)
    if match is None:
        raise UserError(f"--steps {steps}: A:B is expected, two numbers of steps")
    return int(match[1]), int(match[2])


def _model(recipe: Recipe, name: str | None) -> str:
    names = [entry.name for entry in recipe.train]
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        there = f"train has {', '.join(names)}" if names else "the recipe trains no model"
        raise UserError(f"--model {name}: {there}" if name else f"--model is expected: {there}")
    return name


def _run(recipe: Recipe, name: str, *, running: bool) -> Run:
    """The committed model of the latest run, or the run in progress."""
    store = Storage(recipe.storage)
    if not running:
        try:
            record = extended(store, latest(store, recipe.name))
        except NoRun:
            record = None
        for stage in record.stages if record else ():
            if (stage.stage, stage.entry) == ("train", name):
                try:
                    return of_model(stage.open(store), stage.path)
                except NotCommitted as error:
                    raise UserError(
                        f"model {name} ({stage.path}) cannot be traced: {error}"
                    ) from None
    found = in_progress(store, name)
    if found is None:
        if running:
            raise UserError(
                f"{store.url} has no run in progress on this machine named {name}; "
                "without --running its finished model is traced"
            )
        raise UserError(
            f"{store.url} has neither a model nor a run named {name}; `gristmill run` trains it"
        )
    return found


def _json(run: Run, item: Document) -> dict[str, Any]:
    at = [
        {"step": step, "batch": batch_of(step, run.order.plan.skip), "positions": positions}
        for step, positions in item.steps.items()
    ]
    return {**asdict(item), "steps": at}


def _lines(run: Run, found: list[Document], count: int, steps: tuple[int, int] | None) -> list[str]:
    where = f"{run.name} ({run.path}{', in progress' if run.running else ''})"
    if steps is None:
        lines = []
        for item in found:
            lines.append(f"{item.url or item.id}  source {item.source}, id {item.id}")
            seen = f"in {len(item.steps):,} of {run.steps:,} steps of {where}"
            size = item.end_token - item.first_token
            lines.append(
                f"  {size:,} tokens [{item.first_token}, {item.end_token}), {item.tokens:,} times one "
                f"was predicted, {seen}"
            )
            for step, positions in item.steps.items():
                batch = batch_of(step, run.order.plan.skip)
                shown = " ".join(map(str, positions))
                lines.append(f"  step {step}  batch {batch}  position {shown}")
        return lines
    tokens = sum(item.tokens for item in found)
    what = f"{tokens:,} tokens of {len(found):,} documents"
    first, last = steps[0], steps[1] - 1
    which = f"step {first}" if first == last else f"steps {first} to {last}"
    lines = [f"{which} of {run.steps:,} of {where}: {what}"]
    for item in sorted(found, key=lambda item: (-item.tokens, item.first_token))[:count]:
        at = " ".join(map(str, list(item.steps)[:STEPS])) + (
            " ..." if len(item.steps) > STEPS else ""
        )
        spans = " ".join(f"[{a}, {b})" for a, b in item.ranges)
        lines.append(
            f"{item.tokens:>8,}  {item.url or item.id}  source {item.source}, id {item.id}"
        )
        lines.append(f"{'':>8}  steps {at}  tokens {spans}")
    if len(found) > count:
        lines.append(f"… {len(found) - count:,} more: -n {len(found)} or --json shows all")
    return lines
