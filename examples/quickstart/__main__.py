"""The quickstart's command: `python -m examples.quickstart fetch | serve | run`."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from examples.quickstart.build import fetch
from examples.quickstart.serve_site import PORT, PortTakenError, serving
from infra.download.pypi import PackageError
from infra.store.cache_dir import VARIABLE, cache_root

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says.

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
        return _do(chosen.command, chosen.port, more)
    except (PackageError, PortTakenError) as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


def _do(command: str, port: int, more: Sequence[str]) -> int:
    started = time.monotonic()
    folder, counts = fetch()
    _say(
        f"{counts['pages']} pages, {counts['books']} books and {counts['documents']} documents "
        f"in {folder} ({time.monotonic() - started:.0f} s)"
    )
    if command == "fetch":
        return 0
    with serving(folder / "site", port) as url:
        settings = {VARIABLE: str(cache_root()), "GRISTMILL_QUICKSTART_URL": url}
        if command == "serve":
            _say(f"serving {url} until interrupted. In another terminal:")
            shown = " ".join(f"{key}={value}" for key, value in settings.items())
            _say(f"  {shown} gristmill run {RECIPE}")
            signal.pause()
        _say(f"the site is served at {url}; running {RECIPE.name}")
        return _run(["run", str(RECIPE), *more], settings)


def _run(arguments: Sequence[str], settings: dict[str, str]) -> int:
    """Run gristmill; an interrupt or a termination of this process is passed on and waited for."""
    program = Path(sys.executable).with_name("gristmill")
    child = subprocess.Popen([str(program), *arguments], env={**os.environ, **settings})
    signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
    # The terminal interrupts the whole group: the child ends by itself, its end is ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = child.wait()
    return 128 - code if code < 0 else code


def _say(line: str) -> None:
    print(f"quickstart: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
