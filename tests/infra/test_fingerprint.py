"""Fingerprints, ids, code versions, the ledger's rows and the views kernels work on."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.dataset import code_version
from infra.dataset.fingerprint import canonical_json, document_id, hash_to_unit, json_sha256
from infra.dataset.ledger import LEDGER_SCHEMA, ledger_table
from infra.formats import unicode_tables
from infra.formats.arrow_text import utf8_buffers

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(TEXT, st.integers() | st.booleans() | TEXT))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert json_sha256(value) == json_sha256(dict(reversed(value.items())))
    assert json.loads(canonical_json(value)) == value


def test_nan_has_no_digest() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        json_sha256(float("nan"))


@given(TEXT, TEXT, st.binary(), TEXT)
def test_an_id_depends_on_each_field(source: str, url: str, content: bytes, more: str) -> None:
    one = document_id(source, url, content)
    assert len(one) == 32
    assert one == document_id(source, url, content)
    if more:
        assert one != document_id(source + more, url, content)
        assert one != document_id(source, url + more, content)
        assert document_id(more, "", content) != document_id("", more, content)


def test_draws_are_even_and_fixed() -> None:
    draws = [hash_to_unit(1337, str(n)) for n in range(4000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert abs(float(np.mean(draws)) - 0.5) < 0.02
    assert hash_to_unit(1, "a") != hash_to_unit(1, "b")


def test_code_versions_ignore_comments_and_docstrings(tmp_path: Path) -> None:
    def version(text: str) -> str:
        path = tmp_path / "module.py"
        path.write_text(text)
        return code_version._parse(path.read_bytes())[0]

    base = version('"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1\n')
    assert base == version("def f(x):\n\n    # why\n    return x+1\n")
    assert base != version("def f(x):\n    return x + 2\n")
    assert code_version.code_digest(
        ["infra.formats.arrow_text"], ["numpy"]
    ) != code_version.code_digest(["infra.formats.arrow_text"], [])
    with pytest.raises(ModuleNotFoundError, match="infra_nothing"):
        code_version.code_digest(["infra_nothing"], [])


def test_what_was_read_of_a_source_file_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "module.py"
    path.write_text(
        "from infra.formats.arrow_text import utf8_buffers\nfrom infra.store.storage import Storage\n"
    )
    first = code_version._DigestCache()
    found = first.read(path)
    assert found[1] == [
        "infra.formats.arrow_text",
        "infra.formats.arrow_text.utf8_buffers",
        "infra.store.storage",
        "infra.store.storage.Storage",
    ]
    first.save()
    with monkeypatch.context() as patch:
        patch.setattr(code_version, "_parse", lambda _: pytest.fail("read again"))
        assert code_version._DigestCache().read(path) == found
    path.write_text("import infra.formats.arrow_text\n")
    assert code_version._DigestCache().read(path) != found
    (kept,) = (tmp_path / "cache").iterdir()
    for broken in (b"[1]", b"\xff", b"{", b'{"a": 1}'):
        kept.write_bytes(broken)
        assert code_version._DigestCache().read(path)[1] == ["infra.formats.arrow_text"]


def test_ledger_rows_hold_verdicts_and_evidence() -> None:
    table = ledger_table(
        "select",
        ["a", "b", "c"],
        urls=["u", None, None],
        reasons=[None, "language", "timeout"],
        failed=[False, False, True],
        evidence=[None, {"language": "de"}, {"error": "ü"}],
    )
    assert table.schema == LEDGER_SCHEMA
    assert table["verdict"].to_pylist() == ["kept", "dropped", "failed"]
    assert table["evidence"].to_pylist() == [None, '{"language": "de"}', '{"error": "ü"}']
    with pytest.raises(ValueError, match="reasons has 1 rows for 2"):
        ledger_table("select", ["a", "b"], reasons=[None])
    with pytest.raises(ValueError, match="needs a reason"):
        ledger_table("select", ["a"], failed=[True])


@given(st.lists(st.none() | TEXT), st.integers(0, 3), st.booleans())
def test_views_hold_the_text_of_every_row(rows: list[str | None], cut: int, large: bool) -> None:
    kind = pa.large_string() if large else pa.string()
    for array in (
        pa.array(rows, kind).slice(cut),
        pa.chunked_array([pa.array(rows, kind), pa.array(rows[cut:], kind)], type=kind),
    ):
        offsets, data = utf8_buffers(array)
        found = [data[a:b].tobytes().decode() for a, b in pairwise(offsets)]
        assert found == [row or "" for row in array.to_pylist()]


def test_a_view_of_numbers_is_refused() -> None:
    with pytest.raises(TypeError, match="int64"):
        utf8_buffers(pa.array([1]))


@given(TEXT)
def test_unicode_tables_agree_with_python(text: str) -> None:
    classes, lower = unicode_tables.char_tables()
    data = np.frombuffer(text.encode(), np.uint8)
    at = 0
    for char in text:
        point, at = unicode_tables.decode_utf8(data, at)
        assert point == ord(char)
        if point < 0xE01F0:
            assert bool(classes[point] & unicode_tables.SPACE) == char.isspace()
            assert bool(classes[point] & unicode_tables.ALPHA) == char.isalpha()
            assert lower[point] == ord(char.lower()[0])
    assert at == len(data)
