"""Gates, versions and released folders of a real run."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from cli.models import models
from cli.release import release
from cli.verify import EXIT_VERIFY_FAILED, verify
from flows.gates import describe_version, judge_model
from flows.recipe import Recipe
from flows.steps import STEPS
from infra.registry.history import load_history, model_state
from infra.registry.versions import FAILED, HELD, PASSED, Version, load_versions
from infra.removals.log import append_removals
from infra.removals.match import parse_removal
from infra.runs.run_records import RunRecord
from tests.views.real_run import RealRun, recipe
from views.removal.exposure import update_exposure
from views.report import build_report


def load(run: RealRun, **section: Any) -> Recipe:
    """The recipe of the run, with a section `release`, as the commands read it."""
    value = {**recipe(run.folder, run.folder / "sources"), "release": section}
    (run.folder / "recipe.yaml").write_text(yaml.safe_dump(value))
    return Recipe.model_validate(value)


def judge(run: RealRun, *gates: str, record: RunRecord | None = None, **section: Any) -> Version:
    """Judge the model ``tiny`` of a run."""
    value = load(run, gates=list(gates), **section)
    version, _ = judge_model(run.storage, value, record or run.record, "tiny")
    return version


def with_late_as_tiny(run: RealRun) -> RunRecord:
    """A later run, whose model ``tiny`` is the other model of the run."""
    stages = [stage for stage in run.record.stages if stage.entry != "tiny"]
    stages = [replace(stage, entry="tiny") if stage.entry == "late" else stage for stage in stages]
    return replace(run.record, run="29990101-000000-000aaaa", stages=stages)


def call(run: RealRun, command: Any, arguments: Sequence[str]) -> Result:
    return CliRunner().invoke(command, [*arguments])


def registry(run: RealRun, name: str, *arguments: str) -> Result:
    """Call a command of ``gristmill models``."""
    return call(run, models, [name, str(run.folder / "recipe.yaml"), *arguments])


def champion(run: RealRun) -> int | None:
    return model_state(load_history(run.storage, run.record.recipe), "tiny").champion


def test_the_first_model_passes_comparisons_by_definition_and_is_promoted(
    run_copy: RealRun,
) -> None:
    version = judge(
        run_copy,
        "bits_per_byte <= 100",
        "bits_per_byte <= champion * 1.005",
        "bits_per_byte not worse",
    )
    assert version.state == PASSED
    assert [item.passed for item in version.gates] == [True, True, True]
    assert all("no champion" in item.note for item in version.gates[1:])
    assert champion(run_copy) == version.number == 1
    assert describe_version(run_copy.storage, version).endswith("is the champion")


def test_the_same_model_and_gates_are_registered_once(run_copy: RealRun) -> None:
    first = judge(run_copy, "bits_per_byte <= 100")
    before = run_copy.storage.list_files("registry")
    assert judge(run_copy, "bits_per_byte <= 100") == first
    assert run_copy.storage.list_files("registry") == before
    assert judge(run_copy, "bits_per_byte <= 99").number == 2, "other gates are another decision"


def test_a_model_is_compared_with_the_champion_over_the_same_items(run_copy: RealRun) -> None:
    judge(run_copy)
    later = with_late_as_tiny(run_copy)
    version = judge(
        run_copy, "bits_per_byte <= champion * 10", "bits_per_byte not worse", record=later
    )
    first, second = version.gates
    assert (version.number, version.champion, first.champion) == (2, 1, 1)
    [tiny] = [m for m in run_copy.record.models if m.name == "tiny"]
    assert first.limit == pytest.approx(10 * tiny.metrics["bits_per_byte"], rel=1e-4)
    assert first.n == second.n == tiny.metrics["documents"]
    assert second.low is not None
    assert second.high is not None
    assert second.low <= second.high


def test_a_missing_metric_is_a_failed_gate(run_copy: RealRun) -> None:
    version = judge(run_copy, "suite.nothing.accuracy >= 0", "suite.nothing.accuracy not worse")
    assert version.state == FAILED
    assert len(version.failed_gates) == 2
    assert champion(run_copy) is None
    assert "nothing" in describe_version(run_copy.storage, version)


def test_a_model_that_fails_is_kept_and_the_champion_stays(run_copy: RealRun) -> None:
    judge(run_copy)
    later = with_late_as_tiny(run_copy)
    assert judge(run_copy, "bits_per_byte <= 0.1", record=later).state == FAILED
    assert champion(run_copy) == 1
    refused = registry(run_copy, "promote", "2", "--reason", "x")
    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    forced = registry(run_copy, "promote", "2", "--reason", "known", "--force", "--by", "ann")
    assert forced.exit_code == 0
    assert champion(run_copy) == 2
    assert load_history(run_copy.storage, run_copy.record.recipe)[-1].by == "ann"


def test_a_held_model_waits_for_a_person(run_copy: RealRun) -> None:
    version = judge(run_copy, on_pass="hold")
    assert (version.state, champion(run_copy)) == (HELD, None)
    assert (
        json.loads(registry(run_copy, "list", "--json").stdout)["versions"][0]["alias"]
        == "challenger"
    )
    assert registry(run_copy, "promote", "challenger", "--reason", "read samples").exit_code == 0
    assert champion(run_copy) == 1
    assert judge(run_copy, on_pass="hold") == version, "a run does not undo the decision"
    assert champion(run_copy) == 1


def test_weights_that_were_rolled_back_are_not_promoted_again(run_copy: RealRun) -> None:
    judge(run_copy)
    later = with_late_as_tiny(run_copy)
    assert judge(run_copy, record=later).number == champion(run_copy) == 2
    rolled = registry(run_copy, "rollback", "--reason", "repeats itself")
    assert (rolled.exit_code, champion(run_copy)) == (0, 1)
    assert judge(run_copy, record=later).number == 2
    again = judge(run_copy, "bits_per_byte <= 100", record=later)
    assert again.state == HELD, "the same weights under other gates"
    assert champion(run_copy) == 1


def test_a_rejected_model_is_named_and_stays_rejected(run_copy: RealRun) -> None:
    judge(run_copy, on_pass="hold")
    assert registry(run_copy, "reject", "1", "--reason", "license").exit_code == 0
    judge(run_copy, on_pass="hold")
    assert champion(run_copy) is None
    assert "withdrawn" in registry(run_copy, "list").stdout
    assert "license" in registry(run_copy, "list", "--history").stdout


def test_two_versions_are_compared_with_intervals(run_copy: RealRun) -> None:
    judge(run_copy)
    judge(run_copy, record=with_late_as_tiny(run_copy))
    result = json.loads(registry(run_copy, "compare", "tiny", "1", "--json").stdout)
    assert (result["a"], result["b"]) == (2, 1)
    [row] = [item for item in result["metrics"] if item["name"] == "bits_per_byte"]
    assert row["difference"]["low"] <= row["difference"]["value"] <= row["difference"]["high"]
    assert row["answer"] in ("better", "worse", "cannot be told")
    assert registry(run_copy, "compare", "9", "1").exit_code == 1


def test_a_version_that_does_not_exist_is_refused_in_one_line(run_copy: RealRun) -> None:
    judge(run_copy)
    for text in ("7", "challenger", "other@champion", "nobody"):
        result = registry(run_copy, "promote", text, "--reason", "x")
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1


def test_removed_documents_are_debts_that_a_gate_can_demand_paid(run_copy: RealRun) -> None:
    assert judge(run_copy, "removal.debts none").state == PASSED
    removal = parse_removal("domain", "books.example.net")
    append_removals(run_copy.storage, run_copy.record.recipe, [removal])
    update_exposure(run_copy.storage, run_copy.record.recipe, [removal], STEPS)
    version = judge(run_copy, "removal.debts none")
    assert version.state == FAILED
    assert version.gates[0].value is not None
    assert version.gates[0].value > 0
    [debt] = json.loads(registry(run_copy, "debts", "--json").stdout)["debts"][:1]
    assert debt["documents"] == version.gates[0].value
    assert debt["steps"] > 0
    assert "was trained on" in registry(run_copy, "debts").stdout


def test_the_report_shows_the_gates(run_copy: RealRun) -> None:
    version = judge(run_copy, "bits_per_byte <= 100", "bits_per_byte <= 0.1", "a&b <= 1")
    record = replace(run_copy.record, versions_registered={"tiny": version.number})
    page = run_copy.storage.read(build_report(run_copy.storage, record, STEPS)).decode()
    assert 'data-version="1"' in page
    assert page.count('data-passed="false"') == 2
    assert "<code>a&amp;b &lt;= 1</code>" in page


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private and a public key."""
    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


