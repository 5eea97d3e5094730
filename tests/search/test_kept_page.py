"""Results as one page: it holds what it plays, is not too large, and says what is amiss."""

from __future__ import annotations

import base64
import re
import shutil
import sys
from pathlib import Path

import small_indexes

from vatt.search import page, snippets

sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from pages import Checker


def write(finder, path, found, videos=(), sounds=()):
    written = page.write(path, finder, found, videos, sounds)
    text = path.read_text()
    assert written.size == path.stat().st_size
    assert all(link.startswith("data:") for link in Checker(text).links)
    assert "default-src 'none'" in text and "<script" not in text
    return written, text


def test_it_holds_what_it_plays(finder, indexed, tmp_path):
    asked = str(indexed / "media" / "blue.avi")
    found = finder.search("red <b>&bouncing", video=asked, top=3)
    written, text = write(finder, tmp_path / "new" / "results.html", found, [asked])
    assert written.notices == []
    clips = re.findall(r'src="data:video/mp4;base64,([^"]+)"', text)
    assert len(clips) == 4  # with what was asked
    assert base64.b64decode(clips[0])[4:8] == b"ftyp"
    assert "red &lt;b&gt;&amp;bouncing" in text and "<b>&b" not in text
    assert text.count("0:01.6-0:02.4") == 2 and "asked with its pictures" in text
    assert "the model does not know bouncing" in text
    assert "pictures of 4 of 5 files (13 windows) in v_text" in text
    blue = finder.search("green", top=1)
    _, text = write(finder, tmp_path / "b.html", blue)
    assert '<span class="folder note">sub</span>' in text


def test_sounds_and_pictures_are_shown(finder, tmp_path):
    found = finder.search("still", top=1)
    _, text = write(finder, tmp_path / "a.html", found)
    assert text.count('<img class="jpeg"') == 1 and "<video" not in text
    bell = finder.search(audio=str(finder.gallery.files[3]), modality="audio", top=1)
    _, text = write(finder, tmp_path / "b.html", bell)
    assert "data:audio/wav;base64," in text and '<svg class="wave"' in text


def test_its_size_is_bounded_and_told(finder, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST_BYTES", 1)
    written, text = write(finder, tmp_path / "a.html", finder.search("red", top=4))
    assert text.count("<video") == 1 and text.count('<img class="jpeg"') == 3
    assert "3 are pictures only" in written.notices[0] and written.notices[0] in text


def test_moments_that_are_cut_short_are_told(finder, tmp_path, monkeypatch):
    monkeypatch.setattr(snippets, "MOST_SECONDS", 0.5)
    written, _ = write(finder, tmp_path / "a.html", finder.search("red", top=2))
    assert written.notices == ["of 2 moments the first 0.5 s are shown"]


def test_files_that_are_gone_or_cannot_be_cut_are_told(tmp_path, monkeypatch):
    media = small_indexes.write_media(tmp_path / "media")
    small_indexes.write(tmp_path / "e.npz", media)
    finder = small_indexes.finder(tmp_path / "e.npz")
    media[0].unlink()
    shutil.copy(media[2], media[1])
    monkeypatch.setattr(snippets, "_mp4", lambda *given: b"")
    written, text = write(finder, tmp_path / "a.html", finder.search("red green", top=2))
    assert "the file is no longer there" in text and "there is no such file" in text
    assert "has changed since it was indexed" in text
    assert written.notices == [
        "1 are pictures only, as no clip could be made of them",
        "1 cannot be shown, as their files cannot be read now",
    ]
