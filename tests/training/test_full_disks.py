"""A disk that has no room any more, or is read-only, costs a training nothing that was saved."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
import small_disk
import test_loop

from vatt.errors import UserError
from vatt.training.checkpoints import CheckpointStore

LEFTOVERS = ("*writing*", "*pending*", "*.tmp", "*.partial")


def assert_whole(folder, steps):
    """Every checkpoint is valid, and nothing half written is left."""
    store = CheckpointStore(folder)
    assert store.steps() == steps and [store.verify(step) for step in steps] == [None] * len(steps)
    store.clean()  # what the next start does first
    left = [path.name for pattern in LEFTOVERS for path in folder.glob(pattern)]
    assert left == []
    bundles = {path.stem for path in folder.glob("ckpt-*.index")}
    assert bundles == {f"ckpt-{step}" for step in steps}


def config():
    return test_loop.experiment(total_steps=20, save_every=5)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the variables are after a training whose disk always has room."""
    recipe, _ = test_loop.train(tmp_path_factory.mktemp("whole"), config())
    return test_loop.values(recipe)


def assert_goes_on_exactly(undisturbed, run):
    resumed, code = test_loop.train(run, config())
    assert code == 0
    for name, value in undisturbed.items():
        np.testing.assert_array_equal(value, test_loop.values(resumed)[name], err_msg=name)
    logged = [row["step"] for row in test_loop.rows(run)]
    assert logged == sorted(set(logged)) and logged[-1] == 20


# Room for nothing at all, and for a part of a checkpoint.
@pytest.mark.parametrize("room", [0, pytest.param(2**14, marks=pytest.mark.slow)])
def test_a_training_whose_disk_is_full_ends_and_goes_on_exactly(tmp_path, undisturbed, room):
    disk = tmp_path / "disk"
    with small_disk.mounted(disk, "size=1m"):
        other = disk / "other"

        def fill(step):
            if step == 10:
                small_disk.fill(other)
                os.truncate(other, other.stat().st_size - room)
                assert os.statvfs(disk).f_bavail == room // os.statvfs(disk).f_frsize

        with pytest.raises(UserError) as caught:
            test_loop.train(disk / "run", config(), on_checkpoint=fill)
        said = r"\S*/disk/run/\S+: cannot be written \(No space left on device\); 0 MiB are free"
        assert re.match(said, str(caught.value)) and "\n" not in str(caught.value)
        assert_whole(disk / "run", [5, 10])
        other.unlink()
        assert_goes_on_exactly(undisturbed, disk / "run")


@pytest.mark.slow
def test_a_training_whose_disk_becomes_read_only_ends_and_goes_on_exactly(tmp_path, undisturbed):
    disk = tmp_path / "disk"
    with small_disk.mounted(disk, "size=4m"):
        test_loop.train(disk / "run", test_loop.experiment(total_steps=10, save_every=5))
        with small_disk.read_only(disk):
            with pytest.raises(UserError) as caught:
                test_loop.train(disk / "run", config())
            assert re.match(
                r"\S*/disk/run: cannot be written \(Read-only file system\); \d+ MiB are free",
                str(caught.value),
            )
            store = CheckpointStore(disk / "run")
            assert store.steps() == [5, 10] and store.verify(10) is None
        assert_whole(disk / "run", [5, 10])
        assert_goes_on_exactly(undisturbed, disk / "run")
