"""The tour in docs/: what stands in the notebook, and what its cells do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests import notebook

DOCS = Path(__file__).resolve().parents[1] / "docs"
TOUR = DOCS / "tour.ipynb"
SCENE = 3.2  # s, of each in the long file


@pytest.fixture(scope="module")
def tour():
    return json.loads(TOUR.read_text())


def test_the_tour_is_small_and_was_run_from_top_to_bottom(tour):
    assert TOUR.stat().st_size < 300 * 1024
    assert [cell["execution_count"] for cell in notebook.code(tour)] == [*range(1, 10)]
    assert all(cell["outputs"] for cell in notebook.code(tour))
    assert not re.search(r"[\"' =]/[a-z]+/", json.dumps(notebook.code(tour)))  # an absolute path


def test_links_of_the_tour_lead_somewhere(tour):
    prose = ["".join(cell["source"]) for cell in tour["cells"] if cell["cell_type"] == "markdown"]
    links = re.findall(r"\]\(([^)#]+)", "\n".join(prose))
    assert len(links) >= 8
    assert not [link for link in links if not (DOCS / link).is_file()]


def test_the_page_of_the_tour_is_what_stands_in_the_notebook(tour):
    """`python -m tests.notebook --page docs/tour.ipynb` writes it."""
    files = notebook.page(tour, "tour")
    assert sorted(files) == sorted(path.name for path in DOCS.glob("tour*[!b]"))
    for name, content in files.items():
        assert (DOCS / name).read_bytes() == content
        assert len(content) <= 120 * 1024


@pytest.mark.slow
def test_cells_of_the_tour_find_what_they_say(tour, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {"__name__": "__main__"}
    for number, cell in enumerate(notebook.code(tour), 1):
        printed, _ = notebook.execute("".join(cell["source"]), f"cell {number}", found)
        if number == 2:  # sentences do not depend on the processor
            assert printed == "".join(cell["outputs"][0]["text"])
    own = np.arange(len(found["KINDS"]))
    assert np.sum(found["by_text"].argmax(axis=1) == own) >= 7
    assert np.sum(found["by_sound"].argmax(axis=1) == own) >= 5

    middles = np.array([(one.starts[0] + one.ends[0]) / 2 for one in found["windows"]])
    best = middles[found["scores"][found["order"]].argmax(axis=1)]
    assert middles[-1] > 14 and np.sum(best // SCENE == np.arange(5)) >= 4

    for sentence, kind, place in (("a red star jumps", 0, 2), ("a white moon circles", 4, 3)):
        hits = found["finder"].search(sentence, top=2).hits
        by_name = {Path(hit.file).name: hit for hit in hits}
        assert by_name.keys() == {found["files"][kind].name, "long.mp4"}
        hit = by_name["long.mp4"]
        assert (hit.start + hit.end) / 2 // SCENE == place
    assert found["accuracy"] > 0.4  # guessing: 0.125
