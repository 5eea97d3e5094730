"""The table of a model: real parameters, published figures, refusals like those of vatt.main."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vatt import configs, main, methods
from vatt.data import pipeline
from vatt.methods.vatt import model as multimodal
from vatt.modeling import factory, flops
from vatt.tools import model_summary

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 32}
TINY_CLIPS = [{"train.input.num_frames": 16, "train.input.frame_size": 32}]
TINY_CLIPS += [{"eval.input.num_frames": 16, "eval.input.frame_size": 32}]


def run(capsys, *arguments) -> str:
    assert model_summary.main(list(arguments)) == 0
    return capsys.readouterr().out


def sizes(variables) -> int:
    return sum(variable.numpy().size for variable in variables)


@pytest.mark.parametrize(
    ("arch", "changes"),
    [
        ("tx_fac_tiny", {}),
        ("ut_fac", {"unified_model_kwargs": {**SMALL, "txt_vocab_size": 30}}),
        ("mmv_fac", {"audio_model_kwargs": {"width_multiplier": 0.25}}),
    ],
)
def test_parameters_are_those_of_the_model(arch, changes):
    """Built for real: every variable belongs to one part."""
    override = {"model_config": {"backbone_config": changes}}
    config = configs.resolve(model_arch=arch, params_override=[*TINY_CLIPS, override])
    total = model_summary.summarise(config).total
    model = multimodal.build(config.model)
    shapes = pipeline.clip_shapes(config.train.input)
    model.build_from({m: (None, *(s[1:] if m == "text" else s)) for m, s in shapes.items()})
    assert total.parameters == sizes(model.variables)
    assert total.trainable == sizes(model.trainable_variables) < total.parameters


def test_frozen_backbones(capsys):
    flags = ("--task=finetune", "--model_arch=vit_tiny")
    out = run(capsys, *flags, "--params_override=model_config={freeze_backbone: true}")
    tower, classifier = (re.findall(r"[\d,]{2,}|\b\d\b", line) for line in out.splitlines()[3:5])
    assert tower[:2] == ["523,584", "0"]
    assert classifier[:2] == ["38,800", "38,800"]
    assert out.count(" 6,273 ") == 2  # tokens in inference and in training


def test_what_is_printed(capsys):
    """Sizes come from the configuration; a markdown table has the same cells."""
    flags = ("--model_arch=tx_fac_tiny", f"--config_file={REPOSITORY}/configs/pretrain/toy.yaml")
    out = run(capsys, *flags)
    assert out.startswith("tx_fac_tiny (pretrain), clip of 16x64x64x3, 25600x1, 5x16\n")
    assert re.search(r"video vit_tiny +523,584 +523,584 +4x8x8 +257 +129 ", out)
    assert re.search(r"\ntotal +1,120,192 +1,119,552 ", out)
    assert "Published" not in out
    lines = run(capsys, *flags, "--markdown").splitlines()
    cells = [[cell for cell in line.strip("|").split("|") if cell.strip()] for line in lines[2:-1]]
    del cells[1]
    plain = [re.split(r"  +", line.strip()) for line in out.splitlines()[2:-1]]
    assert [[cell.strip() for cell in row] for row in cells] == plain


def test_totals_are_sums():
    config = configs.resolve(model_arch="tx_fac_tiny", params_override=TINY_CLIPS)
    summary = model_summary.summarise(config)
    step = sum(part.training.step for part in summary.parts)
    assert summary.total.training.step == step
    shapes = {"video": (16, 32, 32, 3), "audio": (76800, 1), "text": (5, 16)}
    assert summary.inputs == shapes
    model = multimodal.build(config.model)
    towers = flops.pretraining_step(model, shapes)
    assert step - towers == summary.parts[-1].training.step  # the head
    text = summary.parts[2]
    assert text.name == "text t5_tiny x 5"
    tower = factory.build_backbone(config.model.backbone_config.resolve("text"))
    assert text.inference == flops.count(tower, (16,)).cost * 5


def test_spectrograms_and_evaluation(capsys):
    """A preset that reads spectrograms gets them; an explicit waveform is refused as always."""
    flags = ("--task=finetune", "--model_arch=spt_base", "--params_override=model_config.d_ff=8")
    out = run(capsys, *flags, "--params_override=model_config={num_layers: 1, num_classes: 9}")
    assert "clip of 150x80x1, 9 classes" in out
    assert " 9x16 " in out and "Evaluation: 4 views of 150x80x1 per sample" in out
    assert "Published for the preset: 85,462,031 parameters" in out
    wrong = "--params_override=train.input.raw_audio=true"
    assert model_summary.main([*flags, wrong]) == 2
    assert "train.input.raw_audio = True: expected false" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        ["--model_arch=tx_fac_tinny"],
        ["--task=finetune", "--model_arch=vit_bas"],
        ["--task=fintune"],
        ["--config_file=none.yaml"],
        ["--model_arch=tx_fac_tiny", "--params_override=train.inptu=1,seed=a"],
    ],
)
def test_refusals_are_those_of_the_command_line(capsys, flags):
    assert main.main(["vatt", "--model_dir=m", *flags]) == 2
    expected = capsys.readouterr().err
    assert model_summary.main(flags) == 2
    assert capsys.readouterr().err == expected


def test_other_refusals(capsys):
    assert model_summary.main(["--task=finetune", "--model_arch=ut_base"]) == 2
    known = ", ".join(configs.backbones.fine_tuned())
    assert "i3d, r2plus1d_18, " in known and "ut_base" not in known
    assert f"model_arch = 'ut_base': expected one of {known} for" in capsys.readouterr().err
    short = "--params_override=train.input.num_frames=1"
    assert model_summary.main(["--task=finetune", "--model_arch=spt_base", short]) == 2
    assert "error: a clip is too short: patches: input axes (5, 80)" in capsys.readouterr().err
    for flags in (["--all", "--model_arch=tx_fac"], ["--modle_arch=tx_fac"], ["tx_fac"]):
        with pytest.raises(SystemExit, match="2"):
            model_summary.main(flags)
    assert "leave --model_arch out" in capsys.readouterr().err


def test_help_and_refusals_start_without_tensorflow():
    program = (
        "import sys\nfrom vatt.tools import model_summary\n"
        "code = model_summary.main(['--model_arch=x'])\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)), code)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "[] 2"
    assert result.stderr.startswith("error: a problem in the configuration:\n  model_arch = 'x'")


def test_published_operations():
    """With one of attention's products; no other square clip of 32 frames comes near all three."""
    worst = dict.fromkeys(range(128, 513, 16), 0.0)
    for name in ("vit_base", "vit_medium", "vit_large"):
        layer = factory.build_backbone(configs.registry.backbone(name))
        published = 1e12 * model_summary.PUBLISHED[name][2]
        for side in worst:
            cost = flops.count(layer, (32, side, side, 3)).cost
            ours = model_summary.PUBLISHED_VIEWS * (cost.forward - cost.attention / 2)
            worst[side] = max(worst[side], abs(ours / published - 1))
    assert min(worst, key=worst.get) == model_summary.PUBLISHED_CLIP[1]
    assert worst[320] < 0.013
    assert sorted(worst.values())[1] > 0.05


