"""``gristmill models``: the models of the latest run, and the registry."""

from typing import TYPE_CHECKING

import click

from cli.common import print_json, print_message, recipe_command
from infra.errors import UserError

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.registry.history import Event
    from infra.store.storage import Storage

# Exit status; 1 is any other failure, 2 is click's for a wrong command line.
EXIT_GATE_FAILED = 4


class ModelsGroup(click.Group):
    """A group whose command `show` is meant if a recipe follows at once: ``gristmill models RECIPE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `show` before a recipe."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=ModelsGroup)
def models() -> None:
    """Show the models of the latest run, and list, compare, promote and roll back registered ones."""


reason_option = click.option("--reason", required=True, help="why; kept in the registry")
by_option = click.option("--by", help="who decides  [default: the user of this process]")


@recipe_command
@click.option(
    "--require",
    "requirements",
    multiple=True,
    metavar="CONDITION",
    help="exit with 4 unless it holds for every model and the latest run completed, for example "
    "'bits_per_byte <= previous * 1.005'; may be given several times",
)
@click.option(
    "--reason", help="look at the latest run that was started for this reason, as a deployment"
)
@click.option("--markdown", is_flag=True, help="print Markdown, for the summary of a CI job")
def show(
    recipe: "Recipe",
    store: "Storage",
    requirements: tuple[str, ...],
    reason: str | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Show the models of the latest run beside those before them; check conditions on them."""
    from flows.steps import STEPS
    from infra.runs.run_records import latest_run, latest_run_for
    from lm.metrics.conditions import parse_condition
    from views.models.comparison import compare_models

    conditions = [parse_condition(text) for text in requirements]
    record = (
        latest_run(store, recipe.name)
        if reason is None
        else latest_run_for(store, recipe.name, reason)
    )
    comparison = compare_models(store, record, STEPS, conditions)
    if as_json:
        print_json(comparison.to_json())
    else:
        click.echo(comparison.to_markdown() if markdown else comparison.to_text())
    if requirements and not comparison.passed:
        raise SystemExit(EXIT_GATE_FAILED)


@recipe_command
@click.option("--history", is_flag=True, help="also every decision: who, when, why, from what")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="also the value of this metric, such as suite.bias.gap; may be given several times",
)
def list_(
    recipe: "Recipe", store: "Storage", history: bool, metrics: tuple[str, ...], as_json: bool
) -> None:
    """List the registered versions of a recipe's models, the newest first."""
    from infra.registry.history import load_history
    from views.models.comparison import align_rows
    from views.models.versions import list_versions

    listed = list_versions(store, recipe.name)
    events = load_history(store, recipe.name) if history else []
    if as_json:
        value = {"recipe": recipe.name, "versions": [item.to_json() for item in listed]}
        print_json({**value, "history": [e.to_json() for e in events]} if history else value)
        return
    if not listed:
        click.echo(
            f"no model of {recipe.name} is registered; a recipe with `release` registers them"
        )
        return
    known = {name for item in listed for name in item.version.metric_values}
    for name in metrics:
        if name not in known:
            raise UserError(
                f"--metric {name}: no version has it; metrics: {', '.join(sorted(known)) or 'none'}"
            )
    rows = [["version", "model", "status", "gates", "registered", "run", *metrics]]
    for item in listed:
        version = item.version
        values = version.metric_values
        numbers = ["–" if (x := values.get(name)) is None else f"{x:.4g}" for name in metrics]
        passed = len(version.gates) - len(version.failed_gates)
        gates = f"{passed} of {len(version.gates)}"
        cells = [version.model, item.status, gates, version.created, version.run]
        rows.append([str(version.number), *cells, *numbers])
    click.echo(align_rows(rows))
    for event in events:
        click.echo(str(event))


@recipe_command
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def compare(recipe: "Recipe", store: "Storage", first: str, second: str, as_json: bool) -> None:
    """Compare version A with version B, over the items that both were measured on.

    A and B are numbers, aliases, MODEL@ALIAS, or MODEL for its champion.
    """
    from views.models.comparison import align_rows
    from views.models.versions import compare_versions, resolve_version

    a, b = (resolve_version(store, recipe.name, text) for text in (first, second))
    compared = compare_versions(store, a, b)
    if as_json:
        print_json({"a": a.number, "b": b.number, "metrics": [item.to_json() for item in compared]})
        return
    if not compared:
        click.echo("neither version has a metric")
        return
    rows = [["metric", f"version {a.number}", f"version {b.number}", "difference", "95 %", "items"]]
    rows[0].append(f"version {a.number} is")
    for item in compared:
        values = ["–" if value is None else f"{value:.4g}" for value in (item.a, item.b)]
        found = item.difference
        between = (
            ["–", "–", "–", ""]
            if found is None
            else [
                f"{found.value:+.4g}",
                f"{found.low:+.4g} to {found.high:+.4g}",
                f"{found.n:,}",
                item.answer,
            ]
        )
        rows.append([item.name, *values, *between])
    click.echo(align_rows(rows))


