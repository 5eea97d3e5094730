"""Models of other kinds as files: BERT's words, converted ones, classifiers of two modalities."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import published_files
import pytest
import yaml

from vatt import configs
from vatt.api import naming
from vatt.experiments import executor
from vatt.export import exporting, formats, verification
from vatt.tools import convert_checkpoint

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "api")]
import two_towers  # noqa: E402

pytestmark = pytest.mark.slow

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "circle", "##s", "rain", "dog", "!"]
WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "a", "red", "circle", "rain", "dog", "and", "two"]
SMALL_BERT = {"vocab_size": len(PIECES), "d_embedding": 8, "d_model": 16, "d_pre_proj": 16}
SMALL_BERT |= {"num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 16}


def exported(named, folder: Path, name: str) -> exporting.Exported:
    """Writes a model; that its numbers are the live ones, `export` itself proves."""
    for package in formats.FORMATS[name].packages:
        pytest.importorskip(package)
    made = exporting.export(named, folder, name)
    assert made.errors and max(made.errors.values()) <= verification.MOST
    return made


def lines(path: Path, words: list[str]) -> Path:
    path.write_text("\n".join(words) + "\n")
    return path


# BERT --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["saved_model", "onnx", "litert"])
def test_a_model_that_reads_berts_word_pieces(tmp_path, name):
    """A SavedModel takes sentences with the operations of tensorflow-text, the others numbers."""
    pytest.importorskip("tensorflow_text")
    pieces = lines(tmp_path / "pieces.txt", PIECES)
    read = {"text_tokenizer": "BertTokenizer", "vocabulary": str(pieces)}
    text = {"text_backbone": "bert_small", "text_model_kwargs": SMALL_BERT}
    clip = {"num_frames": 8, "frame_size": 32, "sample_rate": 8000}
    changes = {
        "model_config": {"backbone_config": text},
        "train": {"input": read},
        "eval": {"input": read | clip},
    }
    named = naming.find("tx_fac_tiny", params_override=[formats.PRECISION, changes])
    made = exported(named, tmp_path / "out", name)
    assert any(key.startswith("text/") for key in made.errors)
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    strings = name == "saved_model"
    assert list(facts["functions"]["text"]["inputs"]) == (["sentences"] if strings else ["ids"])
    assert facts["import_first"] == (["tensorflow_text"] if strings else [])
    assert (tmp_path / "out" / "vocabulary.txt").read_text() == pieces.read_text()
    assert "words.py" not in made.files


# Published checkpoints ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """What `convert_checkpoint` makes of a small published checkpoint, as `naming` finds it."""
    folder = tmp_path_factory.mktemp("converted")
    words = lines(folder / "words.txt", WORDS)
    clip = published_files.INPUT | {"max_num_words": published_files.WORDS}
    clip["vocabulary"] = str(words)
    experiment = {
        "task": "pretrain",
        "model_arch": published_files.ARCHITECTURES["pretrain"],
        "model_config": json.loads(json.dumps(published_files.MODELS["pretrain"])),
        "train": {"input": clip},
        "eval": {"input": clip},
    }
    config = folder / "experiment.yaml"
    config.write_text(yaml.safe_dump(experiment))
    tensors = published_files.values(published_files.pretrain())
    tensors |= {k: abs(v) for k, v in tensors.items() if k.endswith("moving_variance")}
    scalars = {"beta_1": 0.9, "beta_2": 0.999, "decay": 0.0}
    source = published_files.write(
        folder / "published" / "ckpt-7", tensors, 7, slots=("m", "v"), scalars=scalars
    )
    assert (
        convert_checkpoint.main([str(source), str(folder / "ours"), f"--config_file={config}"]) == 0
    )
    return naming.find(folder / "ours", config_file=config, params_override=[formats.PRECISION])


@pytest.mark.parametrize("name", ["saved_model", "onnx", "litert"])
def test_a_converted_published_checkpoint(converted, tmp_path, name):
    made = exported(converted, tmp_path / "out", name)
    assert {key.partition("/")[0] for key in made.errors} == {"video", "audio", "text"}


# Other methods and classifiers -------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "name"), [("gdt_tiny", "litert"), ("mmv_fac_tiny", "onnx")])
def test_convolutional_towers(preset, name, tmp_path):
    words = lines(tmp_path / "words.txt", WORDS)
    read = [f"eval.input.vocabulary={words}"] if preset == "mmv_fac_tiny" else []
    named = naming.find(preset, params_override=[formats.PRECISION, *read])
    exported(named, tmp_path / "out", name)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A classifier of pictures and sound together, trained for some steps."""
    import small_runs

    folder = tmp_path_factory.mktemp("together")
    data_dir = small_runs.write_sets(folder / "records", small_runs.write_media(folder / "media"))
    size = {"frame_size": 16, "min_resize": 16, "video_stride": 1, "audio_stride": 1}
    clip = {"name": "acts", "num_frames": 8, "sample_rate": 1600, "batch_size": 4, **size}
    rate = {"learning_rate_base": 0.01, "warmup_steps": 1, "total_steps": 2}
    train = {"iterations_per_loop": 2, "optimizer": {"learning_rate": rate}}
    with two_towers.registered():
        cfg = configs.resolve(
            task="finetune",
            mode="train",
            model_arch=two_towers.NAME,
            data_dir=str(data_dir),
            model_dir=str(folder / "run"),
            params_override=[{"train": train | {"input": clip}, "eval": {"input": clip}}],
            strategy_type="one_device",
        )
        assert executor.run(cfg) == 0
        yield folder / "run"


@pytest.mark.parametrize("name", ["saved_model", "keras", "onnx", "litert"])
def test_a_classifier_of_pictures_and_sound_takes_both(run, tmp_path, name):
    named = naming.find(run, params_override=[formats.PRECISION])
    made = exported(named, tmp_path / "out", name)
    assert {key.partition("/")[0] for key in made.errors} == {"classify"}
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert list(facts["functions"]["classify"]["inputs"]) == ["frames", "waveform"]
