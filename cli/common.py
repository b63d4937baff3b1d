"""What all commands share: RECIPE and its options, one line per mistake, JSON output."""

import atexit
import json
import time
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, NoReturn

import click

from infra.errors import UserError

FAILURE = 1
LAST_MOMENT = 0.1  # seconds
STORAGE_CLIENTS = ("botocore", "aiobotocore", "aiohttp")

Command = Callable[..., Any]


def fail(message: str) -> NoReturn:
    """Say what went wrong and leave."""
    for line in message.splitlines():
        click.echo(f"error: {line}", err=True)
    raise SystemExit(FAILURE)


def guarded(command: Command) -> Command:
    """Turn what a user can mend into one line instead of a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        _end_in_peace()
        try:
            return command(*args, **kwargs)
        except UserError as error:
            fail(str(error))
        except KeyboardInterrupt:
            fail("interrupted; run the same command again to go on from here")
        except Exception as error:
            if type(error).__module__.split(".")[0] not in STORAGE_CLIENTS:
                raise
            fail(f"the storage cannot be used: {' '.join(str(error).split())}")

    return run


@cache
def _end_in_peace() -> None:
    """Give Arrow's threads a moment before Python goes.

    They drop a file that was read a little after the read returns; if the interpreter is gone by
    then they abort the process, and a command that went well ends with status 134
    (https://github.com/apache/arrow/issues/33975). Without the pause 5 of 250 processes that read
    one file on a busy machine ended so, with half of it none.
    """
    atexit.register(time.sleep, LAST_MOMENT)


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


def show(value: Any) -> None:
    """Print JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))
