"""buildah and podman with storage of their own: no image or container of the machine is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest

from container_files import DOCKERFILE
from places import ROOT

BASE = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = ("podman", "buildah", "crun", "mmdebstrap")

_STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{0}/graph"\nrunroot = "{0}/run"\n'
# no control groups and no network: a container within a container often may not have them
_CONTAINERS = """\
[containers]
cgroups = "disabled"
netns = "none"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_PIP = "[global]\nno-index = true\nfind-links = /wheels\n"
# podman wants the second version of control groups, and many machines have the first as well
_NAMESPACE = "mount -t cgroup2 none /sys/fs/cgroup && echo ready && exec sleep infinity"


class Engine:
    """Runs buildah and podman with storage below a folder, in a mount namespace of their own.

    Args:
        folder: Empty; holds the images, some gigabytes.
        namespace: A process in the mount namespace to use.
    """

    def __init__(self, folder: Path, namespace: int) -> None:
        self._folder, self._namespace = folder, namespace
        self._environ = dict(os.environ)
        for name, content in (
            ("STORAGE_CONF", _STORAGE.format(folder)),
            ("CONF", _CONTAINERS),
            ("REGISTRIES_CONF", "unqualified-search-registries = []\n"),
        ):
            file = folder / name
            file.write_text(content)
            self._environ[f"CONTAINERS_{name}"] = str(file)

    def tried(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command; standard output and error are texts."""
        inside = ["nsenter", "--target", str(self._namespace), "--mount", *map(str, command)]
        return subprocess.run(
            inside, env=self._environ, capture_output=True, text=True, check=False
        )

    def __call__(self, *command: str | Path) -> str:
        """Run a command that must succeed, and return what it says."""
        done = self.tried(*command)
        assert done.returncode == 0, f"{command}: {done.stdout[-4000:]} {done.stderr[-4000:]}"
        return done.stdout.strip()

    def build(self, tag: str, **arguments: str) -> None:
        """Build our Dockerfile on a base image of Debian's packages, with wheels fetched before."""
        base, wheels, pip = (self._folder / name for name in ("base.tar", "wheels", "pip.conf"))
        pip.write_text(_PIP)
        with _started(_base_command(base)) as making:  # meanwhile:
            fetched = subprocess.run(_wheels_command(wheels), capture_output=True, check=False)
            _, complaint = making.communicate()
        _or_skip("the wheels", fetched.returncode, fetched.stderr)
        _or_skip("the base image", making.returncode, complaint)
        self("podman", "import", "--quiet", base, BASE)
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        mounts = [f"--volume={pip}:/etc/pip.conf:ro", f"--volume={wheels}:/wheels:ro"]
        # RUN in a chroot; without --layers, because what is built once needs no cache
        build = ["buildah", "bud", "--pull=never", "--isolation=chroot", "--format=docker"]
        what = ["--layers=false", "--file", str(DOCKERFILE), "--tag", tag, str(ROOT)]
        self(*build, *mounts, *given, *what)


@contextmanager
def engine(folder: Path) -> Iterator[Engine]:
    """Make an engine, or skip the test and say why; remove all of it at the end."""
    _check()
    holding = ["unshare", "--mount", "--propagation", "private", "bash", "-c", _NAMESPACE]
    with _started(holding) as namespace:
        assert namespace.stdout
        if namespace.stdout.readline() != b"ready\n":
            pytest.skip("control groups cannot be mounted here")
        made = Engine(folder, namespace.pid)
        try:
            if (asked := made.tried("podman", "info")).returncode:
                pytest.skip(f"podman does not work here: {asked.stderr.strip()}")
            yield made
        finally:
            made.tried("podman", "rm", "--all", "--force", "--time=0")
            namespace.terminate()
            shutil.rmtree(folder)


def _check() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may build and run containers here")
    if missing := [name for name in PACKAGES if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the wheels are for this Python, and the base image has 3.11")
    if not metadata.version("torch").endswith("+cpu"):
        pytest.skip("this torch is built for CUDA, and its image would take gigabytes")


def _base_command(tar: Path) -> list[str]:
    """Return what makes the base: like python:3.11-slim-bookworm, but Debian's own Python."""
    without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
    return [
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--dpkgopt=force-unsafe-io"),
        *(*without, "--include=python3,python3-pip,python3-venv", "bookworm", str(tar)),
    ]


def _wheels_command(wheels: Path) -> list[str]:
    """Return what fetches all that the Dockerfile's pip will ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels)),
        *("--constraint", str(ROOT / "constraints.txt"), f"torch=={metadata.version('torch')}"),
        *(*project["build-system"]["requires"], *project["project"]["dependencies"]),
    ]


@contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.terminate()


def _or_skip(what: str, code: int, complaint: bytes) -> None:
    """Skip where a registry cannot be reached."""
    if code:
        last = complaint.decode(errors="replace").strip().splitlines()[-1:]
        pytest.skip(f"{what} cannot be had here: {''.join(last)}")
