"""The manifests: valid for every Kubernetes that they are for, and true to clipwatch's promises."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from kubernetes_validate import utils
from packaging.version import Version

from clipwatch.settings import KEYS, load
from container_files import COMMON, CONTAINER, WORKLOADS, documents, own_settings, pod

OLDEST = Version("1.29")
"""The first with native sidecars switched on."""

VERSIONS = sorted(
    {version for version in utils.all_versions() if Version(version) >= OLDEST}, key=Version
)
MANIFESTS = sorted((CONTAINER / "kubernetes").glob("*.yaml"))


@pytest.fixture(params=WORKLOADS)
def workload(request: pytest.FixtureRequest) -> str:
    """Return the name of a manifest with a pod in it."""
    name: str = request.param
    return name


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid(version: str) -> None:
    """Every document fits the schema of this Kubernetes, and has no key that it does not know."""
    assert len(VERSIONS) >= 9
    for file in MANIFESTS:
        for document in documents(file):
            kubernetes_validate.validate(document, version, strict=True)


def test_a_slip_would_be_found() -> None:
    """A key of the sidecar that is misspelt is refused, so the test above means something."""
    (job,) = documents(CONTAINER / "kubernetes/sidecar-job.yaml")
    spoilt = copy.deepcopy(job)
    sidecar = spoilt["spec"]["template"]["spec"]["initContainers"][0]
    sidecar["restartpolicy"] = sidecar.pop("restartPolicy")
    with pytest.raises(kubernetes_validate.ValidationError, match="restartpolicy"):
        kubernetes_validate.validate(spoilt, VERSIONS[0], strict=True)


def test_settings_load(workload: str, tmp_path: Path) -> None:
    """The ConfigMap's file and the variables are settings, and they agree with the pod."""
    made, found = pod(workload), next(one for one in documents(COMMON) if "data" in one)
    config = tmp_path / "config.json"
    config.write_text(found["data"]["config.json"])
    assert set(own_settings(made.environ)) <= set(KEYS)
    assert made.environ["CLIPWATCH_CONFIG"] == _mount(made.clipwatch, "config") + "/config.json"
    settings = load(config, environ=made.environ, cwd=tmp_path)
    assert settings.remarks == ()
    for other in made.containers:
        if other is not made.clipwatch:
            assert f"--output_dir={settings.paths.output_dir}" in other["args"]
    assert str(settings.paths.output_dir).startswith(_mount(made.clipwatch, "output") + "/")
    assert str(settings.paths.state_dir) == _mount(made.clipwatch, "state")
    assert made.environ["HF_HOME"].startswith(_mount(made.clipwatch, "state") + "/")
    assert made.environ["WANDB_API_KEY_FILE"].startswith(_mount(made.clipwatch, "wandb") + "/")
    assert 0 < settings.service.drain_seconds < made.spec["terminationGracePeriodSeconds"]
    address = settings.service.health_address
    assert address
    assert address.host == "0.0.0.0"
    assert [port["containerPort"] for port in made.clipwatch["ports"]] == [address.port]
    assert made.metadata["annotations"]["prometheus.io/port"] == str(address.port)


def test_the_sidecar_never_holds_the_training() -> None:
    """It is a native sidecar, and neither a probe nor a hook of it is waited for."""
    made = pod("sidecar-job.yaml")
    assert made.clipwatch in made.spec["initContainers"]
    assert made.clipwatch["restartPolicy"] == "Always"
    assert not made.clipwatch.keys() & {"startupProbe", "readinessProbe", "lifecycle"}
    assert made.spec["restartPolicy"] == "Never"


def test_a_hanging_clipwatch_is_started_anew(workload: str) -> None:
    """Liveness is asked for at the named port, with time to start."""
    probe = pod(workload).clipwatch["livenessProbe"]
    assert probe["httpGet"] == {"path": "/healthz", "port": "http"}
    assert probe["initialDelaySeconds"] >= 60


def test_clipwatch_only_reads(workload: str) -> None:
    """Of the training's volume it can read alone; its own image it cannot write either."""
    made = pod(workload)
    container = made.clipwatch
    writable = {one["name"] for one in container["volumeMounts"] if not one.get("readOnly")}
    assert writable == {"state", "tmp"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert made.spec["automountServiceAccountToken"] is False
    for other in made.containers:
        if other is not container:
            assert {"name": "output", "mountPath": "/output"} in other["volumeMounts"]


def test_one_user_for_both() -> None:
    """A checkpoint that only its owner may read can be read: no container has its own user."""
    users = {pod(workload).spec["securityContext"]["runAsUser"] for workload in WORKLOADS}
    assert len(users) == 1
    assert users.isdisjoint({0})
    for workload in WORKLOADS:
        for container in pod(workload).containers:
            assert "runAsUser" not in container.get("securityContext", {})


def test_no_variable_of_a_service_reads_as_a_setting(workload: str) -> None:
    """No other Service of the namespace tells its address to whoever reads the environment."""
    assert pod(workload).spec["enableServiceLinks"] is False


def test_all_that_a_pod_needs_is_there(workload: str) -> None:
    """Every volume has its claim or ConfigMap in common.yaml; the secret may be missing."""
    made = pod(workload)
    there = {(one["kind"], one["metadata"]["name"]) for one in documents(COMMON)}
    needed: set[tuple[str, str]] = set()
    for volume in made.spec["volumes"]:
        if claim := volume.get("persistentVolumeClaim"):
            needed.add(("PersistentVolumeClaim", claim["claimName"]))
        elif config := volume.get("configMap"):
            needed.add(("ConfigMap", config["name"]))
        elif secret := volume.get("secret"):
            assert secret["optional"] is True
        else:
            assert "emptyDir" in volume
    assert needed == there
    mounted = {mount["name"] for one in made.containers for mount in one["volumeMounts"]}
    assert mounted == {volume["name"] for volume in made.spec["volumes"]}


def test_a_gpu_of_its_own(workload: str) -> None:
    """It asks for one GPU, which the training does not get."""
    made = pod(workload)
    limits = made.clipwatch["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"


def _mount(container: dict[str, Any], name: str) -> str:
    """Return where a container has a volume."""
    (path,) = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == name]
    return str(path)
