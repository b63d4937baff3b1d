"""A command that shows something ends in one line, not a traceback, if its input is wrong."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from cli.main import main
from tests.views.real_run import SITE, RealRun, pages, recipe

URL = pages()[10].url
COMMANDS = {
    "why": ["why", URL],
    "dropped": ["dropped", "RECIPE"],
    "clusters": ["clusters", "RECIPE"],
    "steps": ["trace", "RECIPE", "--model", "tiny", "--steps", "0:1"],
    "steps of a document": ["trace", "RECIPE", "--model", "late", "--url", URL],
    "verify": ["verify", "RECIPE"],
    "report": ["report", "RECIPE"],
    "remove": ["remove", "RECIPE", "--url", URL],
    "locations": ["remove", "RECIPE", "--list", "--locations"],
}


def invoke(words: Sequence[str], store: Path, recipe_file: Path) -> tuple[int, str]:
    """Run a command on a store; return its exit status and its error, a line at most."""
    if not recipe_file.exists():
        recipe_file.write_text(yaml.safe_dump(recipe(store, store.parent / "sources")))
    arguments = [str(recipe_file) if word == "RECIPE" else word for word in words]
    if words[0] == "why":
        arguments += ["--storage", str(store)]
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    lines = result.stderr.splitlines()
    if result.exit_code == 1:
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
    return result.exit_code, lines[-1] if lines else ""


@pytest.mark.parametrize(
    "query",
    ["", "  ", "%%%", "http://[", "https://exa mple.org/", "\x00", "x" * 100_000, "00", "0000",
     f"{SITE}/nope", "http://a:b:c/", f"{SITE}:99999/x", "*", "a.b", "?", "#", "//"],
)  # fmt: skip
def test_a_query_that_names_no_document(real_run: RealRun, tmp_path: Path, query: str) -> None:
    code, error = invoke(["why", query], real_run.folder, tmp_path / "r.yaml")
    assert code == 1
    assert "no document" in error


@pytest.mark.parametrize(
    "words",
    [
        "dropped --stage x", "dropped --reason x", "dropped --limit 0", "dropped --limit -1",
        "dropped --stage select --reason http_404",
        "clusters --cluster zzz", "clusters --limit 0", "clusters --width 1",
        "clusters --source x", "clusters --largest --random",
        "trace", "trace --steps 0:1", "trace --model x --steps 0:1", "trace --model tiny --steps 5",
        "trace --model tiny --steps 9:1", "trace --model tiny --steps 0:99999999",
        "trace --model tiny --url x", "trace --model tiny --id x",
        "trace --model tiny --steps 0:1 --limit -1",
        "trace --model tiny --in-progress --steps 0:1",
        "remove", "remove --url x", "remove --url http://[", "remove --domain http://x/",
        "remove --domain ..", "remove --id x", "remove --license nope", "remove --locations",
        f"remove --restore --id {32 * '0'}", f"remove --list --id {32 * '0'}",
    ],
)  # fmt: skip
def test_a_wrong_option(run_copy: RealRun, tmp_path: Path, words: str) -> None:
    command, *options = words.split()
    code, error = invoke([command, "RECIPE", *options], run_copy.folder, tmp_path / "r.yaml")
    assert code in (1, 2)  # 2: click refuses the value
    assert error


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("content", ["missing", "folder", "a: [b", "- a", "\ud800"])
def test_a_recipe_that_is_none(tmp_path: Path, command: str, content: str) -> None:
    path = tmp_path / "r.yaml"
    if content == "folder":
        path.mkdir()
    elif content != "missing":
        path.write_bytes(content.encode(errors="surrogatepass"))
    words = [word if word != "RECIPE" else str(path) for word in COMMANDS[command]]
    code, _ = invoke(words, tmp_path / "store", tmp_path / "unused.yaml")
    assert code == 1


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("store", ["missing", "a file"])
def test_a_store_without_a_run(tmp_path: Path, command: str, store: str) -> None:
    if store == "a file":
        (tmp_path / "store").write_text("")
    code, _ = invoke(COMMANDS[command], tmp_path / "store", tmp_path / "r.yaml")
    # To record a removal for a later run is no mistake, nor to look for what is not there.
    assert code == (0 if store == "missing" and command in ("remove", "locations") else 1) or (
        command == "locations"
    )


DAMAGED = ["runs/*/*.json", "acquire/*/*.warc.gz", "tokenize/*/*.bin"] + [
    f"{stage}/*/{name}"
    for stage in ("acquire", "extract", "annotate", "dedup", "select", "tokenize", "evaluate")
    for name in ("manifest.json", "*.verdicts.parquet", "part-?????.parquet")
]


@pytest.mark.parametrize("how", ["truncated", "deleted", "flipped"])
@pytest.mark.parametrize("pattern", DAMAGED)
def test_a_damaged_store(real_run: RealRun, tmp_path: Path, pattern: str, how: str) -> None:
    copy = real_run.copy(tmp_path / "store")
    for path in copy.folder.glob(pattern):
        data = path.read_bytes()
        if how == "deleted":
            path.unlink()
        elif how == "truncated":
            path.write_bytes(data[:20])
        else:  # in the middle: the footer of a Parquet file is at its end
            middle = len(data) // 3
            path.write_bytes(
                data[:middle]
                + bytes(b ^ 255 for b in data[middle : middle + 99])
                + data[middle + 99 :]
            )
    for words in COMMANDS.values():
        code, _ = invoke(words, copy.folder, tmp_path / "r.yaml")
        assert code in (0, 1, 3)
    shutil.rmtree(copy.folder)
