"""Pages of runs in a browser: on a phone, in the dark, on paper."""

from __future__ import annotations

import browser as browsers
import pytest

from vatt.reporting import comparison, report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browsers.PROGRAM is None, reason="no Chromium on this machine"),
]
# Tables and matrices wider than their place, which paper cannot scroll, and what shares no colour.
CUT = "[...document.querySelectorAll('.scroll')].filter(x => getComputedStyle(x).overflowX != %r)"
UNSEEN = """[...document.querySelectorAll('svg g path, .legend i, .track b')].filter(x =>
  getComputedStyle(x).color == getComputedStyle(document.body).backgroundColor)"""


@pytest.fixture(scope="module")
def browser():
    with browsers.Browser() as made:
        yield made


@pytest.fixture(scope="module")
def addresses(tmp_path_factory, synthetic) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    runs = [synthetic.make_run(folder / name, every=200, clips=12) for name in ("a", "b" * 40)]
    runs.append(synthetic.make_finetune_run(folder / "c", ["walks", "runs"], 30))
    found = [report.write(run) for run in runs[1:]]
    found.append(comparison.write(*runs, output=folder / "page.html"))
    return [page.as_uri() for page in found]


@pytest.mark.parametrize("dark", [False, True])
def test_pages_fit_a_phone_in_both_colours(browser, addresses, dark):
    for address in addresses:
        page = browser.page(address, width=360, dark=dark)
        assert page.value("document.documentElement.scrollWidth") == 360
        assert page.value("[...document.images].every(image => image.naturalWidth > 0)")
        paper = page.value("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(22, 24, 27)" if dark else "rgb(251, 251, 249)")
        assert page.value(f"{UNSEEN}.length") == 0


def test_names_of_rows_stay_in_sight_where_a_table_is_scrolled(browser, addresses):
    page = browser.page(addresses[-1], width=360)
    moved = page.value("""(() => {
      const table = document.querySelector('.versus'), name = table.querySelector('tbody th');
      table.parentNode.scrollLeft = 80;
      return [table.parentNode.scrollLeft, name.getBoundingClientRect().left,
              table.parentNode.getBoundingClientRect().left];
    })()""")
    assert moved[0] == 80 and moved[1] == pytest.approx(moved[2], abs=1)


def test_paper_is_white_and_nothing_is_cut_off(browser, addresses):
    """Also where the screen is dark; bars and colours are printed."""
    for address in addresses:
        page = browser.page(address, dark=True)
        dark = {"name": "prefers-color-scheme", "value": "dark"}
        page.call("Emulation.setEmulatedMedia", media="print", features=[dark])
        assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.value("getComputedStyle(document.body).printColorAdjust") == "exact"
        assert page.value(f"{CUT % 'visible'}.length") == 0
        assert page.value(f"{UNSEEN}.length") == 0
