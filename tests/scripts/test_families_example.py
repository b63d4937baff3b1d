"""The word pairs and analogies of `recipes/families.yaml` are taken out of an archive, into where the recipe reads them."""

import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from examples.families.__main__ import MEMBER, main
from examples.quickstart.pins import Pin
from flows.recipe_loader import load_recipe
from infra.store.cache_dir import ENV_VAR
from tasks.evaluate.gold_sets import load_gold_sets

ROOT = Path(__file__).parents[2]


def test_gold_sets_are_where_the_recipe_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "gensim.tar.gz"
    pairs, questions = b"# comment\ntiger\tcat\t7.35\n", b": family\nking queen man woman\n"
    members = {
        "gensim/other.txt": b"",
        f"{MEMBER}questions-words.txt": questions,
        f"{MEMBER}wordsim353.tsv": pairs,
    }
    with tarfile.open(archive, "w:gz") as tar:
        for name, data in members.items():
            item = tarfile.TarInfo(f"gensim-4.4.0/{name}")
            item.size = len(data)
            tar.addfile(item, BytesIO(data))
    fetched: list[str] = []

    def fetch(pin: Pin) -> Path:
        fetched.append(pin.name)
        return archive

    monkeypatch.setattr(Pin, "fetch", fetch)
    monkeypatch.setenv(ENV_VAR, str(tmp_path / "cache"))
    assert main() == main() == 0
    assert fetched == ["gensim"]  # the second time it is there
    recipe = load_recipe(str(ROOT / "recipes" / "families.yaml"))
    assert recipe.evaluate is not None
    sets = {
        gold.name: (gold.kind, gold.data) for gold in load_gold_sets(recipe.evaluate.word_vectors)
    }
    assert sets == {
        "wordsim353": ("similarity", pairs),
        "questions-words": ("analogies", questions),
    }
