from __future__ import annotations

import socket
import time

import pytest
import ray

from lora_sweep.errors import ConfigError
from lora_sweep.sweep.cluster import ray_cluster


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


@pytest.mark.parametrize("kind", [ConnectionError, RuntimeError, ValueError])
def test_what_ray_says_of_an_address(no_ray, monkeypatch, kind):
    def fail(**_):
        raise kind("no cluster")

    monkeypatch.setattr(ray, "init", fail)
    message = r"^--address: must be the address of .* \(no cluster\), got 'somewhere'"
    with pytest.raises(ConfigError, match=message), ray_cluster("somewhere"):
        pass
