"""``gristmill run`` with settings of Prefect that are wrong: one line that names the setting."""

from pathlib import Path

import pytest

from tests.e2e.command import gristmill, write_recipe


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("PREFECT_HOME", "/proc/nowhere", "PREFECT_HOME"),
        ("PREFECT_LOGGING_LEVEL", "LOUD", "level"),
        ("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "x", "startup_timeout_seconds"),
        ("PREFECT_API_URL", "nonsense", "nonsense"),
        ("PREFECT_API_URL", "http://127.0.0.1:9/api", "variable PREFECT_API_URL"),
        ("PREFECT_API_URL", "http://[bad", "PREFECT_"),
        ("profiles.toml", "active = [", "profiles.toml"),
        ("profiles.toml", 'active = "x"\n[profiles.x]\nPREFECT_API_URL = "http://127.0.0.1:9/api"', "profile 'x'"),
        ("PREFECT_PROFILE", "gone", "'gone'"),
        ("profiles.toml", 'active = "gone"', "'gone'"),
    ],
)  # fmt: skip
def test_wrong_settings_of_prefect_are_one_line(
    tmp_path: Path, variable: str, value: str, word: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    if variable == "profiles.toml":
        (home / variable).write_text(value)
    (tmp_path / "x.jsonl").write_text('{"text": "one"}\n')
    source = {"name": "dump", "kind": "documents", "paths": [str(tmp_path / "x.jsonl")]}
    recipe = {"name": "small", "storage": str(tmp_path / "data"), "sources": [source]}
    path = write_recipe(tmp_path / "r.yaml", {**recipe, "cluster": {"workers": 0}})
    env = {variable: value} if variable.startswith("PREFECT") else {}
    result = gristmill(home, "run", str(path), "--until", "acquire", env=env)
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    assert word in line
