"""The CI job that users copy: its steps, run for commits of a real repository against a real server."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.runs.run_records import COMPLETED, RunRecord, latest_run
from infra.store.storage import Storage
from tests.e2e.command import CommandResult, run_to_end, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.e2e.prefect_server import Prefect
from tests.processes import ROOT, TreeProcess

pytestmark = pytest.mark.e2e

CI = ROOT / "infra" / "deploy" / "ci"
GATE_FAILED = 4


@dataclass(frozen=True)
class Repository:
    """A user's git repository with a recipe, the scripts and the GitHub workflow."""

    folder: Path
    env: Mapping[str, str]
    store: Storage

    def git(self, *arguments: str) -> str:
        """Run git."""
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(self.folder), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> str:
        """Commit everything that changed; return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "change")
        return self.git("rev-parse", "HEAD")

    def push(self) -> tuple[RunRecord, str]:
        """Commit, and do what the workflow does after a push: all its scripts, in order.

        Returns:
            The record of the run that the job started, and the job's summary.
        """
        commit, summary = self.commit(), self.folder.parent / "summary.md"
        summary.write_text("")
        workflow = yaml.safe_load((self.folder / ".github/workflows/retrain.yml").read_text())
        env = {
            **self.env,
            "RECIPE": workflow["env"]["RECIPE"],
            "REASON": f"commit {commit}, job 1.1",
            "GITHUB_STEP_SUMMARY": str(summary),
        }
        scripts = [step["run"] for step in workflow_steps(workflow) if step["name"] != "Install"]
        assert len(scripts) == 4
        for script in scripts:
            result = run_to_end(["bash", "-euo", "pipefail", "-c", script], env, self.folder)
            assert result.code == 0, f"{script}\n{result.out}\n{result.err}"
        record = latest_run(self.store, "small")
        assert record.reason == env["REASON"]
        assert record.state == COMPLETED
        return record, summary.read_text()

    def gate(self, record: RunRecord, *conditions: str) -> CommandResult:
        """Run the gate for a run that has ended."""
        command = ["ci/gate.sh", "recipe.yaml", str(record.reason), *conditions]
        return run_to_end(command, self.env, self.folder)


def workflow_steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the steps of all jobs that run a command."""
    for job in workflow["jobs"].values():
        yield from (step for step in job["steps"] if "run" in step)


def trained(record: RunRecord) -> set[str | None]:
    """Return the entries whose weights this run made."""
    return {stage.entry for stage in record.stages if stage.stage == "train" and not stage.cached}


def worked(record: RunRecord) -> set[str]:
    """Return the stages that did any work."""
    return {stage.stage for stage in record.stages if not stage.cached}


@pytest.fixture
def repository(prefect: Prefect, tmp_path: Path) -> Repository:
    folder = tmp_path / "repository"
    # Counted in a second; that a worker's runs train in processes of their own is tested elsewhere.
    entries = [{"name": name, "family": "ngram", "model": {"order": 2}} for name in ("one", "two")]
    value = recipe(
        tmp_path / "data",
        mixed(tmp_path / "in"),
        cluster={"workers": 0},
        train=entries,
        evaluate={},
    )
    (folder / ".github" / "workflows").mkdir(parents=True)
    (folder / "ci").mkdir()
    for script in CI.glob("*.sh"):
        (folder / "ci" / script.name).write_bytes(script.read_bytes())
        (folder / "ci" / script.name).chmod(0o755)
    workflow = (CI / "github.yml").read_text()
    (folder / ".github" / "workflows" / "retrain.yml").write_text(workflow)
    write_recipe(folder / "recipe.yaml", value)
    bin_folder = Path(sys.executable).parent
    env = {
        **prefect.env,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "WATCH_INTERVAL": "1",
    }
    repository = Repository(folder, env, Storage(str(tmp_path / "data")))
    repository.git("init", "--quiet")
    return repository


def test_a_commit_retrains_exactly_what_depends_on_it(
    repository: Repository, worker: TreeProcess
) -> None:
    first, summary = repository.push()
    assert trained(first) == {"one", "two"}
    assert "| one | trained |" in summary

    (repository.folder / "README.md").write_text("What this model is for.\n")
    value = yaml.safe_load((repository.folder / "recipe.yaml").read_text())
    value["train"][1]["model"]["order"] = 3
    write_recipe(repository.folder / "recipe.yaml", value)
    second, summary = repository.push()
    assert trained(second) == {"two"}
    assert worked(second) == {"train", "release", "evaluate"}
    assert "| one | unchanged |" in summary
    assert "| bits_per_byte <= previous * 1.005 | two |" in summary

    failing = repository.gate(second, "bits_per_byte < 0.1")
    assert failing.code == GATE_FAILED
    assert "FAILED" in failing.out
    assert repository.gate(second).code == 0


def test_a_failed_run_fails_the_job(repository: Repository, worker: TreeProcess) -> None:
    value = yaml.safe_load((repository.folder / "recipe.yaml").read_text())
    value["sources"][0]["paths"] = [str(repository.folder / "missing.jsonl")]
    write_recipe(repository.folder / "recipe.yaml", value)
    # The run is refused before it does anything, so it leaves no record that the gate could read.
    for script, code in (("deploy.sh", 0), ("retrain.sh", 1), ("gate.sh", 1)):
        command = [f"ci/{script}", "recipe.yaml", "commit 123"]
        command += ["bits_per_byte < 9"] if script == "gate.sh" else []
        result = run_to_end(command, repository.env, repository.folder)
        assert result.code == code, result.out + result.err


@pytest.mark.parametrize(
    ("name", "schema"),
    [("github.yml", "vendor.github-workflows"), ("gitlab.yml", "vendor.gitlab-ci")],
)
def test_workflow_files_fit_their_published_schemas(name: str, schema: str, tmp_path: Path) -> None:
    def check(path: Path) -> int:
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
        return subprocess.run(command, check=False, capture_output=True).returncode

    assert check(CI / name) == 0
    wrong = tmp_path / name
    wrong.write_text((CI / name).read_text() + "\njobs: 7\nstages: 7\n")
    assert check(wrong) != 0


def test_both_workflows_call_the_same_scripts() -> None:
    def scripts(text: str) -> set[str]:
        return {word for word in text.split() if word.startswith("ci/") and word.endswith(".sh")}

    used = scripts((CI / "github.yml").read_text())
    assert used == scripts((CI / "gitlab.yml").read_text())
    assert used == {f"ci/{path.name}" for path in CI.glob("*.sh")}
