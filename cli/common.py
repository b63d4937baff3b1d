"""What the commands share: RECIPE and its options, errors to exit status, JSON output."""

import atexit
import json
import time
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, NoReturn

import click

from flows.steps import LAST_STAGE, STAGE_NAMES
from infra.errors import UserError

EXIT_FAILURE = 1
EXIT_DELAY_S = 0.1
STORAGE_CLIENTS = ("botocore", "aiobotocore", "aiohttp")

Command = Callable[..., Any]


def exit_with_error(message: str) -> NoReturn:
    """Print an error, one line each, and exit."""
    for line in message.splitlines():
        click.echo(f"error: {line}", err=True)
    raise SystemExit(EXIT_FAILURE)


def handle_errors(command: Command) -> Command:
    """Turn mistakes that a user can correct into an error line instead of a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        _wait_for_arrow_threads()
        try:
            return command(*args, **kwargs)
        except UserError as error:
            exit_with_error(str(error))
        except KeyboardInterrupt:
            exit_with_error("interrupted; run the same command again to resume")
        except Exception as error:
            if type(error).__module__.split(".")[0] not in STORAGE_CLIENTS:
                raise
            exit_with_error(f"the storage cannot be used: {' '.join(str(error).split())}")

    return run


@cache
def _wait_for_arrow_threads() -> None:
    """Delay the exit of the process, so that Arrow's threads can release their files.

    They do so shortly after a read returns. If the interpreter has been shut down by then, they
    abort the process, and a successful command exits with status 134
    (https://github.com/apache/arrow/issues/33975). Without the delay this happened in 5 of 250
    processes that read one file on a busy machine, with half the delay in none.
    """
    atexit.register(time.sleep, EXIT_DELAY_S)


def recipe_options(command: Command) -> Command:
    """Add the argument RECIPE and the options --storage and --set."""
    for decorate in (
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
    return command


until_option = click.option(
    "--until",
    type=click.Choice(STAGE_NAMES),
    default=LAST_STAGE,
    show_default=True,
    help="the last stage to run",
)
json_option = click.option("--json", "as_json", is_flag=True, help="print one JSON object")


def print_json(value: Any) -> None:
    """Print JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))
