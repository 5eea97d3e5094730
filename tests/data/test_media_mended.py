"""Files with something wrong in them: it is put right, or told, and ordinary ones stay the same."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import grey_frames, number_of, numbered_frames, peak_frequency, tone, write
from PIL import Image

from vatt.data import cards, records
from vatt.data.ingest import command as ingest
from vatt.data.media import MediaError, length, read_clip

WISH = {"fps": 5, "min_side": 48, "sample_rate": 16000}
PLAIN = {"g": "25", "bf": "0", "crf": "10"}


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def kinds(clip) -> list[str]:
    return [notice.kind for notice in clip.notices]


def numbers(clip) -> list[int]:
    return [number_of(jpeg) for jpeg in clip.frames]


def join(path: Path, parts: Iterable[Path]) -> Path:
    """Writes files one after the other into one."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


# Sound -------------------------------------------------------------------------------------------


def sound_file(path: Path, sound: np.ndarray, stamps: Iterable[int], rate: int = 16000) -> Path:
    """Writes pieces of 320 samples (20 ms) with the time stamps given, in samples."""
    with av.open(str(path), "w") as file:
        audio = file.add_stream("pcm_s16le", rate=rate)
        audio.layout = "mono"
        for index, stamp in enumerate(stamps):
            piece = sound[index * 320 : index * 320 + 320]
            values = np.round(piece * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(values, format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), index * 320
            for packet in audio.encode(frame):
                packet.time_base, packet.pts, packet.dts = Fraction(1, rate), stamp, stamp
                file.mux(packet)
    return path


@pytest.mark.parametrize("start", [None, 1.0])
def test_wobbling_time_stamps_do_not_tear_the_sound(tmp_path, start):
    sound = np.random.default_rng(0).uniform(-0.9, 0.9, 150 * 320).astype(np.float32)
    wobble = [0, 128, -100, 160, 0, -160, 90]  # up to 10 ms, as of a timer or Ogg Vorbis
    stamps = [k * 320 + (wobble[k % 7] if k else 0) for k in range(150)]
    path = sound_file(tmp_path / "a.mkv", sound, stamps)
    clip = read_clip(path, start, None if start is None else 2.5, **WISH)
    part = sound if start is None else sound[16000 - 161 : 40000 + 161]
    apart = [
        np.abs(clip.waveform - part[lag : lag + len(clip.waveform)]).max()
        for lag in range(len(part) - len(clip.waveform) + 1)
    ]
    assert min(apart) < 1e-4
    assert kinds(clip) == []


def test_a_gap_in_the_sound_stays_and_is_told(tmp_path):
    sound = tone(440, 2, 16000)
    stamps = [k * 320 + 4800 * (k >= 50) for k in range(100)]  # 0.3 s are missing at 1 s
    clip = read_clip(sound_file(tmp_path / "a.mkv", sound, stamps), **WISH)
    assert not clip.waveform[16000:20800].any()
    np.testing.assert_allclose(clip.waveform[20800:36800], sound[16000:], atol=1e-3)
    assert [(n.kind.split(":")[0], n.detail) for n in clip.notices] == [
        ("gaps in the sound", "1, 0.30 s in all")
    ]


def test_channels_that_cancel_each_other_out(tmp_path):
    left = tone(440, 1, 16000)
    path = write(
        tmp_path / "a.wav", sound=np.stack([left, -left]), rate=16000, audio_codec="pcm_f32le"
    )
    clip = read_clip(path, **WISH)
    np.testing.assert_allclose(clip.waveform, left, atol=1e-6)
    assert kinds(clip) == [
        "the channels of the sound are out of phase and cancel each other out: the first one is "
        "stored in place of their mean"
    ]
    mean = read_clip(path, **WISH, downmix="mean")
    assert not mean.waveform.any()
    assert "their mean, which is stored, is nearly silent" in kinds(mean)[0]
    first = read_clip(path, **WISH, downmix="first")
    np.testing.assert_allclose(first.waveform, left, atol=1e-6)
    assert kinds(first) == []


@pytest.mark.parametrize("right", [-0.5, 0.0, 0.3, 1.0])
def test_channels_that_do_not_cancel_are_averaged(tmp_path, right):
    rng = np.random.default_rng(0)
    left = rng.uniform(-0.5, 0.5, 16000).astype(np.float32)
    sound = np.stack([left, right * left])
    path = write(tmp_path / "a.wav", sound=sound, rate=16000, audio_codec="pcm_f32le")
    clip = read_clip(path, **WISH)
    np.testing.assert_allclose(clip.waveform, sound.mean(axis=0), atol=1e-6)
    assert kinds(clip) == []


def test_sound_for_a_part_is_told(tmp_path):
    path = write(tmp_path / "a.mkv", grey_frames(np.full(100, 90)), tone(440, 2))
    (notice,) = read_clip(path, 1.0, 4.0, **WISH).notices
    assert notice.kind == "sound for a part of the clip only: the rest is silent"
    assert notice.detail.startswith("from 1.00 to 2.0")
    assert kinds(read_clip(path, 3.0, 4.0, **WISH)) == [
        "no sound where the clip is, though the file has some"
    ]
    assert kinds(read_clip(path, 0.0, 1.5, **WISH)) == []


# Pictures ----------------------------------------------------------------------------------------


def test_damaged_pictures_are_told(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (96, 160, 3), np.uint8)
    frames = np.stack([np.roll(noise, 2 * k, 1) for k in range(150)])
    path = write(tmp_path / "a.mp4", frames, video_options={"g": "50", "crf": "20"})
    whole = read_clip(path, **WISH)
    assert kinds(whole) == []
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size and 2.2 < p.pts * p.time_base < 3]
        for packet in packets:
            middle = packet.pos + packet.size // 2
            content[middle : middle + 40] = rng.integers(0, 255, 40, np.uint8).tobytes()
    path.write_bytes(content)
    clip = read_clip(path, **WISH)
    wrong = [
        np.abs(pixels(a) - pixels(b)).mean() > 5
        for a, b in zip(clip.frames, whole.frames, strict=True)
    ]
    assert 3 <= sum(wrong) <= 10
    (notice,) = clip.notices
    assert notice.kind == "damaged pictures: stored as far as they can be decoded"
    assert abs(int(notice.detail.split(" of ")[0]) - sum(wrong)) <= 2
    assert kinds(read_clip(path, 4.2, 5.8, **WISH)) == []  # after the next key frame


