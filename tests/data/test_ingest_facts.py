"""What the files in `.shards` say is believed only where it is all that such a file says."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from media_files import tone, write

from vatt.data.ingest import command as ingest
from vatt.data.ingest import facts, state

SHARD = "train-00000-of-00001.tfrecord"
CHANGES = {
    "absent": None,
    "null": lambda _: None,
    "a text": lambda value: f"{value}" if not isinstance(value, str) else 7,
    "a list": lambda value: [[value]],
    "negative": lambda value: -1 if isinstance(value, int | float) else {"a": -1},
}
LATER = {"root", "files", "shortest", "longest", "durations", "samples", "notices", "levels"}


def make(output, *options):
    order = ["--sample_rate=8000", "--workers=1", f"--output_dir={output}", *map(str, options)]
    return ingest.main(order)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set of two splits, the folder of its media, and what its state says of a shard."""
    folder = tmp_path_factory.mktemp("facts")
    for name in ("train/one/a", "train/two/b", "test/one/c"):
        (folder / f"media/{name}").parent.mkdir(parents=True, exist_ok=True)
        options = {"rate": 8000, "audio_codec": "pcm_s16le"}
        write(folder / f"media/{name}.wav", sound=tone(300, 0.5, 8000), **options)
    assert make(folder / "set", "--input", folder / "media/train") == 0
    assert make(folder / "set", "--input", f"test={folder / 'media/test'}") == 0
    return folder / "set", folder / "media"


def files(output):
    found = (path for path in output.iterdir() if path.is_file() and path.suffix != ".log")
    return {path.name: path.read_bytes() for path in found}


def read(output, name=SHARD):
    return json.loads((output / ".shards" / f"{name}.json").read_text())


def damaged(made, name=SHARD):
    """Yields what the state of a shard may say that is not what was written there."""
    known = read(made[0], name)
    for field, value in known.items():
        for how, change in CHANGES.items():
            if change is None and field not in LATER:
                yield f"{field} {how}", {k: v for k, v in known.items() if k != field}
            elif change is not None and not (how == "null" and field == "levels"):
                yield f"{field} {how}", known | {field: change(value)}
    yield "another file", known | {"file": "test-00000-of-00001.tfrecord"}
    yield "another split", known | {"split": "test"}
    (sample,) = known["samples"][:1]
    yield "a sample", known | {"samples": [sample | {"outline": [[1]]}]}
    yield "a picture", known | {"samples": [sample | {"frames": [[0.0, '"><b>']]}]}


def test_what_a_shard_says_is_whole_or_not_believed(made, tmp_path):
    (tmp_path / SHARD).write_bytes((made[0] / SHARD).read_bytes())
    (tmp_path / ".shards").mkdir()
    for what, stats in damaged(made):
        (tmp_path / ".shards" / f"{SHARD}.json").write_text(json.dumps(stats))
        assert state.made(SimpleNamespace(name=SHARD), tmp_path) is None, what
    known = read(made[0])
    for field in LATER - known.keys():
        known.pop(field, None)
    (tmp_path / ".shards" / f"{SHARD}.json").write_text(json.dumps(known))
    assert state.made(SimpleNamespace(name=SHARD), tmp_path) == known


def test_a_shard_that_is_not_believed_is_made_again(made):
    output, media = made
    before = files(output)
    for name in ("classes", "with_audio", "failures", "sizes", "sha256"):
        broken = read(output)
        del broken[name]
        (output / ".shards" / f"{SHARD}.json").write_text(json.dumps(broken))
        assert make(output, "--input", media / "train") == 0, name
        assert files(output) == before


def test_a_shard_of_another_split_that_is_not_believed_is_told(made, capsys):
    output, media = made
    path, text = output / ".shards" / f"{SHARD}.json", json.dumps(read(output))
    path.write_text(json.dumps(read(output) | {"with_audio": "two"}))
    assert make(output, "--input", f"test={media / 'test'}") == 3
    assert "holds the split 'train', which has 0 of 1 shards" in capsys.readouterr().err
    path.write_text(text)


@pytest.mark.parametrize("row", [["a", 1.0], ["a", None, None, ["b"], ""], [1, 2, 3, 4, 5]])
def test_rows_that_are_none_are_not_believed(made, row):
    output, media = made
    before = files(output)
    for name in ("unused", "noticed"):
        (output / f".shards/{name}.json").write_text(json.dumps({"train": [row]}))
    assert make(output, "--input", f"test={media / 'test'}") == 0
    assert files(output) == before


def test_names_that_are_not_utf_8_are_texts():
    assert facts.rows(facts.Failure, [["\udcff.wav", None, 1.5, "no sound"]])
    assert not facts.rows(facts.Failure, [["\udcff.wav", None, "1.5", "no sound"]])
    assert not facts.rows(facts.Notice, [["\udcff.wav", None, None, "a kind"]])
