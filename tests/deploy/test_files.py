"""The files of deploy/ say nothing that does not exist: commands, options, settings, paths and routes."""

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from api.app import ROUTES
from api.settings import PREFIX, Settings, load_settings
from cli.main import promptbandit
from domain.environment import read_settings
from domain.optimizer_settings import OptimizerSettings
from tests.deploy.programs import system_program

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCS = ("postgresql", "deploying", "backup", "scaling", "operations", "optimizer")
UNITS = sorted((DEPLOY / "systemd").glob("promptbandit*.*"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
SCHEDULED = ("reallocate", "verify", "forget", "optimize")
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".lock")


def check_command(words: list[str]) -> None:
    """click itself takes the words of a `promptbandit ...`; a usage error names what it does not know."""
    command: click.Command = promptbandit
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
    command.make_context(command.name, list(words)).close()


def commands_of(text: str) -> Iterator[list[str]]:
    """The words behind the path of `promptbandit`, of each line that runs it."""
    for line in text.splitlines():
        found = re.search(r"/promptbandit ([^>|&]+)", line)
        if found and not line.startswith("#"):
            yield shlex.split(found[1])


@pytest.mark.parametrize("path", [*UNITS, DEPLOY / "promptbandit.cron"], ids=lambda path: path.name)
def test_every_command_of_units_and_cron_exists(path: Path):
    found = list(commands_of(path.read_text()))
    assert found or path.suffix in (".timer", ".env")
    for words in found:
        check_command(words)


def test_a_command_that_does_not_exist_is_found():
    """What the other tests rest on."""
    check_command(["serve", "--workers", "2"])
    for wrong in (
        ["reallocat"],
        ["serve", "--worker-number", "2"],
        ["forget", "--transcripts-older-than", "x"],
    ):
        with pytest.raises((AssertionError, click.UsageError)):
            check_command(wrong)


def settings_in(text: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", text))


def test_every_setting_that_is_named_exists():
    fields = (*Settings.__struct_fields__, *OptimizerSettings.__struct_fields__)
    known = {PREFIX + name.upper() for name in fields}
    named = {path.name: settings_in(path.read_text()) for path in FILES}
    named |= {f"{name}.md": settings_in((ROOT / "docs" / f"{name}.md").read_text()) for name in DOCS}
    assert {name: wrong for name, found in named.items() if (wrong := found - known)} == {}
    assert sum(map(len, named.values())) > 5


def environment_of(name: str) -> dict[str, str]:
    lines = (DEPLOY / "systemd" / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_environment_files_are_taken_as_they_stand_and_no_server_gets_the_optimizers_key():
    serving, optimizing = environment_of("promptbandit.env"), environment_of("promptbandit-optimizer.env")
    for pairs in (serving, optimizing):
        assert load_settings(pairs).database_url.startswith("postgresql+psycopg://")
    assert read_settings(OptimizerSettings, optimizing).anthropic_api_key
    assert not read_settings(OptimizerSettings, serving).anthropic_api_key
    units = {path.name: path.read_text() for path in UNITS if path.suffix == ".service"}
    assert [name for name, text in units.items() if "optimizer" in text] == ["promptbandit-optimize.service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path):
    """As it stands in /etc, with a program that exists."""
    for path in UNITS:
        text = path.read_text().replace("/opt/promptbandit/.venv/bin/promptbandit", "/bin/true")
        (tmp_path / path.name).write_text(text)
    units = [str(tmp_path / path.name) for path in UNITS if path.suffix != ".env"]
    done = subprocess.run(
        [system_program("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("systemd-analyze does not work in this container")
    said = [line for line in done.stderr.splitlines() if "promptbandit" in line]
    assert (done.returncode, said) == (0, [])


def test_every_timer_has_its_service_and_every_service_a_user_and_a_stop_that_waits():
    units = {path.name: _unit(path) for path in UNITS if path.suffix != ".env"}
    timers = {name for name in units if name.endswith(".timer")}
    assert timers == {f"promptbandit-{name}.timer" for name in SCHEDULED}
    assert {name.replace(".timer", ".service") for name in timers} < set(units)
    for name, unit in units.items():
        if name.endswith(".service"):
            own = "promptbandit-optimizer" if "optimize" in name else "promptbandit"
            assert unit["Service"]["User"] == own
            assert unit["Service"]["EnvironmentFile"] == f"/etc/promptbandit/{own}.env"
    serve = units["promptbandit.service"]["Service"]
    assert serve["Restart"] == "always"
    assert int(serve["TimeoutStopSec"]) >= 30  # uvicorn's 10 s, then the drains of 5 s each


def _unit(path: Path) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    return unit


def manifests() -> dict[str, dict[str, Any]]:
    """By kind and name."""
    found = [item for path in MANIFESTS for item in yaml.safe_load_all(path.read_text())]
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in found}


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    spec = spec["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else spec
    pod: dict[str, Any] = spec["template"]["spec"]
    return pod


def test_every_pod_runs_a_command_that_exists_without_rights():
    pods = {name: pod_of(item) for name, item in manifests().items() if name.split("/")[0] in KINDS_OF_PODS}
    assert len(pods) == 6
    for pod in pods.values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        check_command(container["args"])
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        assert container["image"] == f"promptbandit:{version}"


KINDS_OF_PODS = ("Deployment", "CronJob", "Job")


def test_the_deployment_is_probed_where_the_server_answers_without_a_key_and_keeps_serving_without_a_database():
    deployment = manifests()["Deployment/promptbandit"]
    assert deployment["spec"]["replicas"] >= 2
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = pod_of(deployment)
    (container,) = pod["containers"]
    open_routes = {path for route in ROUTES for path in route.paths if route.opt["scope"] == "open"}
    probes = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")]
    assert set(probes) == {"/health/live"} <= open_routes
    assert pod["terminationGracePeriodSeconds"] >= 30
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    service = manifests()["Service/promptbandit"]
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]


def test_scheduled_pods_do_not_pile_up():
    jobs = {name: item for name, item in manifests().items() if item["kind"] == "CronJob"}
    assert set(jobs) == {f"CronJob/promptbandit-{name}" for name in SCHEDULED}
    secrets = {name: pod_of(job)["containers"][0]["envFrom"] for name, job in jobs.items()}
    own = [{"secretRef": {"name": "promptbandit-optimizer"}}]
    assert [name for name, refs in secrets.items() if refs == own] == ["CronJob/promptbandit-optimize"]
    for job in jobs.values():
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
        assert len(job["spec"]["schedule"].split()) == 5


def test_the_image_has_every_package_of_the_service_and_runs_a_command_that_exists():
    text = (DEPLOY / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert [source for source in sources if not (ROOT / source).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= sources
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in sources} <= set(allowed)
    command = re.search(r"^CMD \[(.+)\]$", text, re.MULTILINE)
    assert command is not None
    check_command([word.strip().strip('"') for word in command[1].split(",")])
    assert re.search(r"^USER \d+$", text, re.MULTILINE)  # a number: Kubernetes can see that it is not root


def test_nginx_forwards_what_the_server_serves_within_its_bounds():
    text = (DEPLOY / "nginx.conf").read_text()
    assert text.count("{") == text.count("}")
    paths = {path for route in ROUTES for path in route.paths}
    for alternatives in re.findall(r"location ~ \^/\((.+)\)\$", text):
        assert {f"/{name}" for name in alternatives.split("|")} <= paths
    assert set(re.findall(r"location = (\S+)", text)) <= paths
    size = re.search(r"client_max_body_size (\d+)m;", text)
    assert size is not None
    assert int(size[1]) * 2**20 == Settings().max_body_bytes
    for directive in ("ssl_certificate ", "ssl_protocols", "client_header_timeout", "client_body_timeout"):
        assert directive in text


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_the_file(tmp_path: Path):
    text = re.sub(
        r"^\s*(ssl_certificate|listen).*$", "", (DEPLOY / "nginx.conf").read_text(), flags=re.MULTILINE
    )
    text = text.replace("server {", f"server {{ listen unix:{tmp_path}/s;", 1)
    logs = f"error_log stderr; pid {tmp_path}/pid; events {{}}"
    (tmp_path / "nginx.conf").write_text(f"{logs} http {{ access_log off; {text} }}")
    done = subprocess.run(
        [system_program("nginx"), "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "syntax is ok" in done.stderr, done.stderr  # the folders that it would write to may be missing
