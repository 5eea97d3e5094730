"""The templates of pages: they escape, they load nothing, they are read when they are needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import Checker

import vatt
from vatt.pages import POLICY, Cell, Macros, Markup, flush, head, join, render

FOLDER = Path(vatt.__file__).parent / "pages"
EVIL = "<i>\"'&"
SAFE = "&lt;i&gt;&#34;&#39;&amp;"
html = Macros("pieces.html")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.html")), ids=lambda path: path.name)
def test_no_template_turns_escaping_off_or_loads_anything(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bsafe\b|autoescape|https?://|\|\s*tojson", text)


def test_what_is_given_is_escaped_and_html_is_not():
    assert html.missing(EVIL) == f'<p class="missing">{SAFE}</p>'
    assert html.folded(EVIL, html.missing("a")) == (
        f'<details><summary>{SAFE}</summary><p class="missing">a</p></details>'
    )
    assert join([html.note("a"), EVIL]) == f'<span class="note">a</span>{SAFE}'
    assert isinstance(html.note(""), Markup) and not html.note("")


def test_cells_of_a_table():
    rows = [
        [head(EVIL, "n"), "1", flush("name")],
        [Cell("2", "below", bold=True, style="chance", title="column")],
        [Cell("group", columns=3), Cell(style="share", bar=(50.0, None))],
    ]
    made = re.sub(r">\s+<", "><", html.table(["", "a", "b"], rows, "data", left=("b",)))
    assert made == (
        '<div class="scroll"><table class="data"><thead><tr><td></td><th scope="col">a</th>'
        '<th scope="col" class="name">b</th></tr></thead><tbody>'
        f'<tr><th scope="row" class="name">{SAFE}<span class="note">n</span></th><td>1</td>'
        '<td class="name">name</td></tr>'
        '<tr><td class="chance" data-title="column"><b>2</b><span class="note">below</span></td>'
        '</tr><tr><th scope="rowgroup" colspan="3">group</th><td class="share">'
        '<div class="track"><b style="width:50.0%"></b></div></td></tr></tbody></table></div>'
    )


def test_headings_above_those_of_columns():
    made = html.table([], [], "data", above=[("", 0), ("one", 0), ("two", 2)])
    assert re.findall(r"<t[dh]\b[^>]*>\w*", made) == [
        "<td>",
        '<th scope="col">one',
        '<th colspan="2" scope="colgroup">two',
    ]


def test_a_page_says_what_it_may_load():
    page = render(EVIL, [html.missing("a"), Markup(), html.missing("b")])
    assert f'content="{POLICY}"' in page and f"<title>{SAFE} - vatt report</title>" in page
    assert Checker(page).tags.count("p") == 2 and "<script" not in page
    served = render("a", [], what="b", policy="script-src 'self'", script="a.js")
    assert '<script src="a.js" defer></script>' in served and "\"script-src 'self'\"" in served


def test_templates_are_read_when_a_page_is_written():
    code = (
        "import sys\nfrom vatt.reporting import report, comparison, seeds\n"
        "assert 'jinja2' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
