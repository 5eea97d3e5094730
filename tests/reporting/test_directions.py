"""The matrix of what is given and what is looked for."""

from __future__ import annotations

import itertools
import re

from vatt.evaluation.measures import COMPLETE, MAIN, RETRIEVAL, Measure
from vatt.reporting import directions, history

SINGLE = ("text", "video", "audio")
JOINT = ("text&video", "text&audio", "video&audio", "text+video", "text+audio", "video+audio")


def measured(values, variant=MAIN, name="R10") -> history.Measures:
    found = history.Measures()
    for (query, target), value in values.items():
        measure = Measure("x", RETRIEVAL, name, value, query=query, target=target, variant=variant)
        found.add(5, measure)
    return found


def rows_of(table: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [[re.sub("<[^>]+>", "", x) for x in re.findall(r"<t[dh].*?</t[dh]>", r)] for r in rows]


def test_every_direction_has_its_cell_and_the_best_of_a_row_is_bold():
    ways = [(a, b) for a in SINGLE for b in (*SINGLE, *JOINT) if a not in b]
    ways = dict.fromkeys(way for a, b in ways for way in ((a, b), (b, a)))
    values = {way: (i + 1) / 40 for i, way in enumerate(ways)}
    page = directions.matrices(measured(values), MAIN)
    head, *rows = rows_of(page)
    together, added = ({x.replace(c, f" {c} ") for x in JOINT if c in x} for c in "&+")
    assert head[1:4] == list(SINGLE) and {*head[7:]} == added
    assert {x.replace("&amp;", "&") for x in head[4:7]} == together
    assert len(rows) == 9 and sum(cell != "–" for row in rows for cell in row[1:]) == len(ways)  # noqa: RUF001
    text = next(row for row in rows if row[0] == "Text")
    assert text[head.index("video + audio")] == f"{100 * values['text', 'video+audio']:.1f} %"
    assert page.count("<b>") == 3  # the others have one figure each


def test_both_protocols_have_a_matrix():
    values = dict.fromkeys(itertools.permutations(("text", "video&audio")), 0.25)
    both = measured(values)
    for _, measure in measured(values, COMPLETE):
        both.add(5, measure)
    page = directions.matrices(both, MAIN)
    assert page.count("<table") == 2 and "R@10 of the complete set" in page


def test_single_modalities_need_no_matrix():
    assert not directions.matrices(measured({("text", "video"): 0.5, ("video", "text"): 0.5}), MAIN)
