"""Exported models give the live model's numbers, in processes that do not have this package."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from vatt.api import naming
from vatt.errors import DataError, UserError
from vatt.export import card, exporting, formats, verification

sys.path.insert(0, str(Path(__file__).parents[1] / "api"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with media/, records/, and runs: tiny, pretrained, and acts, fine-tuned on it."""
    import small_runs

    folder = small_runs.make(tmp_path_factory.mktemp("export"))
    small_runs.fine_tuned(folder / "records", folder / "runs" / "acts")
    return folder


def found(name, **options):
    return naming.find(name, params_override=[formats.PRECISION], **options)


def run_snippet(folder: Path) -> str:
    """What the card's code prints, run as it stands there, in the folder."""
    code = re.search(r"```python\n(.*?)```", (folder / card.FILE).read_text(), re.DOTALL)[1]
    code += "\nprint({key: np.asarray(value).shape for key, value in found.items()})"
    made = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules['vatt'] = None\n{code}"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.mark.parametrize(
    ("run", "name"),
    [
        ("tiny", "saved_model"),
        ("tiny", "onnx"),
        ("tiny", "litert"),
        ("acts", "onnx"),
        ("acts", "litert"),
        ("acts", "keras"),
    ],
)
def test_every_format_gives_the_live_numbers_and_its_card_works(place, tmp_path, run, name):
    for package in formats.FORMATS[name].packages:
        pytest.importorskip(package)
    out = tmp_path / "out"
    made = exporting.export(found(place / "runs" / run), out, name)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not any(".partial" in file or "__pycache__" in file for file in made.files)
    functions = {key.partition("/")[0] for key in made.errors}
    assert functions == ({"video", "audio", "text"} if run == "tiny" else {"classify"})
    assert max(made.errors.values()) <= verification.MOST
    facts = json.loads((out / "export.json").read_text())
    assert facts["compared"]["largest_errors"] == made.errors
    printed = run_snippet(out)
    if run == "tiny":
        assert "'text_tovid': (2, " in printed
        check_card(place / "runs" / run, (out / card.FILE).read_text())
        with pytest.raises(UserError, match="is there already"):
            exporting.export(found(place / "runs" / run), out, name)
    else:
        assert "'probabilities': (2, 2)" in printed and printed.startswith("['")
        assert (out / "labels.txt").read_text() == "a\nb\n"


def check_card(run: Path, told: str) -> None:
    """A card says what is known and what is not."""
    manifest = json.loads((run / "ckpt-3.json").read_text())
    assert manifest["files"]["ckpt-3.index"]["sha256"] in told
    assert "| talk |" in told and "Licence of the weights: not known" in told
    assert "Measured at step 3" in told or "Not known: the run has no evaluation" in told


@pytest.mark.parametrize("preset", ["gdt_tiny", "stica_tiny", "ut_fac_tiny", "av_mae_tiny"])
def test_other_methods_and_presets_without_data_are_compared_on_rendered_videos(preset, tmp_path):
    named = found(preset)
    if preset == "ut_fac_tiny":  # its published words are not here
        words = tmp_path / "words.txt"
        words.write_text("<pad>\n<bos>\n<eos>\n<unk>\na\nred\ncircle\n")
        named = naming.find(
            preset,
            params_override=[
                formats.PRECISION,
                f"eval.input.vocabulary={words}",
                "eval.input.frame_size=32",
                "eval.input.num_frames=8",
                "eval.input.sample_rate=8000",
            ],
        )
    made = exporting.export(named, tmp_path / "out", "saved_model")
    assert made.clips == "videos of the toy corpus"
    assert max(made.errors.values()) <= verification.MOST
    told = (tmp_path / "out" / card.FILE).read_text()
    assert "whose weights are random" in told and "it gives means nothing" in told


def test_other_numbers_are_refused_and_nothing_is_left(place, tmp_path, monkeypatch):
    form = formats.FORMATS["saved_model"]

    def otherwise(functions, folder):
        """Writes functions that are off by a little."""

        def off(one):
            def function(*given):
                made = one.function(*given)
                return {key: value + 3e-4 for key, value in made.items()}

            changed = tf.function(function, input_signature=one.specs, autograph=False)
            return dataclasses.replace(one, function=changed)

        form.write([off(one) for one in functions], folder)

    changed = dataclasses.replace(form, write=otherwise)
    monkeypatch.setitem(formats.FORMATS, "saved_model", changed)
    with pytest.raises(UserError, match=r"by more than 0\.0001: classify/probabilities 3\.0e-04"):
        exporting.export(found(place / "runs" / "acts"), tmp_path / "out", "saved_model")
    assert not list(tmp_path.iterdir())


def test_files_of_ones_own_are_compared_on(place, tmp_path):
    named = found(place / "runs" / "acts")
    clip = place / "media" / "clip1.mkv"
    made = exporting.export(named, tmp_path / "out", "saved_model", clips=[clip])
    assert made.clips == str(clip)
    silent = tmp_path / "no.mkv"
    silent.write_bytes(b"nothing")
    with pytest.raises(DataError):
        exporting.export(named, tmp_path / "other", "saved_model", clips=[silent])
    assert not (tmp_path / "other").exists()