def combs(jpeg: bytes) -> float:
    """Share of pixels that differ much from both their neighbours above and below."""
    grey = pixels(jpeg)[:, :, 1]
    up, down = abs(grey[2:-2:2] - grey[1:-3:2]), abs(grey[2:-2:2] - grey[3:-1:2])
    return float(((up > 80) & (down > 80)).mean())


@pytest.mark.parametrize("min_side", [32, 96])
def test_interlaced_pictures_are_deinterlaced(tmp_path, min_side):
    fields = np.full((100, 96, 160, 3), 30, np.uint8)
    for k in range(100):
        fields[k, :, 6 * k % 140 : 6 * k % 140 + 14] = 220  # a bar that moves
    woven = fields[::2].copy()
    woven[:, 1::2] = fields[1::2, 1::2]
    wish = {"fps": 10, "min_side": min_side, "sample_rate": 16000}
    clips = {}
    for name, flag in (("interlaced", "1"), ("progressive", "0")):
        options = {"x264-params": f"interlaced={flag}", "crf": "4"}
        path = write(tmp_path / f"{name}.mp4", woven, video_options=options)
        clips[name] = read_clip(path, **wish)
    assert kinds(clips["interlaced"]) == ["interlaced pictures: one field of each is stored"]
    assert kinds(clips["progressive"]) == []
    if min_side == 96:
        assert max(map(combs, clips["progressive"].frames)) > 0.02
        assert max(map(combs, clips["interlaced"].frames)) < 1e-3
    for k, jpeg in enumerate(clips["interlaced"].frames):
        index = 2 * int((k + 0.5) / 10 * 25 + 1e-4)
        size = (160 * min_side // 96, min_side)
        either = [np.asarray(Image.fromarray(f).resize(size), int) for f in fields[index:][:2]]
        assert min(np.abs(pixels(jpeg) - field).mean() for field in either) < 3


def test_transparent_pixels_become_white(tmp_path):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 255, (64, 64, 3), np.uint8)
    alpha = np.zeros((64, 64, 1), np.uint8)
    alpha[16:48, 16:48] = 255
    alpha[16:48, 32:48] = 51  # a fifth
    colours[16:48, 16:48] = (200, 30, 30)
    picture = Image.fromarray(np.concatenate([colours, alpha], axis=2))
    picture.save(tmp_path / "rgba.png")
    picture.save(tmp_path / "rgba.webp", lossless=True, exact=True)
    picture.quantize(16).save(tmp_path / "palette.png")
    with av.open(str(tmp_path / "video.mov"), "w") as file:
        video = file.add_stream("qtrle", rate=25)
        video.height, video.width, video.pix_fmt = 64, 64, "argb"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgba")
            file.mux(video.encode(frame.reformat(format="argb")))
        file.mux(video.encode())
    for name in ("rgba.png", "rgba.webp", "palette.png", "video.mov"):
        clip = read_clip(tmp_path / name, **WISH)
        shown = pixels(clip.frames[0])
        size = len(shown)
        edge, inner = shown[: size // 5], shown[size * 2 // 5 : size * 3 // 5]
        assert edge.min() > 245, name
        opaque = inner[:, size * 3 // 10 : size * 7 // 16].mean(axis=(0, 1))
        np.testing.assert_allclose(opaque, (200, 30, 30), atol=12, err_msg=name)
        if name != "palette.png":  # 255 - (255 - c) / 5
            part = inner[:, size * 9 // 16 : size * 7 // 10].mean(axis=(0, 1))
            np.testing.assert_allclose(part, (244, 210, 210), atol=12, err_msg=name)
        assert kinds(clip) == ["transparent pictures: laid on white"], name


def test_opaque_pictures_with_alpha_stay_as_they_are(tmp_path):
    picture = Image.fromarray(numbered_frames(6)[5])
    picture.save(tmp_path / "rgb.png")
    picture.putalpha(255)
    picture.save(tmp_path / "rgba.png")
    plain, opaque = (read_clip(tmp_path / name, **WISH) for name in ("rgb.png", "rgba.png"))
    assert opaque.frames == plain.frames
    assert kinds(opaque) == []


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_of_animated_images_among_images_the_first_picture_is_stored(tmp_path, ending):
    pictures = [Image.fromarray(frame) for frame in numbered_frames(5)]
    path = tmp_path / f"a.{ending}"
    more = {"save_all": True, "append_images": pictures[4:], "duration": 60}
    pictures[3].save(path, **more, **({"lossless": True} if ending == "webp" else {}))
    clip = read_clip(path, **WISH, still=True)
    assert (numbers(clip), clip.end) == ([3], 0.0)
    assert kinds(clip) == ["animated images: the first picture is stored"]
    if ending == "gif":
        clip = read_clip(path, **WISH | {"fps": 50})
        assert set(numbers(clip)) == {3, 4}
    Image.fromarray(numbered_frames(1)[0]).save(tmp_path / "one.gif")
    assert kinds(read_clip(tmp_path / "one.gif", **WISH, still=True)) == []


def hdr_file(path: Path, values: np.ndarray, transfer: int) -> Path:
    """Writes grey pictures whose luma is `values` (0 to 1) at 10 bits, losslessly."""
    with av.open(str(path), "w") as file:
        video = file.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p10le"
        context = video.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9
        context.color_range = 1
        for index, value in enumerate(values):
            frame = av.VideoFrame(64, 48, "yuv420p10le")
            for plane, code in zip(frame.planes, (64 + 876 * value, 512, 512), strict=True):
                plane.update(np.full(plane.buffer_size // 2, round(code), np.uint16).tobytes())
            frame.color_trc, frame.color_primaries, frame.colorspace = transfer, 9, 9
            frame.color_range, frame.pts, frame.time_base = 1, index, Fraction(1, 25)
            file.mux(video.encode(frame))
        file.mux(video.encode())
    return path


def pq(luminance: float) -> float:
    """Value of a luminance in cd/m2 (SMPTE ST 2084)."""
    root = (luminance / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375


def hlg(scene: float) -> float:
    """Value of light of the scene, 0 to 1 (ARIB STD-B67)."""
    if scene <= 1 / 12:
        return (3 * scene) ** 0.5
    return 0.17883277 * np.log(12 * scene - 0.28466892) + 0.55991073


@pytest.mark.parametrize("min_side", [24, 48])
def test_hdr_is_as_bright_as_on_a_screen(tmp_path, min_side):
    light = np.array([5.0, 20.0, 60.0, 203.0, 1000.0])  # cd/m2
    wish = {"fps": 25, "min_side": min_side, "sample_rate": 16000}
    levels = {}
    for name, transfer, values in (
        ("pq", 16, [pq(y) for y in light]),
        ("hlg", 18, [hlg((y / 1000) ** (1 / 1.2)) for y in light]),
        ("sdr", 1, [pq(y) for y in light]),
    ):
        path = hdr_file(tmp_path / f"{name}.mkv", np.array(values), transfer)
        clip = read_clip(path, **wish)
        levels[name] = np.array([pixels(jpeg).mean() for jpeg in clip.frames])
        told = ["HDR pictures: tone-mapped to the range of ordinary screens"]
        assert kinds(clip) == (told if name != "sdr" else [])
    # Below the knee at 61 cd/m2 as a screen with white at 203 cd/m2 shows it.
    expected = 255 * (light[:3] / 203) ** (1 / 2.4)
    np.testing.assert_allclose(levels["pq"][:3], expected, atol=3)
    np.testing.assert_allclose(levels["hlg"], levels["pq"], atol=4)
    assert 205 < levels["pq"][3] < 230
    assert levels["pq"][4] > 252
    assert levels["sdr"][3] < 155  # values as they are


def test_pictures_of_several_sizes_are_stored_at_the_first(tmp_path):
    one = write(tmp_path / "1.ts", numbered_frames(50), video_options=PLAIN)
    double = numbered_frames(100)[50:].repeat(2, 1).repeat(2, 2)
    two = write(tmp_path / "2.ts", double, first=2.0, video_options=PLAIN)
    clip = read_clip(join(tmp_path / "a.ts", [one, two]), **WISH)
    assert numbers(clip) == [5 * k + 2 for k in range(20)]
    assert {pixels(jpeg).shape for jpeg in clip.frames} == {(48, 80, 3)}
    assert [(n.kind.split(":")[0], n.detail) for n in clip.notices] == [
        ("the size of the pictures changes", "80x48, then 160x96")
    ]
    high = write(
        tmp_path / "3.ts", grey_frames(np.full(50, 200), 96, 80), first=2.0, video_options=PLAIN
    )
    clip = read_clip(join(tmp_path / "b.ts", [one, high]), **WISH)
    last = pixels(clip.frames[-1])
    assert last.shape == (48, 80, 3)
    assert last[:, :18].max() < 20  # black beside what is half as wide
    assert last[:, -18:].max() < 20
    assert abs(last[4:-4, 24:-24].mean() - 200) < 4


# Time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_single_picture_stays_as_long_as_its_sound(tmp_path, ending):
    path = write(tmp_path / f"a.{ending}", numbered_frames(8)[7:], tone(440, 30))
    clip = read_clip(path, **WISH)
    assert clip.end == pytest.approx(30, abs=0.05)
    assert numbers(clip) == [7] * len(clip.frames)
    assert len(clip.frames) == 150
    assert len(clip.waveform) == pytest.approx(30 * 16000, abs=800)
    assert kinds(clip) == ["a single picture with long sound: it stays"]
    piece = read_clip(path, 21.0, 23.0, **WISH)
    assert numbers(piece) == [7] * 10
    assert np.abs(piece.waveform).max() > 0.4


def test_sound_that_is_cut_off_is_told(tmp_path):
    path = write(tmp_path / "a.mkv", numbered_frames(50), tone(440, 4))
    (notice,) = read_clip(path, **WISH).notices
    assert notice.kind == "the sound goes on after the last picture: left out"
    assert notice.detail.startswith("from 2.00 to 4.0")
    with pytest.raises(MediaError, match="pictures stop at 2"):
        read_clip(path, 1.0, 4.0, **WISH)


def recording(path: Path, number: int, pitch: float, **options) -> Path:
    frames = numbered_frames(number + 75)[number:]
    return write(path, frames, tone(pitch, 3), video_options=PLAIN, **options)


def pitches(clip) -> list[int]:
    pieces = [clip.waveform[k : k + 8000] for k in range(0, len(clip.waveform) - 7999, 8000)]
    return [round(peak_frequency(piece, 16000), -1) for piece in pieces]


@pytest.mark.parametrize("later", [0.0, 60.0])
def test_joined_transport_streams_are_one_after_the_other(tmp_path, later):
    one = recording(tmp_path / "1.ts", 0, 400)
    two = recording(tmp_path / "2.ts", 75, 800, first=later, audio_first=later)
    path = join(tmp_path / "a.ts", [one, two, one])
    assert length(path) == pytest.approx(9, abs=0.15)
    clip = read_clip(path, 0.0, 9.0, **WISH)
    shown = numbers(clip)
    expected = [(5 * k + 2) % 150 for k in range(45)]
    assert np.abs(np.subtract(shown, expected)).max() <= 3  # sound is 0.03 s longer, twice
    assert pitches(clip) == [400] * 6 + [800] * 6 + [400] * 6
    assert [(n.kind.split(":")[0], n.detail.count("s")) for n in clip.notices] == [
        ("joined recordings", 2)
    ]
    piece = read_clip(path, 4.0, 5.0, **WISH)
    assert numbers(piece) == shown[20:25]
    assert pitches(piece) == [800, 800]


def test_joined_ogg_files_are_one_after_the_other(tmp_path):
    parts = [
        write(tmp_path / f"{pitch}.ogg", sound=tone(pitch, 3), audio_codec="libopus")
        for pitch in (400, 800)
    ]
    path = join(tmp_path / "a.ogg", parts)
    assert length(path) == pytest.approx(6, abs=0.1)
    clip = read_clip(path, 0.0, 6.0, **WISH)
    assert pitches(clip) == [400] * 6 + [800] * 6
    assert [notice.kind.split(":")[0] for notice in clip.notices] == ["joined recordings"]
    assert pitches(read_clip(path, 4.0, 5.0, **WISH)) == [800, 800]


def test_a_transport_stream_shortly_before_its_clock_wraps(tmp_path):
    first = 2**33 / 90_000 - 3.0
    path = recording(tmp_path / "a.ts", 0, 400, first=first, audio_first=first)
    with av.open(str(path)) as container:
        assert container.start_time < 0
    clip = read_clip(path, **WISH)
    late = [5 * k + 2 - number for k, number in enumerate(numbers(clip))]
    assert set(late) <= {0, 1}  # the sound may begin 0.02 s before the pictures
    piece = read_clip(path, 1.0, 2.6, **WISH)
    assert numbers(piece) == numbers(clip)[5:13]
    assert set(pitches(clip)) == {400}
    assert kinds(clip) == kinds(piece) == []


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("mpeg2video", {"bf": "2", "g": "12"}),
        ("mpeg1video", {"bf": "2", "g": "15"}),
        ("libx264", {"g": "25"}),
    ],
)
def test_pieces_of_program_streams_have_the_right_pictures(tmp_path, codec, options):
    """Small pictures, of which many have no time stamp."""
    path = write(
        tmp_path / "a.mpg",
        np.tile(numbered_frames(250), (4, 1, 1, 1)),
        tone(440, 40),
        video_codec=codec,
        video_options={**options, "qmin": "2", "qmax": "3"},
        audio_codec="mp2",
        container="vob",
    )
    with av.open(str(path)) as container:
        first = {kind: next(container.decode(**{kind: 0})).time for kind in ("video", "audio")}
    late = max(0.0, first["video"] - first["audio"])
    for start in (0.1, 1.0, 7.2, 15.5, 21.03, 33.3):
        clip = read_clip(path, start, start + 1.0, fps=25, min_side=48, sample_rate=16000)
        when = start + (np.arange(25) + 0.5) / 25 - late
        assert numbers(clip) == [int(moment * 25 + 1e-3) % 250 for moment in when]


# As a user sees it -------------------------------------------------------------------------------


def test_ingest_tells_what_was_put_right(tmp_path, capsys):
    folder = tmp_path / "media"
    folder.mkdir()
    left = tone(440, 1, 16000)
    sound = np.stack([left, -left])
    for name in ("a.wav", "b.wav"):
        write(folder / name, sound=sound, rate=16000, audio_codec="pcm_s16le")
    loudest = []
    for downmix in ("auto", "mean"):
        output = tmp_path / downmix
        arguments = [f"--input={folder}", f"--output_dir={output}", "--workers=1"]
        assert ingest.main([*arguments, "--sample_rate=16000", f"--downmix={downmix}"]) == 0
        shard = cards.read(output / "card.yaml").shards("train")[0]
        clips = map(records.decode, records.read_shard(shard))
        loudest.append(max(np.abs(clip.waveform).max() for clip in clips))
        with (output / "notices.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {row["path"] for row in rows if "out of phase" in row["kind"]} == {"a.wav", "b.wav"}
    assert loudest == [pytest.approx(0.5, abs=0.01), 0.0]
    assert "cancel each other out" in capsys.readouterr().out


def test_ingest_of_images_takes_the_first_picture_of_a_gif(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "media" / label).mkdir(parents=True)
        frames = [Image.fromarray(frame) for frame in numbered_frames(20)]
        frames[7].save(
            tmp_path / "media" / label / "a.gif",
            save_all=True,
            append_images=frames[8:],
            duration=100,
        )
    arguments = [f"--input={tmp_path / 'media'}", f"--output_dir={tmp_path / 'set'}"]
    assert ingest.main([*arguments, "--format=images", "--workers=1"]) == 0
    card = cards.read(tmp_path / "set" / "card.yaml")
    assert card.tasks == ["image_classification"]
    for record in map(records.decode, records.read_shard(card.shards("train")[0])):
        assert [number_of(jpeg) for jpeg in record.frames] == [7]
    notices = (tmp_path / "set" / "notices.csv").read_text()
    assert notices.count("animated images: the first picture is stored") == 2
