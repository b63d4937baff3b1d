"""The group of commands: each file is found, old words are refused with the new ones."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import cli
from cli.main import RENAMED_COMMANDS, RENAMED_OPTIONS, main

# The group, what commands share, and scripts of `make docs`.
NO_COMMANDS = {"main", "common", "config_reference", "rules_reference"}


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
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert any("--json" in option.opts for option in options)
    assert all(option.help for option in options)
    assert command.help


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
