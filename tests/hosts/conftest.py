"""Three hosts for all tests of this folder. On a machine that can make none, the tests are skipped, and fail in CI."""

import os

import pytest

from tests.hosts.hosts import Network, obstacle


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """Three hosts, joined by a switch. NEED_HOSTS=1 in the environment: failing to make them is an error."""
    if reason := obstacle():
        verdict = pytest.fail if os.environ.get("NEED_HOSTS") else pytest.skip
        verdict(f"no hosts to test on: {reason}")
    with Network(tmp_path_factory.mktemp("network"), 3) as hosts:
        yield hosts


@pytest.fixture(autouse=True)
def nothing_left(network):
    """Put every cable back after a test, and fail it if it has left a process on a host."""
    yield
    left = network.processes()
    network.plug()
    network.kill_all()
    assert not left, left
