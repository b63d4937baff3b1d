import gzip
import io
import json
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.main import main
from examples.prepared import READY
from examples.quickstart import books, documents, site
from examples.quickstart.__main__ import GRISTMILL, RECIPE, next_commands
from examples.quickstart.build import fetch_quickstart, quickstart_root
from examples.quickstart.pins import BEAUTIFUL_SOUP, SITE, Pin
from examples.quickstart.serve_site import PortTakenError, serve_site
from tests.limits import WAIT_TIMEOUT_S
from tests.processes import process_tree


def archive(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "demo.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def give(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let every pin be this archive."""
    monkeypatch.setattr(Pin, "fetch", lambda self: path)


def epub(chapters: list[tuple[str, str]]) -> bytes:
    out = io.BytesIO()
    books.write_epub(
        out,
        title="Cats & dogs",
        author="A <B>",
        language="en",
        identifier="urn:x",
        rights="public-domain",
        chapters=chapters,
    )
    return out.getvalue()


def test_an_epub_has_its_chapters_in_order_and_the_same_bytes_each_time() -> None:
    chapters = [("I. One", "First.\n\nSecond & last."), ("II. Two", "Third.")]
    made = epub(chapters)
    assert made == epub(chapters)
    with zipfile.ZipFile(io.BytesIO(made)) as book:
        first = book.infolist()[0]
        assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
        assert book.read("mimetype") == b"application/epub+zip"
        assert b"<dc:title>Cats &amp; dogs</dc:title>" in book.read("OEBPS/package.opf")
        page = book.read("OEBPS/chapter-01.xhtml").decode()
        assert "<h2>I. One</h2>\n<p>First.</p>\n<p>Second &amp; last.</p>" in page


def test_alice_is_cut_at_its_chapters_and_loses_no_word() -> None:
    text = (
        "\n      ALICE\n\n        CHAPTER I\n\n      Down the Rabbit-Hole\n\n\n  Alice was.\n\n"
        "  So she.\n\n        CHAPTER II\n\n      The Pool\n\n\n  Curiouser!\n"
    )
    out = io.BytesIO()
    books._alice_epub(text, out)
    with zipfile.ZipFile(out) as book:
        names = [name for name in book.namelist() if "chapter" in name]
        pages = [book.read(name).decode() for name in names]
    assert len(pages) == 2
    assert "<h2>Chapter I. Down the Rabbit-Hole</h2>\n<p>Alice was.</p>\n<p>So she.</p>" in pages[0]
    assert "Curiouser!" in pages[1]


def test_a_guide_becomes_a_row_per_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = "Título\n======\n\nHola.\n\nParte\n-----\n\nTexto.\n\nVacía\n-----\n".encode()
    give(monkeypatch, archive(tmp_path, {"beautifulsoup4-1/doc.es/index.rst": guide}))
    rows = list(documents.iter_guides())
    assert [row["title"] for row in rows] == ["Título", "Parte"]
    assert rows[0]["text"] == "Título\n\nHola."
    assert {row["language"] for row in rows} == {"es"}
    assert {row["license"] for row in rows} == {BEAUTIFUL_SOUP.license}
    assert len({row["url"] for row in rows}) == 2


def test_a_declaration_is_its_longest_passage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = (
        'id: "xx_Latn"\nlanguage: "xx"\nname: "Xish"\nsample_text {\n  styles: "one"\n'
        '  specimen_48: "one two"\n  specimen_16: "one two\\nthree \\"four\\" it\\\'s"\n}\n'
    )
    inside = "g-1/Lib/gflanguages/data/languages/"
    files = {f"{inside}xx_Latn.textproto": proto.encode(), f"{inside}yy.textproto": b'id: "yy"\n'}
    give(monkeypatch, archive(tmp_path, files))
    (row,) = documents.iter_declarations()
    assert row["text"] == 'one two\nthree "four" it\'s'
    assert (row["title"], row["language"]) == ("Xish", "xx")
    documents.build_documents(tmp_path / "documents")
    with gzip.open(tmp_path / "documents" / "declaration.jsonl.gz", "rt", encoding="utf-8") as file:
        assert [json.loads(line) for line in file] == [row]


def test_the_site_has_pages_only_and_links_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = SITE[0].archive_folder
    files = {
        f"{inside}index.html": b"<p>hello",
        f"{inside}style.css": b"p{}",
        f"{inside}../../../evil.html": b"",
        "elsewhere/index.html": b"",
    }
    give(monkeypatch, archive(tmp_path, files))
    assert site.build_site(tmp_path / "site") == 2
    made = {str(p.relative_to(tmp_path / "site")) for p in (tmp_path / "site").rglob("*.*")}
    assert made == {"index.html", "robots.txt", f"{SITE[0].folder}/index.html"}
    front = (tmp_path / "site" / "index.html").read_text()
    assert all(
        f'href="{part.folder}/{page}"' in front for part in SITE for page in part.front_pages
    )


def test_serves_pages_and_no_listings(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "robots.txt").write_text(site.ROBOTS)
    (tmp_path / "index.html").write_text("front")
    with serve_site(tmp_path, port=0) as url:
        with urllib.request.urlopen(f"{url}/") as response:
            assert response.read() == b"front"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/bare/")
        port = int(url.rpartition(":")[2])
        with serve_site(tmp_path, port) as again:  # a second one uses the first
            assert again == url


def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    with serve_site(tmp_path, port=0) as url:
        stranger = int(url.rpartition(":")[2])  # serves no robots.txt of ours
        with pytest.raises(PortTakenError, match="--port"), serve_site(tmp_path, stranger):
            pass


@pytest.mark.parametrize(
    "command",
    [
        ["plan"],
        ["verify"],
        ["dropped"],
        ["report"],
        ["clusters"],
        ["trace", "--model", "tiny", "--steps", "0:1"],
        ["remove", "--list"],
        ["gc", "--dry-run"],
    ],
)
def test_every_command_takes_the_quickstart_recipe_with_no_variable_set(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gristmill" / "quickstart"
    for name in ("books/a.epub", "books/b.txt", "documents/c.jsonl.gz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    for name in ("GRISTMILL_CACHE", "GRISTMILL_QUICKSTART_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arguments = [command[0], str(RECIPE), *command[1:], "--storage", str(tmp_path / "data")]
    result = CliRunner().invoke(main, arguments)
    if result.exit_code != 0:
        # What is missing is a run in the store, not a variable.
        assert result.output.startswith(f"error: {tmp_path / 'data'} has n")


def test_the_commands_to_copy_have_their_path_and_the_options_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(RECIPE.parents[1])
    options = ["--json", "--storage", "a b", "--until", "select", "--set=select.pii=keep"]
    commands = [shlex.split(line) for line in next_commands("http://h:1", options)]
    program = str(GRISTMILL.relative_to(Path.cwd()))
    recipe = ["recipes/quickstart.yaml"]
    chosen = ["--storage", "a b", "--set", "select.pii=keep"]
    assert commands == [
        [program, "verify", *recipe, *chosen],
        [program, "dropped", *recipe, "--limit", "5", *chosen],
        [program, "why", "http://h:1/sqlalchemy/index.html", "--storage", "a b"],
        [program, "serve", *recipe, "--storage", "a b"],
    ]
    for _, name, *words in commands:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        command.make_context(name, list(words))  # the options exist


@pytest.mark.e2e
def test_fetch_builds_the_documented_input_once() -> None:
    folder, counts = fetch_quickstart()
    assert folder == quickstart_root()
    assert counts["pages"] >= 500
    assert counts["books"] == 5
    assert counts["documents"] >= 1000
    stamp = (folder / READY).stat().st_mtime_ns
    assert fetch_quickstart() == (folder, counts)
    assert (folder / READY).stat().st_mtime_ns == stamp


@pytest.mark.e2e
def test_serve_ends_on_a_signal() -> None:
    command = [sys.executable, "-m", "examples.quickstart", "serve", "--port", "0"]
    with process_tree(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline().decode() for _ in range(3)]
        assert "serving http://127.0.0.1:" in lines[1]
        assert "gristmill run" in lines[2]
        process.send_signal(signal.SIGINT)
        process.wait(timeout=WAIT_TIMEOUT_S)
        assert not process.members()
