"""The group of commands: each file is found, old words are refused with the new ones."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import cli
from cli.main import RENAMED_COMMANDS, RENAMED_OPTIONS, main

NO_COMMANDS = {"main", "common", "interrupts"}  # the group, and what commands share
# Prints the modules that the help of the group and of every command has imported.
HELP = """
import sys
from click.testing import CliRunner
from cli.main import main
for name in (None, *main.list_commands(None)):
    assert CliRunner().invoke(main, [*filter(None, [name]), "--help"]).exit_code == 0, name
print(*sys.modules)
"""


def load(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return command


def test_every_file_is_a_command() -> None:
    files = {path.stem for path in Path(cli.__path__[0]).glob("[a-z]*.py")} - NO_COMMANDS
    names = main.list_commands(click.Context(main))
    assert {name.replace("-", "_") for name in names} == files
    assert {"run", "plan", "verify", "train-node", "lsh-curve"} <= set(names)
    shown = CliRunner().invoke(main, ["--help"])
    assert shown.exit_code == 0
    assert all(f"  {name} " in shown.output for name in names)


@pytest.mark.parametrize("name", main.list_commands(click.Context(main)))
def test_every_command_prints_json_and_explains_its_options(name: str) -> None:
    command = load(name)
    assert command.help
    for each in command.commands.values() if isinstance(command, click.Group) else [command]:
        options = [option for option in each.params if isinstance(option, click.Option)]
        assert any("--json" in option.opts for option in options)
        assert all(option.help for option in options)
        assert each.help


def test_help_imports_nothing_heavy() -> None:
    shown = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    heavy = {"numba", "numpy", "pyarrow", "torch", "dask", "distributed", "prefect", "pydantic"}
    assert heavy & set(shown.stdout.split()) == set()


def test_the_flows_import_nothing_that_they_do_not_use() -> None:
    """Every process of a run imports them; `lark` compiles a grammar of IRIs for three seconds of CPU.

    jsonschema does that in each process that imports Prefect once `rfc3987-syntax` is installed, which its extra
    [format-nongpl] and everything that asks for it does.
    """
    program = "import sys, flows.pipeline; print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    unused = {
        "lark",
        "rfc3987_syntax",
        "torch",
        "scrapy",
        "sklearn",
        "transformers",
        "matplotlib",
        "mlflow",
    }
    assert unused & set(shown.stdout.split()) == set()


@pytest.mark.parametrize(("old", "new"), RENAMED_COMMANDS.items())
def test_an_old_command_names_the_new_one(old: str, new: str) -> None:
    result = CliRunner().invoke(main, [old, "x"])
    assert result.exit_code == 2
    assert f"`{new}`" in result.output
    load(new)


@pytest.mark.parametrize(("command", "old"), RENAMED_OPTIONS)
def test_an_old_option_names_the_new_one(command: str, old: str) -> None:
    new = RENAMED_OPTIONS[command, old]
    result = CliRunner().invoke(main, [command, "x", old, "1"])
    assert result.exit_code == 2
    assert f"{old} was renamed to {new}" in result.output
    assert any(new in option.opts for option in load(command).params)


def test_an_unknown_option_is_refused() -> None:
    result = CliRunner().invoke(main, ["plan", "x", "--nonsense"])
    assert result.exit_code == 2
    assert "--nonsense" in result.output
