"""TF_CONFIG: which worker this process is, and what is said where it cannot be one."""

import json
import socket

import pytest

from vatt.errors import UserError
from vatt.training import cluster

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
        ("[1]", {}, "cannot be read"),
        ("[" * 100_000, {}, "cannot be read"),
        ("9" * 5000, {}, "cannot be read"),
        ({"worker": ["a:" + "9" * 5000]}, {"type": "worker"}, "different addresses host:port"),
        ({"worker": TWO}, {}, "its task is None 0, its cluster has worker 0, worker 1"),
        ({"worker": TWO}, {"type": "worker", "index": 2}, "its task is worker 2"),
        ({"worker": TWO}, {"type": "ps", "index": 0}, "its task is ps 0"),
        ({"worker": ["a", "b:2"]}, {"type": "worker"}, "different addresses host:port"),
        ({"worker": ["a:1", "a:1"]}, {"type": "worker"}, "different addresses host:port"),
    ],
)
def test_nonsense_is_told(environment, jobs, task, said):
    environment(jobs, task=task)
    with pytest.raises(UserError, match="TF_CONFIG: ") as caught:
        cluster.of_environment()
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_those_who_do_not_answer_are_named():
    with socket.create_server(("127.0.0.1", 0)) as there, socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))  # and does not listen
        ports = [s.getsockname()[1] for s in (gone, there)]
        addresses = ["127.0.0.1:1", *(f"127.0.0.1:{port}" for port in ports)]
        members = cluster.Cluster(addresses, 0)
        assert members.not_answering() == [f"worker 1 of 3 (127.0.0.1:{ports[0]})"]
