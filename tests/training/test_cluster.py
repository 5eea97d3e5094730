"""TF_CONFIG: which worker this process is, and what is said where it cannot be one."""

import json
import signal
import socket
import threading
import time

import pytest

from vatt.errors import UserError, WorkerError
from vatt.training import cluster, signals

TWO = ["a:1", "b:2"]


@pytest.fixture
def environment(monkeypatch):
    def given(cluster, **task):
        text = cluster if isinstance(cluster, str) else json.dumps({"cluster": cluster} | task)
        monkeypatch.setenv("TF_CONFIG", text)

    return given


@pytest.mark.parametrize("text", ["", "{}", '{"task": {"type": "worker", "index": 0}}'])
def test_without_a_cluster_there_is_none(environment, text):
    environment(text)
    assert cluster.of_environment() is None


@pytest.mark.parametrize(
    ("jobs", "kind", "place", "index"),
    [
        ({"worker": TWO}, "worker", 1, 1),
        ({"worker": TWO, "chief": ["c:3"]}, "worker", 1, 2),
        ({"worker": TWO, "chief": ["c:3"]}, "chief", 0, 0),
        ({"worker": TWO, "ps": ["d:4"]}, "evaluator", 0, None),
    ],
)
def test_the_chief_is_counted_first(environment, jobs, kind, place, index):
    environment(jobs, task={"type": kind, "index": place})
    found = cluster.of_environment()
    assert list(found.addresses) == jobs.get("chief", []) + TWO
    assert found.index == index


@pytest.mark.parametrize(
    ("jobs", "task", "said"),
    [
        ("{worker: []", {}, "cannot be read"),
        ("[1]", {}, "cannot be read (it is no JSON object"),
        ("[" * 100_000, {}, "cannot be read"),
        ("9" * 5000, {}, "cannot be read"),
        ({"worker": ["a:" + "9" * 5000]}, {"type": "worker"}, "different addresses host:port"),
        ({"worker": TWO}, {}, "its task is None 0, its cluster has worker 0, worker 1"),
        ({"worker": TWO}, {"type": "worker", "index": 2}, "its task is worker 2"),
        ({"worker": TWO}, {"type": "ps", "index": 0}, "its task is ps 0"),
        ({"worker": ["a", "b:2"]}, {"type": "worker"}, "different addresses host:port"),
        ({"worker": ["a:70000", "b:2"]}, {"type": "worker"}, "different addresses host:port"),
        ({"worker": ["a:1", "a:1"]}, {"type": "worker"}, "different addresses host:port"),
    ],
)
def test_nonsense_is_told(environment, jobs, task, said):
    environment(jobs, task=task)
    with pytest.raises(UserError, match="TF_CONFIG: ") as caught:
        cluster.of_environment()
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "it names no workers"),
        ('{"cluster": {"wrker": ["a:1"]}}', "it names no workers"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator"}}', "trains nothing"),
    ],
)
def test_what_only_a_training_of_several_cannot_use(environment, text, said):
    environment(text)
    cluster.of_training("one_device")
    with pytest.raises(UserError, match=f"TF_CONFIG: .*{said}"):
        cluster.of_training("multi_worker_mirrored")


def test_one_worker_without_the_variable(environment):
    environment("")
    assert cluster.of_training("multi_worker_mirrored") is None


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return [f"127.0.0.1:{port}" for port in ports]


def test_all_meet_whoever_comes_first():
    addresses, told, servers = free_ports(3), [], []

    def come(index):
        cluster.Cluster(addresses, index).meet(told.append)
        host, port = addresses[index].split(":")
        servers.append(socket.create_server((host, int(port))))  # as TensorFlow listens from then

    threads = [threading.Thread(target=come, args=[index]) for index in (0, 2, 1)]
    for thread in threads[:2]:
        thread.start()
    while len(told) < 2:
        time.sleep(0.01)
    assert {line[:13] for line in told} == {"worker 0 of 3", "worker 2 of 3"}
    assert all(f"worker 1 of 3 ({addresses[1]})" in line for line in told)
    threads[2].start()
    for thread in threads:
        thread.join()
    for server in servers:
        server.close()


def test_who_waits_for_others_can_be_stopped():
    def stop(line):
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(signals.Interrupted), signals.stop_requests(at_once=True):
        cluster.Cluster(free_ports(2), 1).meet(stop)


def test_a_port_in_use_is_told():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(WorkerError, match=r"worker 1 of 2 .* cannot listen there"):
            cluster.Cluster(["127.0.0.1:1", address], 1).meet(print)
