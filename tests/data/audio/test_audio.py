"""Sound: resampling and log-mels against other formulas, masks drawn from the row, parts without leaks, bad files."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy import signal

from src.config import compose
from src.data.audio.datasets import AudioFolder, SpokenDigits, Tones
from src.data.audio.features import LogMel, read, resample
from src.data.audio.inputs import Sounds
from src.data.audio.specaugment import SpecAugment
from src.errors import UserError
from src.experiment.build import build_model, build_node
from src.spec import DataSpec
from tests.conftest import Lab

RATE = 8_000


def sine(frequency: float, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)
    return path


def folder(path: Path, count: int = 10) -> Path:
    """Two classes of sines, low and high."""
    for label, lowest in (("high", 1_500), ("low", 300)):
        for i in range(count):
            write(path / label / f"{i}.wav", sine(lowest + 20 * i, 0.3))
    return path


def ready(path: Path, **options) -> AudioFolder:
    data = AudioFolder(path=str(path), **options)
    data.setup("fit")
    return data


# features ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [44_100, 22_050, 16_000, 4_000])
def test_a_resampled_sine_is_that_sine_at_the_other_rate(rate: int) -> None:
    found = resample(sine(440, rate=rate), rate, RATE)
    expected = sine(440)
    assert found.dtype == np.float32 and len(found) == len(expected)
    assert np.abs(found - expected)[200:-200].max() < 2e-3


def test_resampling_lets_no_alias_through() -> None:
    found = resample(sine(7_000, rate=44_100), 44_100, RATE)  # would fold back to 1,000 Hz
    assert np.abs(found[200:-200]).max() < 1e-2


def reference(samples: np.ndarray, rate: int, bands: int, window: int, hop: int, size: int) -> np.ndarray:
    """Decibels (frames, bands), by scipy's Fourier transform and numpy's interpolation."""
    padded = np.pad(samples.astype(np.float64), size // 2)
    taper = np.pad(signal.get_window("hann", window), ((size - window) // 2, -(-(size - window) // 2)))
    frames = np.stack([padded[i : i + size] * taper for i in range(0, len(padded) - size + 1, hop)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2)
    hertz = 700 * (10 ** (edges / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / rate)
    filters = np.stack([np.interp(bins, hertz[b : b + 3], [0, 1, 0]) for b in range(bands)])
    mel = power @ filters.T
    return 10 * np.log10(np.maximum(mel / mel.max(), 1e-8))


@pytest.mark.parametrize("seed", range(3))
def test_a_log_mel_is_what_numpy_finds(seed: int) -> None:
    samples = np.random.RandomState(seed).normal(size=RATE).astype(np.float32) + 3 * sine(700, 1.0)
    found = LogMel(RATE, 1.0, n_mels=32, window_ms=25, hop_ms=10)(torch.from_numpy(samples))
    assert found.shape == (1, 101, 32)
    np.testing.assert_allclose(found[0].numpy(), reference(samples, RATE, 32, 200, 80, 256), atol=2e-3)


def test_a_sine_lies_in_its_band_and_loudness_does_not_count() -> None:
    log_mel = LogMel(RATE, 0.5)
    found = log_mel(torch.from_numpy(sine(1_000)))
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4_000 / 700), 42)[1:-1] / 2595) - 1)
    assert found[0, 25].argmax() == np.abs(centres - 1_000).argmin()
    assert found.max() == 0 and found.min() >= -80
    torch.testing.assert_close(log_mel(torch.from_numpy(sine(1_000) / 100)), found, atol=1e-3, rtol=0)


def test_a_short_clip_is_followed_by_silence_a_long_one_cropped_about_its_centre() -> None:
    log_mel = LogMel(RATE, 0.5)
    short = log_mel(torch.from_numpy(sine(1_000, 0.2)))
    assert short.shape == log_mel.shape and (short[0, 25:] == -80).all() and short[0, :18].max() > -1
    long = sine(1_000, 1.5)
    assert log_mel(torch.from_numpy(long)).equal(log_mel(torch.from_numpy(long[4_000:8_000])))
    assert (log_mel(torch.zeros(4_000)) == -80).all()
    assert LogMel(RATE, 0.5, range_db=30)(torch.from_numpy(sine(1_000, 0.2))).min() == -30


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_mels": 0}, "data.n_mels=0 must be above 0"),
        ({"n_mels": 200}, "data.n_mels=200: .* fewer bands"),
        ({"range_db": 0.0}, "data.range_db=0.0 must be above 0"),
        ({"hop_ms": 0.01}, "too short at 8000 Hz"),
        ({"seconds": -1.0}, "data.seconds=-1.0"),
    ],
)
def test_features_that_cannot_be(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        LogMel(**({"sample_rate": RATE, "seconds": 0.5} | options))


# augmentation --------------------------------------------------------------------------------------------------------


def test_masks_and_shifts_come_from_the_row_and_the_epoch_alone() -> None:
    augment = SpecAugment(shift=0.2, time_masks=1, time_width=0.3, band_masks=1, band_width=0.3)
    images = torch.randn(64, 1, 40, 20)
    index = torch.arange(64)
    whole = augment(images, index, seed=1, epoch=2)
    alone = torch.cat([augment(images[i : i + 1], index[i : i + 1], seed=1, epoch=2) for i in range(64)])
    assert whole.equal(alone)
    assert not whole.equal(augment(images, index, seed=1, epoch=3))
    assert not whole.equal(augment(images, index, seed=2, epoch=2))
    assert SpecAugment().active is False


def test_masks_are_as_wide_as_they_may_be_and_hold_the_mean() -> None:
    images = torch.randn(500, 1, 40, 20)
    changed = SpecAugment(time_masks=1, time_width=0.25)(images, torch.arange(500), seed=0, epoch=0)
    hidden = (changed != images)[:, 0].all(2)  # (B, frames)
    assert (changed != images)[:, 0].any(2).equal(hidden), "a whole frame or nothing"
    widths = hidden.sum(1)
    assert set(widths.tolist()) == set(range(11))
    torch.testing.assert_close(
        changed[:, 0][hidden], images.mean((1, 2, 3))[hidden.nonzero()[:, 0], None].expand(-1, 20)
    )
    bands = SpecAugment(band_masks=2, band_width=0.25)(images, torch.arange(500), seed=0, epoch=0)
    assert (bands != images)[:, 0].all(1).sum(1).max() > 5


def test_a_clip_is_played_faster_or_slower_about_its_middle() -> None:
    frames = torch.arange(21, dtype=torch.float32)
    images = frames.view(1, 1, 21, 1).expand(100, 1, 21, 3)
    changed = SpecAugment(stretch=0.5)(images, torch.arange(100), seed=0, epoch=0)
    middle = changed[:, 0, 10, 0]
    torch.testing.assert_close(middle, torch.full((100,), 10.0))
    steps = changed[:, 0, 11, 0] - middle  # frames of the clip that pass in one
    assert 0.5 <= steps.min() < 0.6 and 1.4 < steps.max() <= 1.5
    for clip, speed in zip(changed[:, 0], steps, strict=True):
        place = 10 + (frames - 10) * speed
        inside = (place > 0.01) & (place < 19.99)
        torch.testing.assert_close(clip[inside], place[inside, None].expand(-1, 3), rtol=1e-4, atol=1e-4)
        assert (clip[(place < -0.01) | (place > 20.01)] == 0).all()  # silence


def test_a_shift_moves_the_frames_and_brings_silence() -> None:
    images = torch.arange(1.0, 11).view(1, 1, 10, 1).expand(200, 1, 10, 3)
    changed = SpecAugment(shift=0.3)(images, torch.arange(200), seed=0, epoch=0)[:, 0, :, 0]
    pitched = SpecAugment(band_shift=0.3)(images.mT, torch.arange(200), seed=0, epoch=0)[:, 0, 0]
    moved = {tuple(i + 1.0 - move if 0 <= i - move < 10 else 1.0 for i in range(10)) for move in range(-3, 4)}
    assert set(map(tuple, changed.tolist())) == set(map(tuple, pitched.tolist())) == moved


# data ----------------------------------------------------------------------------------------------------------------


def test_tones_are_the_same_again_and_balanced() -> None:
    first, second, other = Tones(rows=50), Tones(rows=50), Tones(rows=50, split_seed=1)
    for data in (first, second, other):
        data.setup("fit")
    assert first.spec == second.spec and first.spec.sha256 != other.spec.sha256
    assert first.spec.class_counts == (6,) * 5 and first.spec.input_shape == (1, 51, 40)
    assert DataSpec.from_dict(first.spec.to_dict()) == first.spec


def test_files_of_other_rates_and_channels_are_converted_and_counted(tmp_path: Path) -> None:
    folder(tmp_path)
    write(tmp_path / "low" / "fast.flac", sine(300, rate=44_100), 44_100)
    write(tmp_path / "low" / "stereo.ogg", np.stack([sine(300, rate=16_000), sine(300, rate=16_000)], 1), 16_000)
    write(tmp_path / "high" / "long.wav", sine(1_500, 2.0))
    data = ready(tmp_path)
    described = data.describe()
    assert described["sample_rates"] == {"8000": 21, "16000": 1, "44100": 1}
    assert described["channels"] == {"1": 22, "2": 1}
    assert described["seconds"] == pytest.approx([0.3, 0.3, 2.0])
    assert data.spec.input.log_mel.sample_rate == RATE and data.spec.input.log_mel.seconds >= 0.3
    assert described["cropped"] + described["padded"] <= 23 and described["cropped"] >= 1
    low = ready(tmp_path, seconds=0.3, sample_rate=4_000)
    assert low.spec.input_shape == (1, 31, 40) and low.describe()["cropped"] == 3


def test_the_length_comes_from_the_training_part(tmp_path: Path) -> None:
    folder(tmp_path / "train")
    for part in ("val", "test"):
        for label in ("low", "high"):
            write(tmp_path / part / label / "1.wav", sine(700, 3.0))
    assert ready(tmp_path).spec.input.log_mel.seconds == pytest.approx(0.3)


def test_rows_in_files_are_those_in_memory(tmp_path: Path) -> None:
    here, there = ready(folder(tmp_path)), ready(tmp_path, in_memory=False, num_workers=1)
    index = torch.arange(len(here.splits["test"]["target"]))
    assert here.splits["test"]["input"].equal(there.splits["test"]["input"][index])
    assert here.spec.input.mean == pytest.approx(there.spec.input.mean)
    loader = there.train_dataloader()
    assert sum(len(batch["target"]) for batch in loader) == there.spec.splits["train"]
    loader.close()
    assert here.row_name("test", 0).startswith("test ") and here.row_name("test", 0).endswith(".wav")


# bad input -----------------------------------------------------------------------------------------------------------


def fake(path: Path) -> None:
    path.write_text("not a sound")


def no_bytes(path: Path) -> None:
    path.write_bytes(b"")


def no_frames(path: Path) -> None:
    write(path, np.zeros(0, np.float32))


def not_finite(path: Path) -> None:
    write(path, np.array([0, 0.5, np.nan, 0.1], np.float32), subtype="FLOAT")


BAD = {
    fake: "cannot be read as sound .its content is not a sound file's",
    no_bytes: r"is empty \(0 bytes\)",
    no_frames: r"has no samples \(0 seconds\)",
    not_finite: "sample 2 .* is not finite",
}


@pytest.mark.parametrize("spoil", BAD)
def test_a_bad_file_is_named(tmp_path: Path, spoil) -> None:
    spoil(folder(tmp_path) / "low" / "bad.wav")
    with pytest.raises(UserError, match=f"data.path: low/bad.wav:? {BAD[spoil]}"):
        ready(tmp_path)


def test_bad_files_are_left_out_and_listed(tmp_path: Path, capsys) -> None:
    folder(tmp_path)
    for spoil in BAD:
        spoil(tmp_path / "low" / f"{spoil.__name__}.wav")
    data = ready(tmp_path, on_bad="skip")
    assert sum(data.spec.splits.values()) == 20
    assert sorted(data.describe()["left_out"]) == sorted(f"low/{spoil.__name__}.wav" for spoil in BAD)
    assert "4 of 24 clips cannot be read and are left out: low/" in capsys.readouterr().err
    plain = tmp_path / "plain"
    assert ready(folder(plain)).spec.sha256 == data.spec.sha256


def test_a_class_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "none").mkdir()
    fake(tmp_path / "none" / "1.wav")
    with pytest.raises(UserError, match="no clip of class none in all can be read"):
        ready(tmp_path, on_bad="skip")


def test_folders_without_classes_or_sound(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        ready(tmp_path / "nowhere")
    write(tmp_path / "1.wav", sine(300))
    with pytest.raises(UserError, match="has 0 class folders, two or more are needed"):
        ready(tmp_path)
    folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no sound in the class folder .*empty"):
        ready(tmp_path)


def test_a_clip_shorter_than_a_window_and_one_longer_than_all_are_taken(tmp_path: Path) -> None:
    folder(tmp_path)
    write(tmp_path / "low" / "tiny.wav", sine(300, 0.001))
    write(tmp_path / "low" / "huge.wav", sine(300, 10.0))
    data = ready(tmp_path)
    assert data.spec.input.log_mel.seconds < 1
    assert all(torch.isfinite(part["input"]).all() for part in data.splits.values())


# prediction and evaluation -------------------------------------------------------------------------------------------


def test_new_files_become_the_images_of_training(tmp_path: Path) -> None:
    data = ready(folder(tmp_path))
    rows = [rows for rows in Sounds(data.spec, path=tmp_path).batches(7)]
    assert [len(r.input) for r in rows] == [7, 7, 6]
    names = [name for r in rows for name in r.names["file"]]
    assert names == sorted(names) and names[0] == "high/0.wav"
    whole = data.whole(data.spec)
    assert torch.cat([r.input for r in rows]).equal(whole["input"][torch.arange(20)])
    (alone,) = Sounds(data.spec, path=tmp_path / "low" / "3.wav").batches(4)
    assert alone.names == {"file": ["3.wav"]} and alone.input.equal(torch.cat([r.input for r in rows])[13:14])
    fake(tmp_path / "low" / "bad.wav")
    with pytest.raises(UserError, match="low/bad.wav cannot be read as sound"):
        list(Sounds(data.spec, path=tmp_path).batches(7))
    source = Sounds(data.spec, path=tmp_path, on_bad="skip")
    assert sum(len(r.input) for r in source.batches(7)) == 20
    assert source.notes == ["1 of 21 clips cannot be decoded and are left out: low/bad.wav"]
    with pytest.raises(UserError, match="no clip in"):
        list(Sounds(data.spec, path=(tmp_path / "empty").mkdir() or tmp_path / "empty").batches(7))


@pytest.mark.slow
def test_a_run_on_sound_is_trained_evaluated_and_asked(lab: Lab, tmp_path: Path) -> None:
    first, second = folder(tmp_path / "first"), folder(tmp_path / "second", 4)
    common = ["data=audio_folder", f"data.path={first}", "trainer.max_epochs=12", "tracking.system_metrics=false"]
    result = lab.train("model=gru", "model.hidden_size=16", *common)
    assert result.code == 0, result.err
    result = lab.run("evaluate", "run=last", f"data.path={second}")
    assert result.code == 0, result.err
    assert re.search(r"low .*\b4 │", result.out), result.out
    result = lab.run("predict", "run=last", f"data.path={second}", "output=answers.csv")
    assert result.code == 0, result.err
    lines = (lab.folder / "answers.csv").read_text().splitlines()
    assert len(lines) == 9 and lines[0].startswith("file,") and lines[1].startswith("high/0.wav,high,")


# spoken digits -------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_spoken_digits_have_the_upstream_parts(data_folder: Path) -> None:
    data = build_node(compose(["data=spoken_digits", f"data.root={data_folder}"]).data)
    data.setup("fit")
    assert data.spec.splits == {"train": 2_430, "val": 270, "test": 300}
    assert torch.bincount(data.splits["test"]["target"]).tolist() == [30] * 10
    names = [data.row_name("test", row).split()[1] for row in range(300)]
    assert {int(name.removesuffix(".wav").split("_")[2]) for name in names} == set(range(5))
    assert {name.split("_")[1] for name in names} == set(SpokenDigits.speakers)
    assert [int(name[0]) for name in names] == data.splits["test"]["target"].tolist()


@pytest.mark.real_data
@pytest.mark.slow
def test_an_unseen_speaker_is_in_the_test_part_alone(data_folder: Path) -> None:
    options = ["data.speakers_out=[theo]", "data.val_speakers=[lucas]"]
    data = build_node(compose(["data=spoken_digits", f"data.root={data_folder}", *options]).data)
    data.setup("fit")
    speakers = {
        part: {data.row_name(part, row).split("_")[1] for row in range(size)} for part, size in data.spec.splits.items()
    }
    assert data.spec.splits == {"train": 2_000, "val": 500, "test": 500}
    assert speakers == {"train": {"george", "jackson", "nicolas", "yweweler"}, "val": {"lucas"}, "test": {"theo"}}


def test_spoken_digits_that_are_not_there_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="speakers_out: there is no speaker theoo.*theo"):
        SpokenDigits(speakers_out=["theoo"])
    with pytest.raises(UserError, match="leave no speaker"):
        SpokenDigits(speakers_out=list(SpokenDigits.speakers))
    with pytest.raises(UserError, match="theo is in data.speakers_out too"):
        SpokenDigits(speakers_out=["theo"], val_speakers=["theo"])
    data = SpokenDigits(root=str(tmp_path))
    with pytest.raises(UserError, match="git clone"):
        data.setup("fit")
    write(tmp_path / "fsdd" / "recordings" / "0_theo_0.wav", sine(300))
    with pytest.raises(UserError, match="holds 1 recordings, which are not the 3,000"):
        data.setup("fit")
    link = tarfile.TarInfo("recordings/1_theo_0.wav")
    link.type, link.linkname = tarfile.SYMTYPE, "nowhere.wav"  # is no recording
    with tarfile.open(tmp_path / "fsdd" / "recordings.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "fsdd" / "recordings" / "0_theo_0.wav", "recordings/0_theo_0.wav")
        archive.addfile(link)
    shutil.rmtree(tmp_path / "fsdd" / "recordings")
    with pytest.raises(UserError, match="holds 1 recordings, which are not the 3,000"):
        data.setup("fit")


def test_reading_takes_the_mean_of_the_channels(tmp_path: Path) -> None:
    path = write(tmp_path / "two.wav", np.stack([sine(300), -sine(300)], 1))
    recording = read(path, "two.wav")
    assert recording.channels == 2 and np.abs(recording.samples).max() < 1e-4
    assert read(path.read_bytes(), "two.wav").seconds == pytest.approx(0.5)


def test_no_model_scores_or_draws_clips() -> None:
    data = build_node(compose(["data=tones", "data.rows=50", "data.anomalies=[rising]"]).data)
    with pytest.raises(UserError, match=r"data.anomalies: no model here scores rows of data=tones; leave it empty"):
        data.setup()
    config = compose(["model=vae", "data=tones", "data.rows=50"])
    data = build_node(config.data)
    data.setup()
    assert data.spec.tasks == ("classification",)
    with pytest.raises(UserError, match="VAE serves density; data=tones offers classification; models that fit: "):
        build_model(config, data.spec)
