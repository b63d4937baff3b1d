"""What the commands share: RECIPE and its options, errors to exit status, JSON output.

Modules of this package import little: `gristmill --help` loads all of them. What a command works
with is imported when it runs.
"""

import atexit
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cli.interrupts import EXIT_FAILURE, INTERRUPTED, format_message
from infra.errors import UserError
from infra.store.environment import mask, mask_errors

if TYPE_CHECKING:
    from flows.recipe import Recipe

EXIT_DELAY_S = 0.1

Function = Callable[..., Any]


def exit_with_error(message: str) -> NoReturn:
    """Print an error, one line each, and exit."""
    for line in mask(message).splitlines():
        print_message(line, "error")
    raise SystemExit(EXIT_FAILURE)


def print_message(text: str, level: str = "info") -> None:
    """Print a line on standard error; a JSON object where lines are JSON."""
    click.echo(format_message(text, level), err=True)


def handle_errors(function: Function) -> Function:
    """Turn mistakes that a user can correct into an error line instead of a traceback."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        _wait_for_arrow_threads()
        try:
            with mask_errors():
                return function(*args, **kwargs)
        except UserError as error:
            exit_with_error(str(error))
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # another one ends this process at once
            exit_with_error(INTERRUPTED)
        except OSError as error:
            what = " ".join(str(error.strerror or error).split())
            exit_with_error(f"{error.filename}: {what}" if error.filename else what)
        except Exception as error:
            from infra.store.retry import is_storage_error

            if is_storage_error(error):
                exit_with_error(f"the storage cannot be used: {' '.join(str(error).split())}")
            if not _is_transport_error(error):
                raise
            why = " ".join(str(error).split()) or type(error).__name__
            exit_with_error(f"the Prefect server does not answer ({why}); run the command again")

    return run


def _is_transport_error(error: Exception) -> bool:
    """Whether a request to the Prefect server got no answer; nothing has imported httpx if none was sent."""
    httpx = sys.modules.get("httpx")
    return httpx is not None and isinstance(error, httpx.TransportError)


@cache
def _wait_for_arrow_threads() -> None:
    """Delay the exit of the process, so that Arrow's threads can release their files.

    They do so shortly after a read returns. If the interpreter has been shut down by then, they
    abort the process, and a successful command exits with status 134
    (https://github.com/apache/arrow/issues/33975). Without the delay this happened in 5 of 250
    processes that read one file on a busy machine, with half the delay in none.
    """
    atexit.register(time.sleep, EXIT_DELAY_S)


json_option = click.option("--json", "as_json", is_flag=True, help="print one JSON object")


def recipe_command(function: Function) -> click.Command:
    """Make a command of a recipe, with the options --set, --storage and --json.

    Args:
        function: called as ``function(recipe, store, as_json=..., ...)`` with the values of its
            other options.
    """

    @wraps(function)
    @handle_errors
    def command(path: str, storage: str | None, overrides: tuple[str, ...], **options: Any) -> None:
        from flows.recipe_loader import load_recipe
        from infra.store.storage import Storage

        recipe = load_recipe(path, overrides, storage)
        function(recipe, Storage(recipe.storage), **options)

    for decorate in (
        json_option,
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="section.key=value",
            help="override a value of the recipe; may be given several times",
        ),
        click.option("--storage", help="override the recipe's storage"),
        click.argument("path", metavar="RECIPE"),
    ):
        command = decorate(command)
    return click.command(command)


def load_recipes(paths: Sequence[str], storage: str | None) -> "list[Recipe]":
    """Load recipes that share a store.

    Args:
        paths: their files.
        storage: overrides their storage.

    Raises:
        UserError: if one is wrong, or they have different storage.
    """
    from flows.recipe_loader import load_recipe

    recipes = [load_recipe(path, (), storage) for path in paths]
    roots = sorted({recipe.storage for recipe in recipes})
    if len(roots) > 1:
        raise UserError(f"the recipes have different storage: {', '.join(roots)}; name one store's")
    return recipes


def _resolve_stage(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str:
    from flows.steps import LAST_STAGE, STAGE_NAMES

    if value is None:
        return LAST_STAGE
    if value not in STAGE_NAMES:
        raise click.BadParameter(f"{value!r} is not one of {', '.join(STAGE_NAMES)}")
    return value


until_option = click.option(
    "--until",
    metavar="STAGE",
    callback=_resolve_stage,
    help="the last stage to run, as `gristmill plan` names it  [default: all stages]",
)


def print_json(value: Any) -> None:
    """Print JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))
