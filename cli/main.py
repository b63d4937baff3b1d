"""``gristmill``: the group of commands; it loads them from the files of this folder."""

import gc
import importlib
import os
import pkgutil

import click

import cli

# Set before Prefect is imported: no telemetry, no prompts, a quiet terminal, our logs in its UI.
DEFAULT_ENV = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    # The server that Prefect starts for a run without one needs half a minute on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "cli,flows,views,serve,tasks,lm,infra",
}

# Allocations between two collections of the youngest garbage; Python's default is 700. Importing Prefect
# makes a million objects that stay, and looking through them again and again takes a fifth of the time
# of a small run.
GC_THRESHOLD = 100_000

RENAMED_COMMANDS = {"bands": "lsh-curve", "drops": "dropped", "join": "train-node"}
RENAMED_OPTIONS = {
    ("clusters", "-n"): "--limit",
    ("dropped", "-n"): "--limit",
    ("lsh-curve", "--hashes"): "--max-permutations",
    ("lsh-curve", "--recall"): "--target-recall",
    ("remove", "--undo"): "--restore",
    ("remove", "--where"): "--locations",
    ("trace", "-n"): "--limit",
    ("trace", "--running"): "--in-progress",
}


class CommandFolder(click.Group):
    """A group whose commands are the modules of the package ``cli``.

    ``cli/train_node.py`` holds a command of its own name, which is called ``train-node``.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all commands."""
        return [name.replace("_", "-") for name in _command_modules()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name in RENAMED_COMMANDS:
            message = f"`gristmill {cmd_name}` was renamed to `{RENAMED_COMMANDS[cmd_name]}`"
            raise click.UsageError(message, ctx)
        name = cmd_name.replace("-", "_")
        if name not in _command_modules():
            return None
        command: click.Command = getattr(importlib.import_module(f"cli.{name}"), name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an option that was renamed is refused with its new name."""
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            command = error.ctx.info_name if error.ctx is not None else None
            new = RENAMED_OPTIONS.get((command or "", error.option_name))
            if new is None:
                raise
            message = f"{error.option_name} was renamed to {new}"
            raise click.UsageError(message, error.ctx) from None


def _command_modules() -> list[str]:
    names = {module.name for module in pkgutil.iter_modules(cli.__path__)}
    return sorted(names - {"__main__", "common", "interrupts", "main"})


@click.group(cls=CommandFolder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gristmill")
def main() -> None:
    """From web pages and books to a trained, evaluated and released language model."""
    gc.set_threshold(GC_THRESHOLD)
    for name, value in DEFAULT_ENV.items():
        os.environ.setdefault(name, value)