@pytest.mark.slow
def test_every_preset_has_its_published_size_and_the_page_is_up_to_date():
    command = [sys.executable, "-m", "vatt.tools.model_summary", "--all", "--markdown"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout
    assert out in (REPOSITORY / "docs/models.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()[2:]]
    found = {row[0]: [cell.replace(",", "") for cell in row[2:5]] for row in rows}
    presets = [name for method in methods.known() for name in method.presets]
    names = [*presets, *configs.backbones.BACKBONES]
    agnostic = ["vit_medium agnostic", "wat_medium agnostic"]
    assert sorted(found) == sorted([*names, *agnostic])
    for name, (parameters, trainable, _) in model_summary.PUBLISHED.items():
        assert found[name] == [str(parameters), str(trainable), str(parameters)]


def test_published_figures_are_those_of_the_manifests(shared_dir):
    import json

    names = {"ft_vit_medium_k400_modality_agnostic": "vit_medium agnostic"}
    names |= {"ft_wat_medium_audioset_modality_agnostic": "wat_medium agnostic"}
    manifests = sorted((shared_dir / "conformance/manifests").glob("*.json"))
    assert len(manifests) >= 16
    for path in manifests:
        name = names.get(path.stem, re.sub("^ft_|_k400$|_audioset$", "", path.stem))
        manifest = json.loads(path.read_text())
        expected = (manifest["total_params"], manifest["trainable_params"])
        assert model_summary.PUBLISHED[name][:2] == expected