@recipe_command
@click.argument("version", metavar="VERSION")
@click.option(
    "--alias",
    type=click.Choice(("champion", "challenger")),
    default="champion",
    show_default=True,
    help="the alias to move",
)
@reason_option
@by_option
@click.option("--force", is_flag=True, help="even if the version fails its gates")
def promote(
    recipe: "Recipe",
    store: "Storage",
    version: str,
    alias: str,
    reason: str,
    by: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a version the champion (or the challenger)."""
    from infra.registry.history import current_user
    from infra.registry.history import promote as move
    from infra.registry.versions import FAILED
    from views.models.versions import resolve_version

    found = resolve_version(store, recipe.name, version)
    if found.state == FAILED and not force:
        failed = "; ".join(item.gate for item in found.failed_gates)
        raise UserError(
            f"version {found.number} fails its gates ({failed}); to promote it all the same, give --force"
        )
    event = move(store, found, by=by or current_user(), reason=reason, alias=alias)
    _print_event(recipe, store, event, f"version {found.number} is the {alias} already", as_json)


@recipe_command
@click.argument("version", metavar="VERSION")
@reason_option
@by_option
def reject(
    recipe: "Recipe", store: "Storage", version: str, reason: str, by: str | None, as_json: bool
) -> None:
    """Turn a version down: no run promotes its weights."""
    from infra.registry.history import current_user
    from infra.registry.history import reject as turn_down
    from views.models.versions import resolve_version

    found = resolve_version(store, recipe.name, version)
    event = turn_down(store, found, by=by or current_user(), reason=reason)
    _print_event(recipe, store, event, "", as_json)


@recipe_command
@click.option("--model", help="name of the model, if the recipe has several registered ones")
@reason_option
@by_option
def rollback(
    recipe: "Recipe",
    store: "Storage",
    model: str | None,
    reason: str,
    by: str | None,
    as_json: bool,
) -> None:
    """Make the champion before the present one the champion again."""
    from infra.registry.history import current_user, roll_back
    from infra.registry.versions import load_versions

    known = sorted({version.model for version in load_versions(store, recipe.name)})
    if model is None and len(known) == 1:
        [model] = known
    if model not in known:
        names = ", ".join(known) or "none"
        raise UserError(f"{recipe.name}: name the model with --model; registered models: {names}")
    event = roll_back(store, recipe.name, model, by=by or current_user(), reason=reason)
    _print_event(recipe, store, event, "", as_json)


@recipe_command
def debts(recipe: "Recipe", store: "Storage", as_json: bool) -> None:
    """Show registered versions that were trained on documents removed since, and in which steps."""
    from flows.steps import STEPS
    from views.models.versions import list_debts

    found = list_debts(store, recipe.name, STEPS)
    if as_json:
        print_json({"recipe": recipe.name, "debts": [item.to_json() for item in found]})
        return
    for item in found:
        click.echo(str(item))
    if not found:
        click.echo("no registered version was trained or validated on a document that is removed")


def _print_event(
    recipe: "Recipe", store: "Storage", event: "Event | None", unchanged: str, as_json: bool
) -> None:
    """Print a decision, and mirror it to MLflow's registry if the recipe has one."""
    from infra.registry.mlflow_mirror import mirror_registry

    uri = recipe.release.mlflow_registry_uri if recipe.release is not None else None
    if uri is not None and not mirror_registry(store, recipe.name, uri):
        print_message(
            "the MLflow registry was not updated; the next run or move does it", "warning"
        )
    if as_json:
        print_json({"event": event.to_json() if event is not None else None})
    else:
        click.echo(unchanged if event is None else str(event))


for _name, _command in (
    ("show", show),
    ("list", list_),
    ("compare", compare),
    ("promote", promote),
    ("reject", reject),
    ("rollback", rollback),
    ("debts", debts),
):
    models.add_command(_command, _name)
