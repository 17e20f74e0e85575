from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import ray

from lora_sweep.errors import ConfigError
from lora_sweep.sweep.cluster import ClusterBeside, ray_cluster


@pytest.fixture
def no_ray(monkeypatch):
    """As in a process that is not connected, whatever tests before have left open."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_not_there_is_told_at_once(no_ray, scheme):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(ConfigError) as caught, ray_cluster(address):
            pass
    assert time.monotonic() - began < 10
    assert str(caught.value) == (
        "--address: must be the address of a running Ray cluster ([Errno 111] Connection refused), "
        f"got {address!r}. Leave it out to start Ray on this machine."
    )


def test_processes_of_a_ray_of_our_own_are_no_less_urgent_and_have_huge_pages(local_ray):
    seen = ray.remote(num_cpus=0)(lambda: (os.nice(0), os.environ["GLIBC_TUNABLES"]))
    assert ray.get(seen.remote()) == (os.nice(0), os.environ["GLIBC_TUNABLES"])
    assert "hugetlb=1" in os.environ["GLIBC_TUNABLES"]


@pytest.mark.parametrize("kind", [ConnectionError, RuntimeError, ValueError])
def test_what_ray_says_of_an_address(no_ray, monkeypatch, kind):
    def fail(**_):
        raise kind("no cluster")

    monkeypatch.setattr(ray, "init", fail)
    message = r"^--address: must be the address of .* \(no cluster\), got 'somewhere'"
    with pytest.raises(ConfigError, match=message), ray_cluster("somewhere"):
        pass


def test_a_cluster_beside_other_work_is_told_of_when_it_is_waited_for(no_ray, monkeypatch):
    def fail(**_):
        raise RuntimeError("no cluster")

    monkeypatch.setattr(ray, "init", fail)
    with ClusterBeside("somewhere", ray.nodes) as cluster, pytest.raises(ConfigError, match="no cluster"):
        cluster.wait()
    with ClusterBeside("somewhere", ray.nodes):
        pass  # nobody asks for it, so nobody is told


BESIDE = """
import ray
from lora_sweep.sweep.cluster import ClusterBeside

try:
    with ClusterBeside(None, ray.nodes):
        raise ValueError("found meanwhile")
except ValueError as error:
    print(error, ray.is_initialized())
with ClusterBeside(None, ray.nodes) as cluster:
    print(len(cluster.wait()))
    print(ray.get(ray.put("answered")))
    cluster.end()
print(ray.is_initialized())
"""


@pytest.mark.slow
def test_a_cluster_beside_other_work_ends_with_its_block(tmp_path):
    folder = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))  # Ray's sockets need a short path
    try:
        done = subprocess.run(
            [sys.executable, "-c", BESIDE], capture_output=True, text=True, timeout=120, cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(folder)},
        )  # fmt: skip
        assert done.stdout.split("\n") == ["found meanwhile False", "1", "answered", "False", ""], done.stderr
        assert not list(folder.glob("sweep-*"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
