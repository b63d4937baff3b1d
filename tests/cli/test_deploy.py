"""What `gristmill deploy` refuses before it asks the server anything."""

import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.deploy import relative_paths
from cli.main import main
from flows.recipe import Recipe
from tests.e2e.command import GRISTMILL, environment, run_to_end, write_recipe
from tests.servers import http_server


def value(storage: str = "/srv/store", path: str = "/in/*.jsonl") -> dict[str, Any]:
    source = {"name": "a", "kind": "documents", "paths": [path]}
    return {"name": "wiki", "storage": storage, "sources": [source]}


def deploy(tmp_path: Path, recipe: dict[str, Any], *options: str) -> Result:
    path = write_recipe(tmp_path / "r.yaml", recipe)
    home = {"PREFECT_HOME": str(tmp_path / "home"), "PREFECT_API_URL": None}
    return CliRunner(env=home).invoke(main, ["deploy", str(path), *options])


@pytest.mark.parametrize(
    ("storage", "options", "word"),
    [
        ("/srv/store", (), "PREFECT_API_URL"),
        ("/srv/store", ("--image", "g:1"), "--image"),
        ("/srv/store", ("--directory", "here"), "--directory"),
        ("/srv/store", ("--pool-type", "docker", "--directory", "/srv"), "--directory"),
        ("./data", ("--pool-type", "kubernetes"), "storage"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(
    tmp_path: Path, storage: str, options: tuple[str, ...], word: str
) -> None:
    result = deploy(tmp_path, value(storage), *options)
    assert result.exit_code == 1
    assert re.fullmatch(rf"error: .*{word}.*\n", result.output)


class DyingServer(BaseHTTPRequestHandler):
    """Says that it is well, and ends every other connection without an answer."""

    def do_GET(self) -> None:
        if self.path.endswith("/health"):
            self.send_response(200)
            self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_a_server_that_ends_in_the_middle_is_one_line(tmp_path: Path) -> None:
    with http_server(DyingServer) as address:
        path = write_recipe(tmp_path / "r.yaml", value())
        api = f"http://{address}/api"
        home = {"PREFECT_HOME": str(tmp_path / "home"), "PREFECT_API_URL": api}
        result = run_to_end([str(GRISTMILL), "deploy", str(path)], environment(tmp_path, **home))
    assert result.code == 1
    assert re.fullmatch(r"error: the Prefect server does not answer \(.+\); .*\n", result.err)


def test_relative_paths_are_found_wherever_the_recipe_has_them() -> None:
    finetune = {
        "name": "topics",
        "task": "classification",
        "base": "./released",
        "data": {"train": ["train.csv", "/in/b.csv"], "test": ["s3://bucket/test.csv"]},
    }
    recipe = Recipe.model_validate(
        {
            **value("./data", "in/*.jsonl"),
            "tokenize": {"tokenizer": "t.json"},
            "finetune": [finetune],
        }
    )
    fields = [item.split(":")[0] for item in relative_paths(recipe)]
    assert fields == [
        *("storage", "tokenize.tokenizer", "sources.a.paths"),
        *("finetune.topics.base", "finetune.topics.data.train"),
    ]
    assert relative_paths(Recipe.model_validate(value("s3://bucket/x"))) == []
