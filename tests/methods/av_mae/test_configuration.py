"""What does not fit together is told when the configuration is resolved; published rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vatt import configs

PUBLISHED = sorted(Path("configs/pretrain").glob("av_mae_*.yaml"))
SPECTROGRAM = "train.input.stft_step={0},train.input.stft_length={0},eval.input.stft_step={0}"
SPECTROGRAM += ",eval.input.stft_length={0}"
WIDTH = "model_config.d_kv"


def problems(override, arch="av_mae_tiny"):
    with pytest.raises(configs.ConfigError) as caught:
        configs.resolve(model_arch=arch, params_override=override)
    return {problem.path: str(problem) for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("override", "path", "told"),
    [
        ("model_config.modalities=[]", "model_config.modalities", "or one of them"),
        ("model_config.modalities=[audio, video]", "model_config.modalities", "[video, audio]"),
        ("model_config.fusion_layers=4", "model_config.fusion_layers", "expected 1 to 3"),
        ("model_config.d_kv=10", WIDTH, "d_model / num_heads, 96 / 4. Try 24."),
        (
            "model_config.encoder_strategy=separate_encoders,"
            "model_config.decoder_strategy=separate_decoders",
            "model_config.decoder_strategy",
            "would share nothing",
        ),
        ("model_config.masking_strategy=tube", "model_config.masking_strategy", "tubes are of"),
        (
            "model_config.use_inpainting=true,model_config.modalities=[audio]",
            "model_config.use_inpainting",
            "from the other one",
        ),
        (
            "model_config.shuffle_inpainted_tokens=true",
            "model_config.shuffle_inpainted_tokens",
            "or use_inpainting true",
        ),
        # 144 tokens of video, 80 of sound.
        ("model_config.video_mask=0.001", "model_config.video_mask", "masks none of the 144"),
        (
            "model_config.use_inpainting=true,model_config.video_mask=0.3",
            "model_config.video_mask",
            "leaves 101 visible tokens, which do not fit into the 80 of audio",
        ),
        (
            "eval.input.num_frames=1,train.input.num_frames=1",
            "train.input.num_frames",
            "1 frames, less than a patch of 2 of video",
        ),
        (SPECTROGRAM.format(0.3), "eval.input.audio_seconds", "6 times of the spectrogram, less"),
        (
            "train.input.mel_bins=12,eval.input.mel_bins=12",
            "train.input.mel_bins",
            "12 bands, less than a patch of 16",
        ),
        ("train.input.raw_audio=true", "train.input.raw_audio", "hears spectrograms"),
        ("train.input.space_to_depth=true", "train.input.space_to_depth", "whole pictures"),
        (
            "model_config.spatial_patch_width=64",
            "train.input.frame_size",
            "48 pixels, less than a patch of 64 of video",
        ),
        ("train.input.spectrum.lowest_hz=9000", "train.input.spectrum.lowest_hz", "less than"),
        (
            "train.input.spectrum.window=hamming",
            "eval.input.spectrum.window",
            "train.input.spectrum.window, hamming",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(override, path, told):
    found = problems(override)
    assert path in found, found
    assert told in found[path]


def test_a_mask_that_leaves_no_token_is_told():
    configs.resolve(model_arch="av_mae_tiny", params_override="model_config.video_mask=0.999")
    found = problems("model_config.audio_mask=0.3,train.input.audio_seconds=0.08,"
                     "train.input.mel_bins=16,eval.input.mel_bins=16")  # fmt: skip
    assert "masks none of the 1 tokens of audio" in found["model_config.audio_mask"]
    tube = "model_config.masking_strategy=tube,model_config.modalities=[video]"
    clip = "train.input.frame_size=8,train.input.min_resize=8"
    assert "masks none of the 1 tokens" in problems(f"{tube},{clip}")["model_config.video_mask"]


def test_spectra_of_other_representations_are_told():
    found = problems("train.input.spectrum.power=true", "tx_fac_tiny")
    assert "raw_audio true does not read it" in found["train.input.spectrum.power"]
    both = "train.input.spectrum.offset=1.0e-3,eval.input.spectrum.offset=1.0e-3"
    found = problems(both, "gdt_tiny")
    assert "filterbank does not read it" in found["eval.input.spectrum.offset"]


def test_published_rows():
    rows = {path.stem: configs.resolve(config_file=str(path)) for path in PUBLISHED}
    assert set(rows) == {
        "av_mae_audioset",
        "av_mae_audioset_audio",
        "av_mae_vggsound",
        "av_mae_toy",
    }
    for name, rate, warmup, steps in (
        ("av_mae_audioset", 6e-4, 14_508, 435_240),
        ("av_mae_vggsound", 3e-4, 1_344, 134_400),
    ):
        learning_rate = rows[name].train.optimizer.learning_rate
        assert learning_rate.learning_rate_base == rate
        assert (learning_rate.warmup_steps, learning_rate.total_steps) == (warmup, steps)
        assert rows[name].train.input.batch_size == 512 and rows[name].seed == 42
    assert rows["av_mae_audioset_audio"].model.modalities == ("audio",)
    assert rows["av_mae_audioset"].train.input.num_spectrogram_times == 1000
    assert rows["av_mae_vggsound"].train.input.num_spectrogram_times == 800


def test_a_set_without_pictures_is_told_before_tensorflow_starts(tmp_path):
    (tmp_path / "blind").mkdir()
    (tmp_path / "blind" / "card.yaml").write_text(
        "name: blind\ntasks: [pretrain]\naudio: {sample_rate: 16000}\n"
        "splits: {train: {pattern: 'train-*', num_shards: 1, records: 4}}\n"
    )
    arguments = ["--model_arch=av_mae_tiny", "--mode=train", f"--model_dir={tmp_path / 'run'}"]
    arguments += [f"--data_dir={tmp_path}", "--params_override=train.input.name=blind"]
    command = [sys.executable, "-m", "vatt.main", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 3
    assert "Data set 'blind' has no video, but the model is trained on video" in result.stderr
