"""``gristmill plan``."""

from typing import TYPE_CHECKING

import click

from cli.common import print_json, recipe_command, until_option

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.store.storage import Storage


@recipe_command
@until_option
def plan(recipe: "Recipe", store: "Storage", until: str, as_json: bool) -> None:
    """Show what would run, what exists already, and why; then what this machine cannot do."""
    from flows.depth import resolved_depth
    from flows.planner import plan_pipeline
    from flows.preflight import preflight_errors

    planner = plan_pipeline(recipe, until)
    errors = [str(error) for error in preflight_errors(recipe, until, lambda: planner)]
    steps = [
        {
            "stage": step.stage,
            "source": step.source,
            "entry": step.entry,
            "path": step.folder and f"{store.url.rstrip('/')}/{step.folder}",
            "state": "cached" if step.dataset is not None else "pending",
            "why": step.why,
        }
        for step in planner.steps
    ]
    derived = {entry.name: keys for entry in recipe.train if (keys := dict(resolved_depth(entry)))}
    if as_json:
        print_json({"recipe": recipe.name, "steps": steps, "depth": derived, "errors": errors})
        return
    for step in steps:
        name = " ".join(filter(None, (step["stage"], step["source"] or step["entry"])))
        click.echo(f"{step['state']:<7} {name:<28} {step['why']}")
    for name, keys in derived.items():
        shown = ", ".join(
            f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}"
            for key, value in keys.items()
        )
        click.echo(f"train.{name}.depth: {shown}")
    for error in errors:
        click.echo(f"`gristmill run` would be refused on this machine: {error}")
