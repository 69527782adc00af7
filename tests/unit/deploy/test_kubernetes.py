"""The manifests: what they name exists, pods are restricted, kubectl's types know each field."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from proxy.settings.document import read_document
from proxy.settings.load import load_text
from proxy.settings.model import Settings

FOLDER = Path(__file__).resolve().parents[3] / "config" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
WORKLOADS = {"Deployment", "DaemonSet", "StatefulSet"}
KUBECTL = shutil.which("kubectl")
# Pod Security Standards, "restricted": the kinds of volumes a pod may have.
VOLUMES = {"configMap", "secret", "emptyDir", "projected", "downwardAPI", "ephemeral"}
GIVEN_BY_USERS = {"backstay-tls"}  # made by the command at the head of the file

by_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def objects(file: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def of_kind(file: Path, *kinds: str) -> list[dict[str, Any]]:
    return [item for item in objects(file) if item["kind"] in kinds]


def pod(file: Path) -> dict[str, Any]:
    (workload,) = of_kind(file, *WORKLOADS)
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def containers(file: Path) -> list[dict[str, Any]]:
    return [*pod(file).get("initContainers", []), *pod(file)["containers"]]


def backstay(file: Path) -> dict[str, Any]:
    (found,) = [one for one in containers(file) if one["name"] == "backstay"]
    return found


def settings(file: Path, tmp_path: Path) -> Settings:
    """The settings of the file's ConfigMap, with its Secret where the pod would see it."""
    (config,) = of_kind(file, "ConfigMap")
    (secret,) = of_kind(file, "Secret")
    text = config["data"]["backstay.yaml"]
    for mount in backstay(file)["volumeMounts"]:
        place = tmp_path / mount["name"]
        place.mkdir()
        text = text.replace(mount["mountPath"] + "/", f"{place}/")
        if mount["name"].endswith("secrets"):
            for name, content in secret["stringData"].items():
                (place / name).write_text(content)
        for name in ("tls.crt", "tls.key"):
            (place / name).write_text("-")
    return load_text(text, str(file), {})


def test_there_are_two() -> None:
    assert [file.name for file in FILES] == ["deployment.yaml", "sidecar.yaml"]


@by_file
def test_no_key_is_given_twice(file: Path) -> None:
    """PyYAML keeps the last of two; our own reader of settings refuses them."""
    for text in file.read_text().split("\n---\n"):
        assert read_document(text, file.name, {}).mistakes == []


