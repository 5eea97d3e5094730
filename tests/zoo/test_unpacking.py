"""Archives of others: their files, inside the folder, within bounds; or a line why not."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

from vatt.errors import DataError, WriteError
from vatt.zoo import unpacking


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **more):
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def archive(path, *members, mode="w", layout=tarfile.PAX_FORMAT):
    with tarfile.open(path, mode, format=layout) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if content else None)
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("layout", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_files_and_folders(tmp_path, mode, layout):
    weights = bytes(range(256)) * 3000
    long = "/".join(["a" * 50] * 3) + "/ckpt-1.index"
    members = [
        member("pretrained_models", kind=tarfile.DIRTYPE, mode=0),
        member("pretrained_models/latest_model.pth", weights, mode=0o4777),
        member("./config.yaml", b"x: 1"),
        member(long, b"i"),
        member("empty"),
    ]
    folder = tmp_path / "to"
    path = archive(tmp_path / "x.tar", *members, mode=mode, layout=layout)
    made = unpacking.unpack(path, folder)
    names = [path.relative_to(folder).as_posix() for path in made]
    assert names == ["pretrained_models/latest_model.pth", "config.yaml", long, "empty"]
    assert made[0].read_bytes() == weights and made[1].read_bytes() == b"x: 1"
    assert made[0].stat().st_mode & 0o7111 == 0  # neither set-user-ID nor executable
    assert made[3].read_bytes() == b""


def refused(tmp_path, path) -> str:
    with pytest.raises(DataError) as caught:
        unpacking.unpack(path, tmp_path / "to")
    told = str(caught.value)
    assert told.startswith(f"{path}: it cannot be unpacked (") and "\n" not in told
    assert {p.name for p in tmp_path.iterdir()} <= {path.name, "to"}
    return told


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "..", "a/../../to2/x"])
def test_nothing_outside_the_folder(tmp_path, name):
    path = archive(tmp_path / "x.tar", member("good", b"1"), member(name, b"bad"))
    assert "leads out of" in refused(tmp_path, path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"S"]
)
def test_nothing_but_plain_files(tmp_path, kind):
    path = archive(tmp_path / "x.tar", member("a", b"", kind, linkname="/etc/passwd"))
    assert "is no plain file" in refused(tmp_path, path)


def test_the_same_file_twice(tmp_path):
    path = archive(tmp_path / "x.tar", member("a", b"1"), member("./a", b"2"))
    assert "'a' is in it twice" in refused(tmp_path, path)


def test_bounds(tmp_path, monkeypatch):
    path = archive(tmp_path / "x.tar", member("a", b"12345"), member("b", b"12345"))
    monkeypatch.setattr(unpacking, "MAX_BYTES", 9)
    assert "more bytes than any" in refused(tmp_path, path)
    monkeypatch.undo()
    monkeypatch.setattr(unpacking, "MAX_FILES", 0)
    assert "more than 0 files" in refused(tmp_path, path)


def test_a_header_that_is_all_of_the_memory(tmp_path):
    """Of a gigabyte of zeros, packed into one megabyte: read as a header it would be in memory."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 2**30
    with gzip.open(tmp_path / "x.tar.gz", "wb", compresslevel=1) as file:
        file.write(info.tobuf())
        file.write(bytes(2**20))
    assert "a header of 1073741824 bytes" in refused(tmp_path, tmp_path / "x.tar.gz")


def test_a_bomb_leaves_nothing_on_the_disk(tmp_path):
    """R42: 256 MiB of zeros in a megabyte are refused before a byte of them is written."""
    info = tarfile.TarInfo("latest_model.pth")
    info.size = 2**28
    with gzip.open(tmp_path / "x.tar.gz", "wb", compresslevel=1) as file:
        file.write(info.tobuf())
        for _ in range(2**28 // 2**24):
            file.write(bytes(2**24))
        file.write(bytes(1024))
    assert (tmp_path / "x.tar.gz").stat().st_size < 2**21
    assert "more than 100 times as many bytes as itself" in refused(tmp_path, tmp_path / "x.tar.gz")
    assert list((tmp_path / "to").glob("*")) == []


def test_bytes_that_belong_to_no_file_are_counted_too(tmp_path):
    with gzip.open(tmp_path / "x.tar.gz", "wb", compresslevel=1) as file:
        file.write(archive(tmp_path / "x.tar", member("a", b"1")).read_bytes())
        for _ in range(20):
            file.write(bytes(2**24))
    (tmp_path / "x.tar").unlink()
    assert "more than 100 times" in refused(tmp_path, tmp_path / "x.tar.gz")


def test_a_disk_with_too_little_room(tmp_path, monkeypatch):
    path = archive(tmp_path / "x.tar", member("a", b"12345"))
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("usage", (), {"free": 4}))
    with pytest.raises(WriteError, match="to/a: cannot be written"):
        unpacking.unpack(path, tmp_path / "to")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_cut_off_anywhere_or_changed(tmp_path, mode):
    whole = archive(tmp_path / "x.tar", member("a", bytes(range(256)) * 20), mode=mode).read_bytes()
    used = len(whole) if mode == "w:gz" else 512 + 256 * 20
    path = tmp_path / "x.tar"
    for end in range(0, used, used // 23):
        path.write_bytes(whole[:end])
        assert "cannot be unpacked" in refused(tmp_path, path)
        (tmp_path / "to" / "a").unlink(missing_ok=True)
    for content in (b"", b"not a tar" * 100, bytes(10240), gzip.compress(b"no tar"), b"\x1f\x8b"):
        path.write_bytes(content)
        refused(tmp_path, path)
    if mode == "w:gz":  # its checksum is at the end
        path.write_bytes(whole[:-8] + b"12345678")
        refused(tmp_path, path)


def test_names_of_archives():
    yes = ("a.tar", "A.TAR.GZ", "x/y.tgz")
    assert all(unpacking.is_archive(name) for name in yes)
    assert not any(map(unpacking.is_archive, ("a.pth.tar", "a.pth", "a.gz", "tar", "a.zip")))
