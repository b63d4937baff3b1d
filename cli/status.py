"""``gristmill status``."""

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from cli.common import handle_errors, json_option, load_recipes, print_json
from cli.interrupts import clean_up_on_interrupt

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infra.store.storage import Storage

REFRESH_INTERVAL_S = 2.0
SLOW_INTERVAL_S = 60.0  # between two looks at what takes long: the schedule, what gc would free


@click.command()
@click.argument("paths", metavar="[RECIPE]...", nargs=-1)
@click.option("--storage", help="the store to look at; by default that of the recipes, or ./data")
@click.option("--watch", is_flag=True, help="refresh the screen until Ctrl-C")
@json_option
@handle_errors
def status(paths: tuple[str, ...], storage: str | None, watch: bool, as_json: bool) -> None:
    """Show running and last runs, the next scheduled ones, and what is stored.

    Shows all recipes of the store, or those that are named.
    """
    from flows.recipe import Recipe
    from infra.store.storage import Storage

    if watch and (as_json or not sys.stdout.isatty()):
        raise click.UsageError("--watch needs a terminal, and no --json")
    recipes = load_recipes(paths, storage)
    default = storage or Recipe.model_fields["storage"].default
    store = Storage(recipes[0].storage if recipes else default)
    screen = _Screen(store, [recipe.name for recipe in recipes])
    if as_json:
        print_json(screen.to_json())
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False, markup=False, emoji=False)
    if not watch:
        console.print(screen.render())
        return
    first = screen.render()  # an error is shown on the usual screen
    with (
        suppress(KeyboardInterrupt),
        clean_up_on_interrupt(),
        Live(first, console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            time.sleep(REFRESH_INTERVAL_S)
            live.update(screen.render(), refresh=True)


class _Screen:
    """What the command shows; parts of it that take long are not collected every time."""

    def __init__(self, store: "Storage", recipes: list[str]) -> None:
        self._store, self._recipes = store, recipes
        self._slow_at = float("-inf")

    def _collect(self) -> Any:
        from flows.scheduled_runs import read_schedule
        from flows.steps import STEPS
        from views.status.collect import collect_status, reclaimable_bytes

        if time.monotonic() - self._slow_at > SLOW_INTERVAL_S:
            self._schedule = read_schedule(self._recipes)
            self._reclaimable = reclaimable_bytes(self._store)
            self._slow_at = time.monotonic()
        return collect_status(self._store, self._recipes, STEPS)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        value = self._collect().to_json()
        return {
            **value,
            "reclaimable_bytes": self._reclaimable,
            "scheduled": self._schedule.to_json(),
        }

    def render(self) -> "RenderableType":
        """Return all of it for the terminal."""
        from rich.text import Text

        from views.status.render import render_status, short_time, table

        status, schedule = self._collect(), self._schedule
        lines: list[RenderableType] = []
        if schedule.error is not None:
            lines = [Text(f"unknown: the Prefect server {schedule.server} says: {schedule.error}")]
        elif schedule.server is not None:
            rows = table("recipe", "time", "deployment")
            for run in schedule.runs:
                rows.add_row(run.recipe, short_time(run.time), run.deployment)
            lines = [rows if schedule.runs else Text("none")]
        return render_status(status, lines, self._reclaimable)
