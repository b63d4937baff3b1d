"""What all commands share: RECIPE and its options, one line per mistake, JSON output."""

import atexit
import json
import time
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, NoReturn

import click

from infra.errors import UserError

EXIT_FAILURE = 1
EXIT_DELAY_S = 0.1  # seconds
STORAGE_CLIENTS = ("botocore", "aiobotocore", "aiohttp")

Command = Callable[..., Any]


def exit_with_error(message: str) -> NoReturn:
    """Say what went wrong and leave."""
    for line in message.splitlines():
        click.echo(f"error: {line}", err=True)
    raise SystemExit(EXIT_FAILURE)


def handle_errors(command: Command) -> Command:
    """Turn what a user can mend into one line instead of a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        _wait_for_arrow_threads()
        try:
            return command(*args, **kwargs)
        except UserError as error:
            exit_with_error(str(error))
        except KeyboardInterrupt:
            exit_with_error("interrupted; run the same command again to go on from here")
        except Exception as error:
            if type(error).__module__.split(".")[0] not in STORAGE_CLIENTS:
                raise
            exit_with_error(f"the storage cannot be used: {' '.join(str(error).split())}")

    return run


@cache
def _wait_for_arrow_threads() -> None:
    """Give Arrow's threads a moment before Python goes.

    They drop a file that was read a little after the read returns; if the interpreter is gone by
    then they abort the process, and a command that went well ends with status 134
    (https://github.com/apache/arrow/issues/33975). Without the pause 5 of 250 processes that read
    one file on a busy machine ended so, with half of it none.
    """
    atexit.register(time.sleep, EXIT_DELAY_S)


def recipe_options(command: Command) -> Command:
    """RECIPE, --storage and --set."""
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


json_option = click.option("--json", "as_json", is_flag=True, help="print one JSON object")


def print_json(value: Any) -> None:
    """Print JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))
