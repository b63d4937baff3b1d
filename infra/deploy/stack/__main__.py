"""The commands of a stack: ``make stack``, ``make stack-status``, ``make stack-down``."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import psutil

from infra.deploy.stack.layout import (
    BUCKET,
    DEFAULT_PORTS,
    Layout,
    create_layout,
    is_port_free,
    load_layout,
)
from infra.deploy.stack.postgres import find_postgres, postgres_user
from infra.deploy.stack.services import SERVICES, find_program
from infra.deploy.stack.supervisor import (
    read_states,
    start_stopped,
    start_supervisor,
    stop_supervisor,
    wait_until_ready,
    write_config,
)
from infra.errors import UserError

START_TIMEOUT_S = 1200.0  # a busy machine takes many times longer


def _options(command: Callable[..., None]) -> Callable[..., None]:
    folder = click.option(
        "--folder",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("data/stack"),
        show_default=True,
        help="where secrets, logs and data are",
    )
    return folder(
        click.option("--json", "as_json", is_flag=True, help="print one JSON object")(command)
    )


@click.group()
def main() -> None:
    """All servers of the pipeline on this machine."""


@main.command()
@_options
@click.option(
    "--port",
    "ports",
    multiple=True,
    metavar="NAME=NUMBER",
    help=f"another port, kept for later starts; names: {', '.join(DEFAULT_PORTS)}",
)
def up(folder: Path, ports: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    """Start what does not run yet, and wait until everything works."""
    start = time.monotonic()
    layout = create_layout(folder, dict(map(_parse_port, ports)))
    states = read_states(layout)
    if states is not None:
        start_stopped(layout, states)
    else:
        _check_machine(layout)
        stop_supervisor(layout)  # what a supervisord that was killed may have left
        for name, port in layout.ports.items():
            if not is_port_free(port):
                raise UserError(
                    f"port {port} ({name}) is in use; stop what uses it, or give another port: "
                    f"make stack ARGS='--port {name}={port + 1}'"
                )
        write_config(layout)
        start_supervisor(layout)

    def print_ready(service: str) -> None:
        click.echo(f"{service} is ready after {time.monotonic() - start:.0f} s", err=True)

    try:
        wait_until_ready(layout, START_TIMEOUT_S, print_ready)
    except UserError:
        if states is None:  # what ran before this command keeps running
            stop_supervisor(layout)
        raise
    _print_addresses(layout, time.monotonic() - start, as_json=as_json)


@main.command()
@_options
def down(folder: Path, as_json: bool) -> None:  # noqa: FBT001
    """Stop everything; secrets, logs and data stay."""
    layout = load_layout(folder)
    stopped = stop_supervisor(layout)
    if as_json:
        click.echo(json.dumps({"folder": str(layout.folder), "processes": stopped}))
    else:
        click.echo(f"stopped; secrets, logs and data are kept in {layout.folder}")


@main.command()
@_options
def status(folder: Path, as_json: bool) -> None:  # noqa: FBT001
    """Show the state and the memory of each service."""
    layout = load_layout(folder)
    states = read_states(layout)
    if states is None:
        raise UserError(f"{layout.folder}: the stack does not run; start it with make stack")
    rows: list[dict[str, Any]] = []
    for service in SERVICES:
        state = states[service.name]
        rss, pss = _memory(state.pid)
        rows.append(
            {
                "service": service.name,
                "state": state.state,
                "ready": bool(state.pid) and service.is_ready(layout),
                "pid": state.pid,
                "seconds": state.seconds,
                "rss_bytes": rss,
                "pss_bytes": pss,
            }
        )
    total = {name: sum(row[name] for row in rows) for name in ("rss_bytes", "pss_bytes")}
    if as_json:
        click.echo(json.dumps({"services": rows, **total}))
        return
    click.echo(f"{'service':18}{'ready':7}{'pid':>8}{'up s':>8}{'RSS MB':>9}{'PSS MB':>9}")
    for row in rows:
        click.echo(
            f"{row['service']:18}{'yes' if row['ready'] else 'NO':7}{row['pid']:>8}{row['seconds']:>8}"
            f"{row['rss_bytes'] / 1e6:>9.0f}{row['pss_bytes'] / 1e6:>9.0f}"
        )
    click.echo(f"{'total':41}{total['rss_bytes'] / 1e6:>9.0f}{total['pss_bytes'] / 1e6:>9.0f}")


def _parse_port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isdigit() or not 0 < int(number) < 65536:
        raise UserError(f"--port {text}: a name and a number are expected, such as prefect=4300")
    return name, int(number)


def _check_machine(layout: Layout) -> None:
    """Raise ``UserError`` if a program is missing, before anything starts."""
    for program in ("initdb", "postgres"):
        find_postgres(program)
    postgres_user()
    for service in SERVICES:
        find_program(service.command(layout)[0])


def _print_addresses(layout: Layout, seconds: float, *, as_json: bool) -> None:
    value = {
        "ready_seconds": round(seconds, 1),
        "prefect": layout.api_url.removesuffix("/api"),
        "dask": layout.scheduler,
        "dashboard": f"http://127.0.0.1:{layout.ports['dashboard']}/status",
        "s3": layout.s3_url,
        "storage": f"s3://{BUCKET}/",
        "env": str(layout.env_file),
        "logs": str(layout.folder / "logs"),
    }
    if as_json:
        click.echo(json.dumps(value))
        return
    for name, text in value.items():
        click.echo(f"{name:15}{text}")
    click.echo(f"\nUse it from a shell:   . {layout.env_file}")
    click.echo(f"Log in at {value['prefect']} with:   grep AUTH_STRING {layout.env_file}")


def _memory(pid: int) -> tuple[int, int]:
    """The memory of a process and its children: resident, and with shared pages divided."""
    rss = pss = 0
    if pid:
        try:
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                memory = process.memory_full_info()
                rss, pss = rss + memory.rss, pss + memory.pss
        except psutil.NoSuchProcess:
            pass
    return rss, pss


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        sys.exit(f"error: {error}")