def publish(run: RealRun, target: Path | str, *arguments: str) -> Result:
    path = str(run.folder / "recipe.yaml")
    return call(run, release, [path, "champion", "--to", str(target), *arguments])


def check(run: RealRun, folder: Path, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    """Verify a released folder; return the exit status and the findings."""
    path = str(run.folder / "recipe.yaml")
    result = call(run, verify, [path, "--release", str(folder), "--json", *arguments])
    return result.exit_code, json.loads(result.stdout)["findings"]


def test_a_released_folder_is_complete_signed_and_verified(
    run_copy: RealRun, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    version = judge(run_copy, "bits_per_byte <= 100")
    folder = tmp_path / "out" / "model"
    assert publish(run_copy, folder, "--sign-key", str(keys[0])).exit_code == 0
    assert check(run_copy, folder, "--public-key", str(keys[1])) == (0, [])
    export = run_copy.dataset("release", "tiny")
    for file in export.manifest.files.values():
        assert (folder / file.name).exists()
    card = (folder / "README.md").read_text()
    for title in (
        "Evaluation",
        "Gates",
        "Languages",
        "Filters",
        "Removals",
        "Energy",
        "Intended use",
    ):
        assert f"\n## {title}" in card
    assert f"Version {version.number}" in card
    assert "CC0-1.0" in card
    sums = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=False, timeout=60
    )
    assert sums.returncode == 0
    if shutil.which("openssl"):
        command = f"openssl pkeyutl -verify -pubin -inkey {keys[1]} -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig"
        assert subprocess.run(command.split(), cwd=folder, check=False, timeout=60).returncode == 0
    assert not list(folder.parent.glob(".tmp-*"))
    assert b"PRIVATE" not in b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    assert not any(
        b"PRIVATE" in run_copy.storage.read(n) for n in run_copy.storage.list_files("registry")
    )


def test_the_bill_of_materials_follows_the_published_schema(
    run_copy: RealRun, tmp_path: Path
) -> None:
    judge(run_copy, "bits_per_byte <= 100")
    for name in ("one", "two"):
        assert publish(run_copy, tmp_path / name).exit_code == 0
    text = (tmp_path / "one" / "sbom.cdx.json").read_text()
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert error is None, str(error)
    document = json.loads(text)
    kinds = {item["type"] for item in document["components"]}
    assert kinds == {"data", "library"}
    names = {item["name"].lower() for item in document["components"]}
    assert {"site", "library", "torch", "prefect"} <= names
    [library] = [item for item in document["components"] if item["name"] == "library"]
    assert library["licenses"] == [{"license": {"name": "CC0-1.0"}}]
    assert text == (tmp_path / "two" / "sbom.cdx.json").read_text()


def test_an_unsigned_folder_is_said_to_be_unsigned(
    run_copy: RealRun, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    judge(run_copy)
    written = publish(run_copy, tmp_path / "model")
    assert "not signed" in written.stderr
    status, findings = check(run_copy, tmp_path / "model")
    assert (status, [item["severity"] for item in findings]) == (0, ["warning"])
    status, findings = check(run_copy, tmp_path / "model", "--public-key", str(keys[1]))
    assert (status, [item["severity"] for item in findings]) == (EXIT_VERIFY_FAILED, ["error"])


@pytest.mark.parametrize("damage", ["changed", "added", "missing", "other key", "other record"])
def test_what_was_changed_in_a_released_folder_is_found(
    run_copy: RealRun, tmp_path: Path, keys: tuple[Path, Path], damage: str
) -> None:
    judge(run_copy)
    folder = tmp_path / "model"
    publish(run_copy, folder, "--sign-key", str(keys[0]))
    public = keys[1]
    if damage == "changed":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    elif damage == "added":
        (folder / "modeling_evil.py").write_text("")
    elif damage == "missing":
        (folder / "tokenizer.json").unlink()
    elif damage == "other key":
        public = tmp_path / "other.pub.pem"
        public.write_bytes(
            Ed25519PrivateKey.generate()
            .public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    else:  # consistent in itself, but not what was registered
        [name] = run_copy.storage.list_files("registry/tiny-run/versions")
        record = json.loads(run_copy.storage.read(name))
        run_copy.storage.write(name, json.dumps({**record, "weights": "0" * 64}).encode())
    status, findings = check(run_copy, folder, "--public-key", str(public))
    assert status == EXIT_VERIFY_FAILED
    assert any(item["severity"] == "error" for item in findings)


def test_mistakes_of_a_release_are_one_line(
    run_copy: RealRun, tmp_path: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(run_copy)
    assert publish(run_copy, tmp_path / "model").exit_code == 1, "nothing is registered"
    judge(run_copy)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").write_text("mine")
    (tmp_path / "bad.pem").write_text("no key")
    monkeypatch.setenv("GRISTMILL_SIGNING_KEY", "no key either")
    for target, arguments in (
        (taken, ["--sign-key", str(keys[0])]),
        (tmp_path / "model", ["--sign-key", str(tmp_path / "bad.pem")]),
        (tmp_path / "model", ["--sign-key", str(keys[1])]),
        (tmp_path / "model", ["--sign-key", str(tmp_path / "missing.pem")]),
        (tmp_path / "model", []),
    ):
        result = publish(run_copy, target, *arguments)
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert not (tmp_path / "model").exists()
    assert (taken / "file").read_text() == "mine"


def test_every_version_is_listed_by_number(run_copy: RealRun) -> None:
    judge(run_copy)
    judge(run_copy, record=with_late_as_tiny(run_copy))
    listed = json.loads(registry(run_copy, "list", "--json").stdout)["versions"]
    assert [item["number"] for item in listed] == [2, 1]
    assert [v.number for v in load_versions(run_copy.storage, run_copy.record.recipe)] == [1, 2]
