"""The report page of pretraining runs: probes, zero-shot, geometry, projections, attention."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from pages import between, page_of, pictures
from PIL import Image

import vatt
from vatt.evaluation import artefacts
from vatt.evaluation.measures import (
    CLASSIFICATION,
    GEOMETRY,
    KNN,
    LINEAR,
    PUBLISHED_PROBE,
    RETRIEVAL,
    ZERO_SHOT,
    Measure,
)
from vatt.reporting import attention, geometry, grids, history, probes, projections, report

STYLE = Path(vatt.__file__).parent / "pages" / "style.css"

SECTIONS = (
    "Zero-shot retrieval",
    "Probes",
    "Zero-shot classification",
    "Geometry of the common space",
    "Retrieval examples",
    "Features in the plane",
    "Attention",
    "Training",
)
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, synthetic) -> Path:
    return synthetic.make_pretraining_run(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def page(run_folder) -> str:
    return page_of(run_folder)


@pytest.fixture
def logged(synthetic, tmp_path):
    """Function: writes evaluations, {step: [measure, ...]}, and returns the page."""

    def write(evaluations: dict[int, list[Measure]]) -> str:
        lines = [synthetic.eval_line(step, measures) for step, measures in evaluations.items()]
        (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        return page_of(tmp_path)

    return write


def cells(row: str) -> list[str]:
    return [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)]


def rows_of(part: str) -> list[list[str]]:
    return [cells(row) for row in re.findall(r"<tr>(.*?)</tr>", part)]


def heading(title: str) -> str:
    return f"<h2>{title}</h2>"


# Everything ---------------------------------------------------------------------------------------


def test_sections_in_order_and_nothing_left_over(page):
    places = [page.index(heading(title)) for title in SECTIONS]
    assert places == sorted(places)
    assert 'class="missing"' not in page and "Other metrics" not in page


def test_every_measure_belongs_to_one_section(run_folder):
    logged = history.read(run_folder / "metrics.jsonl")
    assert logged.measures and not logged.unmeasured
    for _, measure in logged.measures:
        assert sum(shows(measure) for shows in report.SHOWN) == 1, measure
    shown = {
        task for _, measure in logged.measures if probes.shows(measure) for task in [measure.task]
    }
    assert shown == {LINEAR, KNN, PUBLISHED_PROBE, ZERO_SHOT}
    pairs = {(m.query, m.target) for _, m in logged.measures if geometry.shows(m)}
    assert pairs == {("video", "text"), ("video", "audio"), ("audio", "text")}


def test_only_sections_with_something_to_show(logged):
    mean = Measure("toy", LINEAR, "top_1_accuracy", 0.5)
    page = logged({5: [mean, dataclasses.replace(mean, split="test", fold="1")]})
    assert heading("Probes") in page
    for title in ("Zero-shot retrieval", "Zero-shot classification", "Attention", "All evalu"):
        assert heading(title) not in page, title


# Probes -------------------------------------------------------------------------------------------


def test_measures_of_classifiers_and_retrieval_are_no_probes(logged):
    measures = [
        Measure("x", CLASSIFICATION, "top_1_accuracy", 0.5, chance=0.1),
        Measure("x", CLASSIFICATION, "sklearn_mAP", 0.5, chance=0.1),
        Measure("x", RETRIEVAL, "R1", 0.5, query="text", target="video", variant="embd"),
        Measure("x", RETRIEVAL, "top1_colour", 0.5, query="text", target="video", variant="embd"),
    ]
    assert not any(map(probes.shows, measures))
    assert heading("Probes") not in logged({1: measures})


def test_figures_of_the_probes(run_folder, page):
    logged = history.read(run_folder / "metrics.jsonl")
    part = between(page, heading("Probes"), heading("Zero-shot classification"))
    for kind, title in ((LINEAR, "Linear probe"), (KNN, "k-NN"), (PUBLISHED_PROBE, "Published")):
        own = between(part, f"<h3>{title}", "</details>")
        table = rows_of(own)
        found = logged.measures.select(task=kind, set="toy_actions", name="top_1_accuracy")
        top_1 = found.select(fold="", target="video").latest()[1].value
        assert table[1][:3] == ["toy_actions", "4,000", f"{100 * top_1:.1f} %"]
        assert table[1][4] == "12.5 %" and table[1][6] == "62.5 %"
        assert table[2][0] == "toy_actions, audio"
        fold = [row for row in table if row[:2] == ["toy_actions, audio", "3"]]
        both = (found.select(fold="3", target="audio", split=s) for s in ("train", "test"))
        assert fold[0][2:4] == [f"{100 * one.latest()[1].value:.1f} %" for one in both]
        assert ("toy_sounds" in own) == (kind != PUBLISHED_PROBE)
    # A chart per set with a curve per probe, and chance as a dashed one.
    charts = part[part.rindex('<div class="grid three">') :]
    assert charts.count("<figure>") == 3
    curves = [figure.count("<g class=") for figure in charts.split("<figure>")[1:]]
    hovers = [figure.count('<g class="hover">') for figure in charts.split("<figure>")[1:]]
    assert [a - b for a, b in zip(curves, hovers, strict=True)] == [4, 4, 3]
    assert hovers == [5, 5, 5]


def test_sets_with_several_labels(page):
    table = rows_of(between(page, heading("Zero-shot classification"), "</details>"))
    sounds = next(row for row in table if row[0] == "toy_sounds")
    assert sounds[4] == "11.0 %" and sounds[6] == "50.0 %" and sounds[8] == "0.00"
    assert ["set", "windows", "mAP", "AUC", "d′"] in table  # noqa: RUF001


def test_probes_of_one_evaluation_have_no_chart(logged):
    mean = Measure("x", LINEAR, "top_1_accuracy", 0.5)
    page = logged({5: [mean, dataclasses.replace(mean, split="test", fold="0")]})
    part = between(page, heading("Probes"), "<h2>Training")
    assert "<svg" not in part and "Other metrics" not in page
    assert rows_of(part)[1] == ["x", "5", "50.0 %", "", "–", "–", "–"]  # noqa: RUF001
    folds = rows_of(between(part, "<details>", "</details>"))
    assert folds[-1] == ["x", "–", "–", "50.0 %", "–", "–"]  # noqa: RUF001


def test_probe_metrics_that_are_not_finite(logged):
    measures = [
        Measure("x", LINEAR, "top_1_accuracy", math.nan, chance=math.nan),
        Measure("x", LINEAR, "mAP", math.inf),
        Measure("x", LINEAR, "d-prime", math.inf),
    ]
    page = logged({1: measures, 2: [*measures, Measure(HOSTILE, KNN, "mAP", 0.5)]})
    assert page.count(">not finite<") == 3 and "No finite value was logged." in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


# Geometry -----------------------------------------------------------------------------------------


def test_geometry(run_folder, page):
    logged = history.read(run_folder / "metrics.jsonl")
    part = between(page, heading("Geometry of the common space"), "<h2>")
    table = rows_of(part)
    assert [row[0] for row in table] == ["", "video–text", "video–audio", "audio–text"]  # noqa: RUF001
    pair = logged.measures.select(task=GEOMETRY, query="audio", target="text")
    value = pair.select(name="uniformity_text").latest()[1].value
    assert value < 0 and table[3][4] == f"−{-value:.2f} text"  # noqa: RUF001
    assert part.count("<figure>") == 3
    curves = [set(re.findall(r'<g class="(s\d)">', f)) for f in part.split("<figure>")[1:]]
    assert [len(colours) for colours in curves] == [3, 3, 6]


def test_geometry_of_one_evaluation_and_one_pair(logged):
    page = logged({7: [Measure("x", GEOMETRY, "modality_gap", 0.83, query="video", target="text")]})
    part = between(page, heading("Geometry of the common space"), "<h2>")
    assert rows_of(part)[1:] == [["video–text", "0.83", "–", "–", "–"]]  # noqa: RUF001
    assert "<svg" not in part and "Other metrics" not in page


# Retrieval ----------------------------------------------------------------------------------------


def searched(
    name: str, value: float, query: str = "text", target: str = "video", **rest
) -> Measure:
    """A measure of retrieval."""
    return Measure("x", RETRIEVAL, name, value, query=query, target=target, variant="embd", **rest)


def test_low_ranks_are_the_best(logged):
    page = logged(
        {
            1: [searched("MeanRank", 9.0), searched("R1", 0.2)],
            2: [searched("MeanRank", 4.0), searched("R1", 0.0)],
        }
    )
    bold = re.findall(r"<td><b>([^<]*)</b></td>", between(page, "<h2>All evaluations", "</table>"))
    assert sorted(bold) == ["20.0 %", "4"]


def test_retrieval_of_one_evaluation_has_no_chart(logged):
    page = logged({1: [searched("R1", 0.2, samples=8)]})
    assert "20.0 %" in page and "8 clips" in page
    assert "<svg" not in between(page, "<h2>Zero-shot", "<h2>Training")


def test_examples_of_every_direction(run_folder, page):
    kept = artefacts.load(run_folder / "eval" / "toy_retrieval-4000.npz")
    examples = between(page, heading("Retrieval examples"), "<h2>")
    for title, kind in (
        ("Text → video", "text_video"),
        ("Video → text", "video_text"),
        ("Audio → video", "audio_video"),
        ("Video → audio", "video_audio"),
        ("Text → audio", "text_audio"),
        ("Audio → text", "audio_text"),
    ):
        given, wanted = title.lower().split(" → ")
        part = examples[examples.index(f"<h4>{title}") :].partition("</h4>")[2].split("<h4>")[0]
        queries = len(kept[f"{kind}/query"])
        missed = int((~kept[f"{kind}/hit"].any(axis=1)).sum())
        results = kept[f"{kind}/top"].size + missed
        assert part.count('<figure class="result') == results
        expected = {"video": 0, "audio": 0, "text": 0}
        expected[given] += queries
        expected[wanted] += results
        assert part.count("<img") == expected["video"]
        assert part.count('class="wave"') == expected["audio"]
        assert part.count("<q>") == (queries if given == "text" else 0)
        assert part.count("<details>") == 1


def test_examples_without_pictures_and_sounds(synthetic, tmp_path):
    result = synthetic.retrieval(12, 3.0, pictures=False)
    del result.artefact["clips/envelope"]
    result.save(tmp_path, 3)
    (tmp_path / "metrics.jsonl").write_text(synthetic.eval_line(3, result.measures) + "\n")
    examples = between(page_of(tmp_path), heading("Retrieval examples"), "<h2>")
    assert "<img" not in examples and "<svg" not in examples
    clip = int(result.artefact["audio_text/query"][1])
    assert f'<div class="asked">sound {clip}<span' in examples


def test_pairs_of_joint_modalities(synthetic, tmp_path):
    """What is searched with may be an embedding of several modalities, as nobody had it before."""
    joint = ("text+video", "audio")
    result = synthetic.retrieval(24, 2.0, pairs=(joint, ("text", "video")))
    result.save(tmp_path, 2)
    lines = [synthetic.eval_line(step, result.measures) for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    page = page_of(tmp_path)
    card = rows_of(between(page, '<table class="headline">', "</table>"))
    assert [row[0] for row in card] == [
        "",
        "Text + video → audio",
        "Audio → text + video",
        "Text → video",
        "Video → text",
    ]
    found = history.read(tmp_path / "metrics.jsonl").measures.select(variant="embd", name="R10")
    value = found.select(query="text+video", target="audio").latest()[1].value
    assert card[1][3] == f"{100 * value:.1f} % chance 41.7\xa0%"
    for text in ("Text + video → audio: recall", "Audio → text + video: recall"):
        assert page.count(f"<b>{text}</b>") == 1
    examples = between(page, heading("Retrieval examples"), "<h2>")
    part = examples[examples.index("<h4>Text + video → audio") :].partition("<h4>Audio")[0]
    asked = re.findall('<div class="asked">.*?</div>', part)
    assert asked and all("<img" in query and "<q>" in query for query in asked)
    assert part.count("<img") == len(asked) < part.count('class="wave"')


def test_both_directions_of_a_pair_and_the_second_one_folded(page):
    shown = between(page, heading("Zero-shot retrieval"), heading("Probes"))
    for title in ("Text → video", "Video → text", "Audio → text"):
        assert shown.count(f"<b>{title}: recall</b>") == 1
        assert shown.count(f"<b>{title}: what the best match gets right</b>") == 1
        assert shown.count(f'scope="colgroup">{title}</th>') == 1
    folded = "".join(re.findall("<details>.*?</details>", shown, re.DOTALL))
    assert "Video → text: recall" in folded and "Text → video: recall" not in folded
    assert folded.count("The other way: Video → text; Video → audio; Audio → text<") == 3


def test_figures_and_counts_that_differ_between_pairs(logged):
    """An unknown figure has a column of its own; clips are counted by pair if they differ."""
    page = logged(
        {
            1: [
                searched("R1", 0.25, samples=100),
                searched("nDCG", 0.5, samples=100),
                searched("R1", 0.125, "audio", "video", samples=1),
            ]
        }
    )
    card = rows_of(between(page, '<table class="headline">', "</table>"))
    assert card == [
        ["", "R@1", "nDCG"],
        ["Text → video100 clips", "25.0 %", "0.5"],
        ["Audio → video1 clip", "12.5 %", "–"],  # noqa: RUF001
    ]


def test_queries_are_told_from_what_can_be_found(logged):
    asked = {"samples": 6, "gallery": 12}
    page = logged({1: [searched("R10", 1.0, **asked), searched("R1", 0.5, **asked)]})
    card = between(page, '<section class="card">', "</section>")
    assert "step 1, 6 queries in 12 clips" in card and "too few to tell" in card
    page = logged({1: [searched("R10", 1.0, samples=7, gallery=7)]})
    assert "R@10 is 1 whatever the model, with 7 videos to find." in page
    assert "whatever the model" not in logged({1: [searched("R10", 1.0, samples=70, gallery=70)]})


def test_means_over_folds_have_their_spread_and_zero_shot_its_fold(logged):
    found = {"target": "video", "samples": 480}
    page = logged(
        {
            1: [
                Measure("acts", LINEAR, "top_1_accuracy", 0.75, spread=0.125, **found),
                Measure("acts", ZERO_SHOT, "top_1_accuracy", 0.5, "test_1", "1", "text", "video"),
            ]
        }
    )
    assert "75.0 ± 12.5 %" in between(page, heading("Probes"), "<h2>")
    assert "acts, fold 1" in between(page, heading("Zero-shot classification"), "<h2>")


def test_splits_of_a_set_are_kept_apart(logged):
    page = logged({1: [searched("R1", 0.25, split="test"), searched("R1", 0.5, split="val")]})
    for title, value in (("x, test", "25.0 %"), ("x, val", "50.0 %")):
        assert value in between(page, f'<section class="card"><h3>{title}<', "</section>")


def test_examples_as_earlier_versions_wrote_them(synthetic, tmp_path):
    """They called a search for videos by what is given."""
    result = synthetic.retrieval(12, 3.0)
    early = {n.replace("text_video/", "text/"): a for n, a in result.artefact.items()}
    path = artefacts.save(tmp_path / "toy-1.npz", early | {"step": np.int64(1)})
    assert "<h4>Text → video<" in grids.section(path)


# Projections --------------------------------------------------------------------------------------


def projection(folder: Path, **arrays) -> str:
    """Page part of a projection of six clips, two of each of three classes, and `arrays`."""
    points = np.array([[0, 0], [4, 0], [4, 2], [0, 2], [2, 1], [1, 1]], np.float32)
    made = {
        "dataset": np.array("toy"),
        "modality": np.array("video"),
        "step": np.int64(7),
        "rows": np.arange(6),
        "label": np.array([0, 0, 1, 1, 2, 2]),
        "classes": np.array(["a", HOSTILE, "c"]),
        "pca": points,
        "pca_explained": np.array([0.5, 0.25], np.float32),
    }
    path = artefacts.save(folder / "toy-video-7.npz", made | arrays)
    return projections.section(path)


def test_projections_of_the_run(page):
    part = between(page, heading("Features in the plane"), "<h2>")
    assert part.count("<circle") == 2 * 2 * 300
    assert part.count('<svg class="points"') == 4
    audio, video = between(part, "<h3>toy_audio", "<h3>"), part[part.index("<h3>toy_video") :]
    assert "4 other classes" in audio and "other class" not in video
    assert {f"k{i}" for i in range(10)} <= set(re.findall(r'<i class="(\w+)">', audio))
    # The legend begins with the most frequent class; grey points are drawn first.
    legend = between(audio, '<p class="legend', "</p>")
    counts = [
        int(n) for n in re.findall(r'<i class="k\d"></i>[^<]*<span class="note">(\d+)', legend)
    ]
    assert counts == sorted(counts, reverse=True) and len(counts) == 10
    order = re.findall(r'<circle class="(\w+)"', between(audio, "<svg", "</svg>"))
    first = next(place for place, kind in enumerate(order) if kind.startswith("k"))
    assert all(kind.startswith("k") for kind in order[first:]) and first > 0


def test_points_keep_their_shape_and_tell_their_record(tmp_path):
    part = projection(tmp_path, rows=np.arange(6) * 10)
    found = re.findall(r'cx="(\d+)" cy="(\d+)" r="\d+"><title>([^<]*)</title>', part)
    places = {title: (int(x), int(y)) for x, y, title in found}
    assert places["a, record 0"] == (20, 740)  # low left; upwards is less y
    assert places["a, record 10"] == (980, 740)  # 4 to the right: the whole width
    assert places["&lt;script&gt;alert(1)&lt;/script&gt;, record 20"] == (980, 260)  # 2 up: half
    assert places["c, record 40"] == (500, 500)
    assert "50.0 % and 25.0 % of the variance" in part and "t-SNE" not in part


def test_points_that_are_not_finite_and_points_in_one_place(tmp_path):
    points = np.full((6, 2), 3.0)
    points[2] = np.nan
    part = projection(tmp_path, pca=points, tsne=np.full((6, 2), np.nan))
    assert part.count("<circle") == 5 and part.count('cx="500" cy="500"') == 5
    assert "1 not finite, not drawn" in part and "6 not finite, not drawn" in part


def test_clips_without_label(tmp_path):
    part = projection(tmp_path, label=np.array([-1, -1, -1, 2, 2, 2]))
    assert part.count('<circle class="none"') == 3 == part.count('<circle class="k0"')
    assert "no label, record 0" in part and "script" not in part


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"label": np.array([0, 1, 2, 3, 0, 0])}, "labels beyond its 3 classes"),
        ({"pca": np.zeros((5, 2))}, "6 labels, points (5, 2)"),
        ({"rows": np.arange(3)}, "3 rows"),
        ({"step": np.array("x")}, "invalid literal"),
    ],
)
def test_projections_that_do_not_fit_become_a_sentence(tmp_path, arrays, reason):
    part = projection(tmp_path, **arrays)
    assert (
        part.startswith('<p class="missing">No projection from toy-video-7.npz') and reason in part
    )


# Colour vision: Machado, Oliveira and Fernandes 2009, severity 1.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
TO_LMS = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
          [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
TO_OKLAB = [[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.808675766]]  # fmt: skip


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("vision", DEFICIENCIES)
def test_any_eye_can_tell_the_colours_of_classes(theme, vision):
    """Distances in OKLab, where black and white are 1 apart."""
    names = [f"k{i}" for i in range(projections.COLOURS)] + ["other"]
    rules = STYLE.read_text()
    colours = [re.findall(rf"--{name}:#(\w{{6}})", rules)[theme] for name in names]
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (0, 2, 4)] for c in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(DEFICIENCIES[vision]), 0, 1)
    oklab = np.cbrt(seen @ np.transpose(TO_LMS)) @ np.transpose(TO_OKLAB)
    distances = np.linalg.norm(oklab[:, None] - oklab[None], axis=-1)
    assert distances[np.triu_indices(len(names), 1)].min() > 0.11


# Attention ----------------------------------------------------------------------------------------


def attend(folder: Path, synthetic, change=dict) -> str:
    """Page part of the attention of four clips, whose arrays `change` changes."""
    path = synthetic.save_attention(folder, "toy", 3)
    artefacts.save(path, change(artefacts.load(path)))
    return attention.section(path)


def test_attention_of_the_run(run_folder, page):
    part = between(page, heading("Attention"), "<h2>")
    kept = artefacts.load(run_folder / "eval" / "attention" / "toy_retrieval-4000.npz")
    strips, heats = pictures(part, "jpeg"), pictures(part, "png")
    assert len(strips) == 2 * 4 and len(heats) == 4
    assert part.count('class="wave"') == 4 == part.count('class="listened"')
    assert "&lt;b&gt;on&lt;/b&gt;" in part
    times = kept["video/attention"].astype(np.float64) * 6 * 4 * 4
    for clip, (heat, strip) in enumerate(zip(heats, strips[::2], strict=True)):
        assert heat.width / heat.height == pytest.approx(strip.width / strip.height)
        opacity = np.asarray(heat)[..., 3].astype(np.float64)
        frames = opacity.reshape(4, attention.PATCH, 6, 4, attention.PATCH).mean(axis=(1, 4))
        by_patch = frames.transpose(1, 0, 2)  # [t, h, w], as the attention
        # Smoothing lets heat into neighbours, but the warmest patches are those attended to most.
        assert times[clip].ravel()[by_patch.argmax()] > 0.8 * times[clip].max()
        assert np.corrcoef(by_patch.ravel(), times[clip].ravel())[0, 1] > 0.8
        assert f"peak {round(times[clip].max(), 2):g}×" in part  # noqa: RUF001


def test_even_attention_is_no_heat():
    heat = attention.heat_png(np.ones((3, 2, 2)), 2.0)
    with Image.open(io.BytesIO(heat)) as image:
        assert image.size == (3 * 2 * attention.PATCH, 2 * attention.PATCH)
        assert np.asarray(image)[..., 3].max() == 0


def test_frames_do_not_warm_their_neighbours():
    times = np.zeros((2, 2, 2))
    times[0] = 8.0
    with Image.open(io.BytesIO(attention.heat_png(times, 8.0))) as image:
        opacity = np.asarray(image)[..., 3]
    middle = opacity.shape[1] // 2
    assert (opacity[:, :middle] == opacity.max()).all() and not opacity[:, middle:].any()


@pytest.mark.parametrize(
    ("times", "expected"),
    [(np.ones(10), 2.0), (np.array([0, 3.2]), 3.5), (np.array([0, 11.0]), 15.0)],
)
def test_top_of_the_scale_is_round(times, expected):
    assert attention._full(times) == expected


def test_one_modality_only(tmp_path, synthetic):
    sound = attend(
        tmp_path,
        synthetic,
        lambda arrays: {
            name: array
            for name, array in arrays.items()
            if name not in ("video/attention", "clips/jpeg", "clips/jpeg_offsets", "clips/frames")
        },
    )
    assert "<img" not in sound and sound.count('class="wave"') == 4 and "over sound" in sound
    video = attend(
        tmp_path,
        synthetic,
        lambda arrays: {n: a for n, a in arrays.items() if not n.startswith("audio")},
    )
    assert "<svg" not in video and video.count("<img") == 12 and "over sound" not in video


def test_sound_curve_is_in_multiples_of_even_attention(tmp_path, synthetic):
    """Four tokens, of which the third gets everything: four times its even share."""
    weights = np.tile(np.array([0, 0, 1, 0], np.float16), (4, 1))
    part = attend(tmp_path, synthetic, lambda a: a | {"audio/attention": weights})
    assert "over sound up to 4×" in part and "peak 4×; dashed" in part  # noqa: RUF001
    assert 'viewBox="0 0 4 40"' in part
    assert "M0 40V40.0H1V40.0H2V2.0H3V40.0H4V40Z" in part
    spread = np.stack([weights / 2, weights / 2], axis=-1)  # two frequencies: the same altogether
    assert attend(tmp_path, synthetic, lambda a: a | {"audio/attention": spread}) == part


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"video/attention": np.ones((3, 6, 4, 4))}, "4 clips, but attention over frames of 3"),
        ({"audio/attention": np.ones((5, 9))}, "4 clips, but attention over sound of 5"),
        ({"video/attention": np.ones((4, 16))}, "video/attention has shape (4, 16)"),
        ({"clips/frames": np.full(4, 3)}, "clip 0 has 3 frames, but attention to 6"),
    ],
)
def test_attention_that_does_not_fit_becomes_a_sentence(tmp_path, synthetic, change, reason):
    part = attend(tmp_path, synthetic, lambda arrays: arrays | change)
    assert part.startswith('<p class="missing">No attention maps from toy-3.npz: ')
    assert reason in part


def test_attention_that_is_not_finite(tmp_path, synthetic):
    part = attend(
        tmp_path,
        synthetic,
        lambda a: a | {n: np.full_like(a[n], np.nan) for n in a if n.endswith("/attention")},
    )
    assert part.count("not finite") == 8 and "<path class=" not in part


# Damage -------------------------------------------------------------------------------------------


def test_damaged_artefacts_become_sentences(synthetic, tmp_path):
    synthetic.make_pretraining_run(tmp_path, clips=12, points=20)
    for path in (tmp_path / "eval").rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:200])
    page = page_of(tmp_path)
    for what in ("projection", "attention maps", "retrieval examples"):
        assert re.search(
            rf'class="missing">No {what} from [^:]*: [^<]*not a readable artefact', page
        )


def test_overwritten_bytes_are_damage_too(synthetic, tmp_path):
    """Whatever byte is overwritten, a section is drawn or a sentence stands in its place."""
    path = synthetic.save_projection(tmp_path, "toy", "video", 1, ["a", "b"], 40)
    good, rng, sentences = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        bad = bytearray(good)
        bad[rng.integers(len(bad))] = rng.integers(256)
        path.write_bytes(bytes(bad))
        sentences += projections.section(path).startswith('<p class="missing">')
    assert sentences > 100


def test_missing_arrays_are_named(tmp_path, synthetic):
    def without(name):
        return lambda arrays: {n: a for n, a in arrays.items() if n != name}

    assert "it has no &#39;step&#39;" in attend(tmp_path, synthetic, without("step"))
    assert "audio/envelope" in attend(tmp_path, synthetic, without("audio/envelope"))
