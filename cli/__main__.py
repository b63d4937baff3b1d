"""The program ``gristmill``: signals end it with one line, also while it still imports."""

import signal
from types import FrameType


def main() -> None:
    """Run the command line."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cli.interrupts import end_on_interrupt

    end_on_interrupt()
    from cli.main import main as run_command

    signal.signal(signal.SIGTERM, _exit_terminated)
    run_command()


def _exit_terminated(number: int, _frame: FrameType | None) -> None:
    """Exit with an error line; a flow is cancelled by Prefect's own handler before."""
    import click

    click.echo("error: terminated; run the same command again to resume", err=True)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
