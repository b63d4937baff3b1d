"""Released folders of a real run: card, bill of materials, signature, and what `verify` finds."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from cli.release import release
from cli.verify import EXIT_VERIFY_FAILED, verify
from tests.views.judged_run import call, judge, load
from tests.views.real_run import RealRun


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
