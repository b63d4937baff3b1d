"""The quickstart's command: `python -m examples.quickstart fetch | serve | run`."""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from examples.quickstart.build import fetch_quickstart
from examples.quickstart.pins import SITE
from examples.quickstart.serve_site import HOST, PORT, PortTakenError, serve_site
from infra.download.pypi import DownloadError

GRISTMILL = Path(sys.executable).with_name("gristmill")
DEFAULT_URL = f"http://{HOST}:{PORT}"
RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: of `gristmill run` for `run`; 1 when the input cannot be had.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.quickstart", description=__doc__)
    parser.add_argument("command", choices=("fetch", "serve", "run"))
    parser.add_argument("--port", type=int, default=PORT, help="where the site is served")
    parser.epilog = "After --, further arguments for gristmill run: run -- --json"
    own = list(sys.argv[1:] if arguments is None else arguments)
    more: list[str] = []
    if "--" in own:
        at = own.index("--")
        own, more = own[:at], own[at + 1 :]
    chosen = parser.parse_args(own)
    try:
        return _run_command(chosen.command, chosen.port, more)
    except (DownloadError, PortTakenError) as error:
        _print(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


def _run_command(command: str, port: int, more: Sequence[str]) -> int:
    started = time.monotonic()
    folder, counts = fetch_quickstart()
    _print(
        f"{counts['pages']} pages, {counts['books']} books and {counts['documents']} documents "
        f"in {folder} ({time.monotonic() - started:.0f} s)"
    )
    if command == "fetch":
        return 0
    with serve_site(folder / "site", port) as url:
        settings = {"GRISTMILL_QUICKSTART_URL": url}
        if command == "serve":
            _print(f"serving {url} until interrupted. In another terminal:")
            variable = "" if url == DEFAULT_URL else f"GRISTMILL_QUICKSTART_URL={url} "
            _print(f"  {variable}{_relative(GRISTMILL)} run {_relative(RECIPE)}")
            signal.pause()
        _print(f"the site is served at {url}; running {RECIPE.name}")
        status = _run_gristmill(["run", str(RECIPE), *more], settings)
    if status == 0:
        _print("look at what it made:")
        for line in next_commands(url, more):
            _print(f"  {line}")
    return status


def next_commands(url: str, options: Sequence[str]) -> list[str]:
    """Return four commands to copy: they work in this folder, with no variable set.

    Args:
        url: of the site.
        options: of the run; the commands get those that choose the store or change the recipe.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--storage")
    parser.add_argument("--set", action="append", default=[])
    chosen, _ = parser.parse_known_args(options)
    storage = [] if chosen.storage is None else ["--storage", chosen.storage]
    overrides = [word for value in chosen.set for word in ("--set", value)]
    program, recipe = (_relative(path) for path in (GRISTMILL, RECIPE))
    page = f"{url}/{SITE[0].folder}/{SITE[0].front_pages[0]}"
    return [
        shlex.join([program, "verify", recipe, *storage, *overrides]),
        shlex.join([program, "dropped", recipe, "--limit", "5", *storage, *overrides]),
        shlex.join([program, "why", page, *storage]),
        shlex.join([program, "serve", recipe, *storage]),
    ]


def _relative(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _run_gristmill(arguments: Sequence[str], settings: dict[str, str]) -> int:
    """Run gristmill; an interrupt or a termination of this process is passed on and waited for."""
    child = subprocess.Popen([str(GRISTMILL), *arguments], env={**os.environ, **settings})
    signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
    # The terminal interrupts the whole group: the child ends by itself, its end is ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = child.wait()
    return 128 - code if code < 0 else code


def _print(line: str) -> None:
    print(f"quickstart: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
