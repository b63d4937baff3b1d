"""Which files machine code depends on: after a change to one of them, it is compiled anew."""

from pathlib import Path

from infra.compute.jit import ROOT, jit_sources

FILES = {
    "infra/__init__.py": "",
    "infra/fast.py": "from infra import limits\n\n\n@jit\ndef f(): ...",
    "infra/limits.py": "from infra.base import (\n    FIRST,\n    SECOND,\n)\n",
    "infra/base.py": "import infra.deep as deep\n",
    "infra/deep.py": "",
    "infra/slow.py": "from infra.fast import f\n",
    "tasks/__init__.py": "",
    "tasks/stage/__init__.py": "",
    "tasks/stage/words.py": "LONGEST = 64\n",
    "tasks/stage/sketch.py": "def g():\n    from tasks.stage.words import LONGEST\n@jit\n",
}


def test_what_kernels_import_is_compiled_into_them(tmp_path: Path) -> None:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    sources = jit_sources(tmp_path)
    modules = ("base", "deep", "fast", "limits")
    expected = ["infra", *(f"infra.{name}" for name in modules), "tasks.stage.sketch"]
    assert [*sources] == [*expected, "tasks.stage.words"]
    assert sources["infra.deep"] == b""


def test_the_modules_of_kernels_are_among_them() -> None:
    sources = jit_sources(ROOT)
    assert {
        "infra.minhash.sketch",
        "infra.minhash.shingles",
        "infra.formats.unicode_tables",
    } <= {*sources}
    assert "views.report.page" not in sources