@by_file
def test_restricted(file: Path) -> None:
    """Pod Security Standards, level restricted, and a file system that nobody can write to."""
    spec = pod(file)
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        assert not spec.get(name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for one in containers(file):
        context = one["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not context.get("privileged")
        assert context.get("runAsUser", spec["securityContext"].get("runAsUser")) > 0
    assert backstay(file)["securityContext"]["readOnlyRootFilesystem"] is True
    for volume in spec["volumes"]:
        assert volume.keys() - {"name"} <= VOLUMES


@by_file
def test_resources_are_said(file: Path) -> None:
    for one in containers(file):
        assert one["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in one["resources"]["limits"]


@by_file
def test_what_is_named_exists(file: Path) -> None:
    maps = {item["metadata"]["name"] for item in of_kind(file, "ConfigMap")}
    secrets = {item["metadata"]["name"] for item in of_kind(file, "Secret")} | GIVEN_BY_USERS
    volumes = {}
    for volume in pod(file)["volumes"]:
        volumes[volume["name"]] = volume
        assert volume.get("configMap", {}).get("name", *maps) in maps
        assert volume.get("secret", {}).get("secretName", next(iter(secrets))) in secrets
    for one in containers(file):
        for mount in one.get("volumeMounts", ()):
            assert mount["name"] in volumes
    (workload,) = of_kind(file, *WORKLOADS)
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()


@by_file
def test_probes_ask_what_there_is(file: Path) -> None:
    one = backstay(file)
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    paths = {}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = one[name]["httpGet"]
        assert ports[asked["port"]] == 9127
        paths[name] = asked["path"]
    # Alive is not the same as of use: a database that is away must not restart the proxy.
    assert paths == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }


@by_file
def test_the_settings_load_and_meet_the_pod(file: Path, tmp_path: Path) -> None:
    told = settings(file, tmp_path)
    assert backstay(file)["args"] == ["run", "-c", "/etc/backstay/backstay.yaml"]
    assert [str(address) for address in told.admin.listen] == ["*:9127"], "probes come from outside"
    sleep = (
        backstay(file).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    )
    assert pod(file)["terminationGracePeriodSeconds"] >= told.drain_s + sleep + 5
    limit = backstay(file)["resources"]["limits"]["memory"]
    assert limit.endswith("Mi")
    cached = sum(route.cache.max_bytes for route in told.redis)
    assert cached + (64 << 20) < int(limit.removesuffix("Mi")) << 20
    readiness = backstay(file)["readinessProbe"]
    waits_s = readiness["failureThreshold"] * readiness["periodSeconds"]
    assert all(waits_s > route.resilience.hold_s for route in told.postgres)


def test_the_sidecar_is_one(tmp_path: Path) -> None:
    """A native sidecar is an init container that is always restarted; nobody else reaches it."""
    file = FOLDER / "sidecar.yaml"
    (sidecar,) = pod(file)["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert "lifecycle" not in sidecar
    told = settings(file, tmp_path)
    for route in (*told.postgres, *told.redis):
        assert [address.host for address in route.listen] == ["127.0.0.1"]
    (application,) = pod(file)["containers"]
    urls = {entry["name"]: entry["value"] for entry in application["env"]}
    assert f"@{told.postgres[0].listen[0]}/" in urls["DATABASE_URL"]
    assert f"@{told.redis[0].listen[0]}/" in urls["REDIS_URL"]
    # The application's password is the one that Backstay knows: clients prove it.
    assert f":{told.postgres[0].upstream.password}@" in urls["DATABASE_URL"]
    assert f":{told.redis[0].upstream.password}@" in urls["REDIS_URL"]


def test_the_service_leads_to_the_listeners(tmp_path: Path) -> None:
    file = FOLDER / "deployment.yaml"
    told = settings(file, tmp_path)
    listened = {route.listen[0].port for route in (*told.postgres, *told.redis)}
    ports = {port["name"]: port["containerPort"] for port in backstay(file)["ports"]}
    (service,) = of_kind(file, "Service")
    assert {ports[port["targetPort"]] for port in service["spec"]["ports"]} == listened
    for kind in ("PodDisruptionBudget",):
        (item,) = of_kind(file, kind)
        assert item["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    (policy,) = of_kind(file, "NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"] == service["spec"]["selector"]
    opened = {p["port"] for rule in policy["spec"]["ingress"] for p in rule["ports"]}
    assert opened == set(ports)
    dialed = {told.postgres[0].upstream.hosts[0].port, told.redis[0].upstream.port}
    assert dialed <= {p["port"] for rule in policy["spec"]["egress"] for p in rule["ports"]}
    for tls in (route.tls for route in (*told.postgres, *told.redis)):
        assert tls.mode == "require"


@by_file
def test_the_schema_of_kubernetes_agrees(file: Path) -> None:
    """Every field exists and has its type, in the oldest version that the files are meant for."""
    for item in objects(file):
        kubernetes_validate.validate(item, "1.30", strict=True)


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Every key of nested mappings and lists, as a path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{at}.{key}"
            yield from paths(inner, f"{at}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, f"{at}[{index}]")


@pytest.mark.skipif(KUBECTL is None, reason="no kubectl on this machine")
@by_file
def test_kubectl_knows_every_field_of_the_workload(file: Path, tmp_path: Path) -> None:
    """`set env --local` decodes into kubectl's types and back: what it does not know is gone."""
    (workload,) = of_kind(file, *WORKLOADS)
    place = tmp_path / "workload.yaml"
    place.write_text(yaml.safe_dump(workload))
    done = subprocess.run(
        [str(KUBECTL), "set", "env", "--local", "-f", str(place), "-o", "json", "X=1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    known = set(paths(json.loads(done.stdout)))
    assert [path for path in paths(workload) if path not in known] == []
