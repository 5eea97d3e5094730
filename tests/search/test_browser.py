"""The page for searching in a browser: typed, dropped, played, on a phone."""

from __future__ import annotations

import json

import browser as browsers
import pytest
import small_indexes
from test_server import running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browsers.PROGRAM is None, reason="no Chromium on this machine"),
]
PLAY = """(async () => {
  const shown = document.querySelector('.moment video, .moment audio');
  shown.muted = true;
  const end = new Promise(done => shown.onpause = done);
  await shown.play();
  await end;
  return [shown.currentTime, shown.currentSrc];
})()"""


@pytest.fixture(scope="module")
def browser():
    with browsers.Browser() as made:
        yield made


@pytest.fixture(scope="module")
def address(indexed):
    with running(small_indexes.finder(indexed / "embeddings.npz")) as made:
        yield f"http://127.0.0.1:{made.server_port}/"


def type_and_search(page, text):
    page.value(f"document.forms[0].elements.text.value = {json.dumps(text)}")
    page.value("document.querySelector('button[type=submit]').click()")


def found(page, count):
    page.wait(f"document.querySelectorAll('.moment').length == {count} && !document.body.className")
    return page.value("[...document.querySelectorAll('.moment .name')].map(x => x.textContent)")


def test_a_sentence_is_typed_and_the_moment_played(browser, address):
    page = browser.page(address)
    type_and_search(page, "a green ball bouncing")
    assert found(page, 4)[0] == "green.mp4"
    assert page.value("document.querySelector('#found .warning').textContent") == (
        "the model does not know bouncing"
    )
    time, source = page.value(PLAY)
    assert time == pytest.approx(2.4, abs=0.3) and source.endswith("media/1#t=1.60,2.40")
    assert page.value("location.search") == "?text=a%20green%20ball%20bouncing"


def test_what_the_browser_cannot_play_is_cut_for_it(browser, address):
    page = browser.page(address + "?text=blue")
    assert found(page, 4)[0] == "blue.avi"
    # The error comes while it starts to play; the cut clip takes its place.
    page.value("document.querySelector('.moment video').muted = true")
    page.value("document.querySelector('.moment video').play().catch(() => 0)")
    page.wait("document.querySelector('.moment video').currentSrc.includes('moment/video/')")
    page.wait("document.querySelector('.moment video').currentTime > 0")
    assert page.value("document.querySelector('.moment video').duration") == pytest.approx(
        0.8, abs=0.1
    )


def test_a_sound_is_dropped(browser, address, indexed):
    page = browser.page(address)
    page.value("document.forms[0].elements.modality.value = 'audio'")
    page.choose("#file", indexed / "media" / "bell.wav")
    assert found(page, 4)[0] == "bell.wav"
    status = page.value("document.getElementById('status').textContent")
    assert status.startswith("sound of bell.wav: sound of 4 of 5 files")
    assert page.value("!document.getElementById('given').hidden")
    type_and_search(page, "red")
    page.wait("document.getElementById('status').className == 'warning'")
    assert "no space of it has them all" in page.value(
        "document.getElementById('status').textContent"
    )


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone(browser, address, tmp_path, dark):
    page = browser.page(address + "?text=red", width=360, dark=dark)
    found(page, 4)
    assert page.value("document.documentElement.scrollWidth") == 360
    paper = page.value("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(22, 24, 27)" if dark else "rgb(251, 251, 249)")
    page.wait("[...document.images].every(image => image.complete && image.naturalWidth)")


def test_names_of_files_are_text(browser, address, indexed):
    page = browser.page(address + "?text=%3Cimg%20src%3Dx%20onerror%3Ddocument.title%3D1%3E%20red")
    found(page, 4)
    assert page.value("document.title") == "Search - vatt"
