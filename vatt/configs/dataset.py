"""What is read and how it is prepared: clips, crops, augmentation, text (one class per use)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from vatt.configs import base, spectrograms
from vatt.configs.base import Count, NonNegative, Number, Positive, Rate, Share, UnitInterval

Decibels = Annotated[float, Field(ge=-80, le=0)]
Gain = Annotated[float, Field(ge=0, le=80)]  # dB
Window = Annotated[float, Field(ge=1e-6, le=60)]  # s
Masks = Annotated[int, Field(ge=0, le=1000)]
HOUR = 3600  # s

PUBLISHED_FPS = 10.0  # of clips
PUBLISHED_RATES = (10.0, 25.0)  # frames/s of records

NumExamples = Annotated[
    int, Field(ge=-1, description="a whole number of examples, or -1 for all of them")
]


class Spectrum(base.Config):
    """What an "unscaled_log_mel" is: ln(mel + `offset`), mel on the HTK scale.

    Bands reach from `lowest_hz` to `highest_hz` and weigh magnitudes, with `power` their squares.
    Before, a waveform is divided by its largest sample (`normalised`) and x_t - `emphasis` x_(t-1)
    is taken.
    """

    window: base.choice("hann", "hamming") = "hann"
    lowest_hz: NonNegative = 80.0
    highest_hz: Positive = 7600.0
    power: bool = False
    offset: Positive = 1e-6
    normalised: bool = False
    emphasis: Rate = 0.0


class Dataset(base.Config):
    """Fields common to all uses.

    `fps`: frames of a clip per second at a `video_stride` of 1, whatever the rate of the records;
    sound is as long as `num_frames` of them. None is the published rule, for records at 10 and 25
    frames/s: strides count frames of the record, in pretraining `rate // 10` of them, and sound is
    as long as `num_frames` at 10 frames/s.

    `clip_sampling`: with "strides", VATT's rule, the frames of a clip are `video_stride` apart, and
    records shorter than it are read in a loop; with "windows", GDT's and STiCA's, they lie evenly
    from the first to the last one of as many seconds, and the last picture is repeated. Of long
    records at `fps` frames/s both take the same frames at a stride of 1.

    `vocabulary` is a file, or a name in `misc_data/`; None takes the one that belongs to the
    tokenizer. `stft_length` and `stft_step` are in seconds, `frame_size` and `min_resize` in
    pixels. `linearize_vision` is accepted for published YAML files and has no effect (it was a TPU
    transfer format).

    Training clips are mirrored half of the time (`horizontal_flip`: not where left and right, or
    letters in the picture, matter), cut where chance has it (`random_crop`; else from the middle,
    as evaluation does, and never by area and aspect), scaled (`scale_jitter`) and coloured
    (`color_augment`).
    `crop_resize_style`: "VGG", shorter side to `min_resize`, then a square; "Inception", a box by
    area and aspect, of which VATT's fine-tuning cuts whatever stands here; or, with resizing that
    keeps the decimals of levels, "ShortSide", shorter side to a random size from `min_resize` to
    `max_resize`, then a square, "ResizedCrop", a box as in torchvision, and "Square", the largest
    square. "Stretched" is "VGG", in fine-tuning too, whose `scale_jitter` multiplies the resized
    height and width by factors of their own from `min_stretch` to `max_stretch`.
    `test_resize`: in evaluation, the shorter side is resized to so many pixels before squares are
    cut; None is `frame_size`.
    `color_style`: "hue" changes brightness, saturation, contrast and hue, "blend" the first three
    by blending; both with `color_probability`. `grey_probability`, `blur_probability`: shares of
    clips without colours, or out of focus. Values are (value / 255 - `pixel_mean`) / `pixel_std`;
    without `pixel_std` in [-1, 1] (`zero_centering_image`) or [0, 1]. `published_augmentation`:
    what GDT and STiCA do by mistake with "ShortSide" and "ResizedCrop" (`vatt.data.views`).
    `sound_loops`: the sound of a clip that begins late in a record goes on at the start of the
    record; without, it begins as late as it can without that.
    `audio_level`: RMS in dB (0 dB: a square wave of full scale) to which the sound of every record
    is brought, in training and evaluation; None leaves it as it was recorded, as published.

    Where `raw_audio` is false, a model hears spectrograms, of `audio_features`: "log_mel", VATT's,
    whose values are brought to [0, 1], "filterbank", log energies of 16-bit samples
    (`vatt.data.filterbank`), "unscaled_log_mel", whose values are as loud as the sound
    (`spectrum`), or "stored", which records hold in place of waveforms (`audio.feature` of a card).
    Of all, `mel_bins` is the number of bands, `stft_length` and
    `stft_step` are window and step, and (value - `audio_mean`) / `audio_std` is what is heard.
    `audio_seconds`: how long the sound of a clip is; None is as long as its pictures at a
    `video_stride` of 1.

    `published_resampling`: resize and crop training frames one operation after the other as the
    published pipeline does, rounding in between, instead of in one resampling. `scaled_decoding`:
    decode JPEGs at a half or a quarter of their size where the crop is shrunk by that much anyway.
    `max_bad_fraction`: share of a split's records that may be unreadable before the run is stopped.
    `data_service`: address of a tf.data service ("grpc://host:port") that prepares training clips.
    `num_parallel_calls`: clips prepared at once; None takes one per core.
    """

    name: Any = None
    split: str = ""
    batch_size: Count = 8
    num_frames: Count = 32
    frame_size: Count = 224
    video_stride: Count = 1
    audio_stride: Count = 1
    clip_sampling: base.choice("strides", "windows") = "strides"
    crop_resize_style: base.choice(
        "VGG", "Inception", "ShortSide", "ResizedCrop", "Square", "Stretched"
    ) = "VGG"
    min_area_ratio: Share = 0.08
    max_area_ratio: Share = 1.0
    min_aspect_ratio: Positive = 0.5
    max_aspect_ratio: Positive = 2.0
    scale_jitter: bool = True
    min_stretch: Positive = 0.9
    max_stretch: Positive = 1.33
    horizontal_flip: bool = True
    random_crop: bool = True
    min_resize: Count = 224
    max_resize: Count | None = None
    test_resize: Count | None = None
    color_augment: bool = True
    color_style: base.choice("hue", "blend") = "hue"
    color_probability: UnitInterval = 0.8
    grey_probability: UnitInterval = 0.0
    blur_probability: UnitInterval = 0.0
    published_augmentation: bool = False
    zero_centering_image: bool = True
    pixel_mean: Number = 0.0
    pixel_std: Positive | None = None
    space_to_depth: bool = False
    text_tokenizer: base.choice("WordTokenizer", "BertTokenizer", "CasedWordTokenizer") = (
        "WordTokenizer"
    )
    raw_audio: bool = True
    stft_length: Window = 0.04267
    stft_step: Window = 0.02134
    mel_bins: Count = 80
    audio_features: base.choice("log_mel", "filterbank", "unscaled_log_mel", "stored") = "log_mel"
    spectrum: Spectrum = Field(default_factory=Spectrum)
    audio_mean: Number = 0.0
    audio_std: Positive = 1.0
    audio_seconds: Annotated[float, Field(ge=1e-6, le=HOUR)] | None = None
    linearize_vision: bool = True
    fps: Positive | None = None
    sample_rate: Count = 48000
    sound_loops: bool = False
    audio_level: Decibels | None = None
    vocabulary: str | None = None
    use_bos: bool = False
    use_eos: bool = False
    shuffle_buffer: Count = 256
    num_parallel_calls: Count | None = None
    published_resampling: bool = False
    scaled_decoding: bool = False
    max_bad_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    data_service: str | None = None

    @property
    def num_audio_samples(self) -> int:
        """Samples of a clip: as many as `num_frames` have, `audio_stride` apart."""
        return self.audio_samples(self.num_frames)

    def audio_samples(self, frames: int) -> int:
        """Samples of the sound of so many frames at a stride of 1, or of `audio_seconds`."""
        if self.audio_seconds is not None:
            return round(self.sample_rate * self.audio_seconds)
        return int(self.sample_rate * frames / (self.fps or PUBLISHED_FPS))

    @property
    def num_spectrogram_times(self) -> int:
        """Times of the spectrogram of a clip; 0 where windows are shorter than a sample."""
        rate, exact = self.sample_rate, self.audio_features == "filterbank"
        whole = round if exact else int
        length, step = whole(rate * self.stft_length), whole(rate * self.stft_step)
        if not step:
            return 0
        if exact:
            return spectrograms.covering_frames(self.num_audio_samples, length, step)
        return spectrograms.padded_frames(self.num_audio_samples, step)

    def published_stride(self, rate: float) -> int:
        """Frames of a record at `rate` frames/s per frame of a clip, where `fps` is not given."""
        return self.video_stride


class Training(Dataset):
    """Clips to train on, whose sound may be changed at random.

    `volume_jitter`: samples are multiplied by up to so much more or less than 1. `audio_shift`: the
    sound begins up to so many seconds earlier or later than the pictures. `audio_masking`: bands
    and times of a spectrogram become 0 (`vatt.data.audio.MASKS`), or (SpecAugment) so many
    `band_masks` and `time_masks` of less than so many bands and frames, those of times also of no
    more than `time_mask_ratio` of the spectrogram. `audio_roll`: a spectrogram begins at any of
    its frames and goes on at its start.
    """

    volume_jitter: Rate = 0.0
    audio_shift: Annotated[float, Field(ge=0, le=HOUR)] = 0.0
    audio_masking: base.choice("none", "mild", "medium", "heavy") = "none"
    band_masks: Masks = 0
    band_mask_width: Count = 1
    time_masks: Masks = 0
    time_mask_width: Count = 1
    time_mask_ratio: UnitInterval = 1.0
    audio_roll: bool = False


class Pretrain(Training):
    """Clips for pretraining. `name` joins several sets with "+"; each has a card.

    `mixing_weights`: share of each set in a batch; None draws uniformly.
    """

    name: Annotated[str, Field(min_length=1)] = "howto100m+audioset"
    split: str = "train"
    num_examples: NumExamples = -1
    mixing_weights: base.sequence(Positive) | None = None

    def published_stride(self, rate: float) -> int:
        """Frames of a record at `rate` frames/s per frame of a clip, where `fps` is not given."""
        return max(1, int(rate // PUBLISHED_FPS)) * self.video_stride


class Finetune(Training):
    """Labelled clips for fine-tuning.

    `audio_gain`: training sounds are made louder or softer by up to so many dB, at random.
    `mixup` mixes each clip and its label with another of the batch, by shares of
    Beta(`mixup_alpha`, `mixup_alpha`): with `mixup_style` "rows" every clip by its own share with
    any other (VATT), with "batch" all by one share, the first with the last and so on (AV-MAE).
    `mixup_apart`: each modality has its own shares, partners and labels. `smooth_multi_label`:
    labels of sets with several per clip are smoothed by `label_smoothing`, too.
    """

    name: Annotated[str, Field(min_length=1)] = "kinetics400"
    video_stride: Count = 2
    audio_stride: Count = 2
    mixup: bool = False
    mixup_alpha: Positive = 5
    mixup_style: base.choice("rows", "batch") = "rows"
    mixup_apart: bool = False
    audio_noise: NonNegative = 0.0
    audio_gain: Gain = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    smooth_multi_label: bool = False
    num_windows_test: Count = 4
    multi_crop: bool = True


class Evaluation(Dataset):
    """Sets on which a pretrained model is evaluated without training it, one card each."""

    name: base.names() = ("esc50", "hmdb51", "ucf101", "youcook2", "msrvtt")
    split: str = "test"
    video_stride: Count = 2
    audio_mixup: bool = False
    mixup_alpha: Positive = 10
    mixup_beta: Positive = 1
    multi_crop: bool = False
    max_num_words: Count = 16
    num_examples: NumExamples = 4096
    num_windows_test: Count = 4
    num_augmentation: Count = 1
