"""What operators deploy: valid by the published schemas, hardened, and the same servers everywhere."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from flows.recipe_loader import load_recipe
from infra.deploy.prepare import prepare
from infra.deploy.stack.layout import create_layout
from infra.deploy.stack.services import find_service
from tests.processes import ROOT
from tests.train_entry import in_steps

DEPLOY = ROOT / "infra" / "deploy"
KUBERNETES_VERSION = "1.34"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SECRET = re.compile(
    r"PASSWORD|SECRET|AUTH_STRING|CONNECTION_URL|MESSAGING_URL|QUEUE_URL|DOCKET_URL|JWT"
)


@cache
def compose() -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    return value


@cache
def manifests() -> list[dict[str, Any]]:
    folders = (DEPLOY / "kubernetes" / name for name in ("base", "training"))  # gpu/ is a patch
    paths = sorted(path for folder in folders for path in folder.glob("*.yaml"))
    documents = [item for path in paths for item in yaml.safe_load_all(path.read_text())]
    return [item for item in documents if "kind" in item and item["kind"] != "Kustomization"]


def pods() -> dict[str, dict[str, Any]]:
    """Return the spec of each kind of pod."""
    specs: dict[str, dict[str, Any]] = {}
    for item in manifests():
        name = item["metadata"]["name"]
        if item["kind"] == "DaskCluster":
            specs |= {f"dask-{key}": item["spec"][key]["spec"] for key in ("worker", "scheduler")}
        elif "template" in item.get("spec", {}):
            specs[name] = item["spec"]["template"]["spec"]
    return specs


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder)
    return folder


def test_the_compose_file_follows_the_published_schema() -> None:
    schema = files("check_jsonschema.builtin_schemas.vendor").joinpath("compose-spec.json")
    jsonschema.validate(compose(), json.loads(schema.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", compose()["services"])
def test_a_container_is_pinned_and_may_do_only_what_it_needs(name: str) -> None:
    service = compose()["services"][name]
    assert ":" in service["image"]
    assert "latest" not in service["image"]
    assert service["user"].startswith("${GRISTMILL_UID")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_secrets_of_containers_are_files_that_prepare_makes(prepared: Path) -> None:
    made = {path.name for path in (prepared / "secrets").iterdir() if path.is_file()}
    for name, service in compose()["services"].items():
        assert set(service.get("secrets", [])) <= made, name
        values = service.get("environment", {})
        leaked = [key for key in values if SECRET.search(key) and not key.endswith("_FILE")]
        assert leaked == [], name
    assert set(compose()["secrets"]) <= made
    for name, pod in pods().items():
        (volume,) = [item for item in pod["volumes"] if item["name"] == "secrets"]
        assert {item["key"] for item in volume["secret"]["items"]} <= made, name
    for path in (prepared / "secrets").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_prepare_keeps_what_it_has_made(tmp_path: Path) -> None:
    prepare(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    prepare(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    password = before[tmp_path / "secrets" / "postgres"].decode()
    url = before[tmp_path / "secrets" / "PREFECT_SERVER_DATABASE_CONNECTION_URL"].decode()
    assert f":{password}@" in url


@pytest.mark.parametrize("item", manifests(), ids=lambda i: f"{i['kind']}-{i['metadata']['name']}")
def test_a_manifest_follows_the_published_schema(item: dict[str, Any]) -> None:
    if item["kind"] != "DaskCluster":  # its schema is the operator's
        kubernetes_validate.validate(item, KUBERNETES_VERSION, strict=True)


@pytest.mark.parametrize("name", pods())
def test_a_pod_meets_the_restricted_standard(name: str) -> None:
    spec = pods()[name]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    kubernetes_validate.validate(pod, KUBERNETES_VERSION, strict=True)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert {"livenessProbe", "startupProbe"} & set(container) or name == "train"
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        claims = {"data"} if name in ("postgres", "redis", "s3") else set()
        assert mounted == {volume["name"] for volume in spec["volumes"]} | claims


def test_kustomizations_name_existing_files() -> None:
    for path in (DEPLOY / "kubernetes").glob("*/kustomization.yaml"):
        value = yaml.safe_load(path.read_text())
        named = [*value["resources"], *value.get("configurations", [])]
        named += [patch["path"] for patch in value.get("patches", [])]
        assert all((path.parent / name).exists() for name in named), path
    if shutil.which("kubectl") is None:
        return
    for folder in ("base", "gpu", "training"):
        command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / folder)]
        rendered = subprocess.run(command, capture_output=True, check=True).stdout
        images = re.findall(r"image: (\S+)", rendered.decode())
        assert images
        assert not {"gristmill", "postgres", "redis"} & set(images)


def test_the_training_job_fits_its_recipe() -> None:
    folder = DEPLOY / "kubernetes" / "training"
    run = in_steps(load_recipe(str(folder / "recipe.yaml")).train[0]).run
    (job,) = [item for item in manifests() if item["kind"] == "Job"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == run.num_nodes
    assert run.rendezvous == "train-0.train:29400"
    assert job["spec"]["template"]["spec"]["subdomain"] == "train"


def test_prefect_has_the_same_settings_everywhere(tmp_path: Path) -> None:
    """A setting that is missing in one place would show only there, and only under load."""
    env = find_service("prefect-api").env
    stack = set(env(create_layout(tmp_path / "s", {}))) - {"PREFECT_HOME", "PREFECT_CLI_PROMPT"}
    wanted = {name for name in stack if re.match("PREFECT_(SERVER|REDIS)_", name)}
    wanted -= {"PREFECT_SERVER_ANALYTICS_ENABLED", "PREFECT_SERVER_UI_API_URL"}  # image; host
    for name in ("prefect-api", "prefect-services"):
        service = compose()["services"][name]
        assert wanted <= {*service["environment"], *service["secrets"]}
    base = yaml.safe_load((DEPLOY / "kubernetes" / "base" / "kustomization.yaml").read_text())
    (literals,) = [
        m["literals"] for m in base["configMapGenerator"] if m["name"] == "prefect-server"
    ]
    (volume,) = [v for v in pods()["prefect-api"]["volumes"] if v["name"] == "secrets"]
    keys = {item["key"] for item in volume["secret"]["items"]}
    assert wanted <= {line.split("=")[0] for line in literals} | keys
    example = (DEPLOY / "systemd" / "prefect-server.env.example").read_text()
    assert wanted <= set(re.findall(r"^(\w+)=", example, re.MULTILINE))


def test_the_same_servers_run_everywhere() -> None:
    """Program and subcommand; addresses and folders differ."""

    def program(command: list[str]) -> tuple[str, ...]:
        words = [Path(word).name for word in command[:4] if not word.startswith("-")]
        return tuple(words[:2]) if words[0] != "prefect" else tuple(words[:3])

    services = compose()["services"]
    own = {name: program(s["command"]) for name, s in services.items() if "gristmill" in s["image"]}
    commands = [_unit(path)["Service"]["ExecStart"] for path in UNITS]
    assert sorted(program(shlex.split(command)) for command in commands) == sorted(own.values())
    in_pods = [
        c["args"]
        for n, p in pods().items()
        for c in p["containers"]
        if "args" in c and n != "train"
    ]
    assert sorted(map(program, in_pods)) == sorted(own.values())


def _unit(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def test_units_are_hardened_restarted_and_valid(tmp_path: Path) -> None:
    for path in UNITS:
        service = _unit(path)["Service"]
        assert service["User"] == "gristmill"
        assert service["Restart"] == "always"
        assert service["NoNewPrivileges"] == "yes"
        assert service["ProtectSystem"] == "strict"
        assert "MemoryMax" in service
        example = Path(service["EnvironmentFile"]).name + ".example"
        assert (DEPLOY / "systemd" / example).exists()
    if shutil.which("systemd-analyze") is None:
        return
    for path in (DEPLOY / "systemd").glob("gristmill*"):
        # The programs are not installed where the units expect them.
        text = re.sub(
            "ExecStart=/opt/gristmill/.venv/bin/(dask|prefect|weed)",
            "ExecStart=/bin/true",
            path.read_text(),
        )
        (tmp_path / path.name).write_text(text)
    units = sorted(map(str, tmp_path.iterdir()))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, check=False
    )
    own = [line for line in result.stderr.decode().splitlines() if "gristmill" in line]
    assert own == []


def test_scripts_of_slurm_and_containers_are_valid() -> None:
    config = yaml.safe_load((DEPLOY / "slurm" / "jobqueue.yaml").read_text())
    assert config["jobqueue"]["slurm"]["scheduler-options"]["protocol"] == "tls://"
    for path in (DEPLOY / "slurm" / "train.sbatch", *(DEPLOY / "image").glob("*.sh")):
        subprocess.run(["bash", "-n", str(path)], check=True)
        assert os.access(path, os.X_OK) or path.suffix == ".sbatch"


def test_the_entry_point_sets_secrets_and_becomes_the_command(tmp_path: Path) -> None:
    (tmp_path / "SOME_TOKEN").write_text("a b'c\n")
    (tmp_path / "dask-key.pem").write_text("not a variable")
    command = [str(DEPLOY / "image" / "entrypoint.sh"), "env"]
    env = {"PATH": os.environ["PATH"], "SECRETS_FOLDER": str(tmp_path)}
    result = subprocess.run(command, env=env, capture_output=True, check=True)
    assert "SOME_TOKEN=a b'c" in result.stdout.decode().splitlines()
    assert b"not a variable" not in result.stdout


def test_the_entry_point_offers_the_model_of_the_image(tmp_path: Path) -> None:
    model = tmp_path / "image" / "models" / "lid.176.ftz"
    model.parent.mkdir(parents=True)
    model.write_text("model")
    cache = tmp_path / "cache"
    cache.mkdir()
    command = [str(DEPLOY / "image" / "entrypoint.sh"), "true"]
    image = {"IMAGE_CACHE": str(tmp_path / "image"), "GRISTMILL_CACHE": str(cache)}
    for _ in range(2):
        subprocess.run(command, env={**os.environ, **image}, check=True)
        assert (cache / "models" / "lid.176.ftz").read_text() == "model"


@pytest.mark.parametrize(
    ("rank", "words"), [("0", "run r --until train"), ("1", "train-node r --model m")]
)
def test_nodes_of_a_training_run_have_their_roles(tmp_path: Path, rank: str, words: str) -> None:
    program = tmp_path / "gristmill"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    command = [str(DEPLOY / "image" / "train.sh"), "r", "m", rank]
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = subprocess.run(command, env=env, capture_output=True, check=True)
    assert result.stdout.decode().strip() == words


def test_terraform_files_describe_the_bucket_and_the_pools() -> None:
    text = "".join(path.read_text() for path in (DEPLOY / "terraform").glob("*.tf"))
    resources = set(re.findall(r'^resource "(\w+)" "\w+" \{$', text, re.MULTILINE))
    assert {"aws_s3_bucket", "aws_s3_bucket_public_access_block", "prefect_work_pool"} <= resources
    declared = set(re.findall(r'^variable "(\w+)" \{$', text, re.MULTILINE))
    assert set(re.findall(r"\bvar\.(\w+)", text)) == declared
    used = set(re.findall(r"\b(aws_\w+|prefect_\w+)\.\w+\.\w+", text))
    assert used <= resources | set(re.findall(r'^data "(\w+)"', text, re.MULTILINE))
    if shutil.which("terraform") is not None:
        command = ["terraform", "fmt", "-check", "-recursive", str(DEPLOY / "terraform")]
        subprocess.run(command, check=True, capture_output=True)


def test_the_image_has_what_its_commands_need() -> None:
    dockerfile = (DEPLOY / "image" / "Dockerfile").read_text()
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    copied = set(re.findall(r"^COPY (\w+) \w+$", dockerfile, re.MULTILINE))
    assert packages - {"benchmarks", "examples", "scripts", "tests"} <= copied
    ignored = (DEPLOY / "image" / "Dockerfile.dockerignore").read_text().splitlines()
    assert all(f"!{name}" in ignored for name in copied)
    assert "USER 10001:10001" in dockerfile
