"""``gristmill plan``."""

import click

from cli.common import handle_errors, json_option, print_json, recipe_options, until_option
from flows.planner import plan_pipeline
from flows.preflight import preflight_errors
from flows.recipe_loader import load_recipe
from flows.steps import StageName


@click.command()
@recipe_options
@until_option
@json_option
@handle_errors
def plan(
    path: str, storage: str | None, overrides: tuple[str, ...], until: StageName, as_json: bool
) -> None:
    """Show what would run, what exists already, and why; then what this machine cannot do."""
    recipe = load_recipe(path, overrides, storage)
    planner = plan_pipeline(recipe, until)
    errors = [str(error) for error in preflight_errors(recipe, until, lambda: planner)]
    steps = [
        {
            "stage": step.step,
            "source": step.source,
            "entry": step.entry,
            "path": step.folder and f"{recipe.storage.rstrip('/')}/{step.folder}",
            "state": "cached" if step.dataset is not None else "pending",
            "why": step.why,
        }
        for step in planner.steps
    ]
    if as_json:
        print_json({"recipe": recipe.name, "steps": steps, "errors": errors})
        return
    for step in steps:
        name = " ".join(filter(None, (step["stage"], step["source"] or step["entry"])))
        click.echo(f"{step['state']:<7} {name:<28} {step['why']}")
    for error in errors:
        click.echo(f"`gristmill run` would be refused on this machine: {error}")
