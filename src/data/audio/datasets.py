"""Sound by class: generated tones, your own files in class folders, and recordings of spoken digits."""

from __future__ import annotations

import hashlib
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import torch
from torch import Tensor
from typing_extensions import override

from src.data.audio.clips import Clips, described, tracked
from src.data.audio.features import FORMATS, LogMel
from src.data.audio.specaugment import SpecAugment
from src.data.core.class_folders import labelled
from src.data.core.files import data_root
from src.data.core.module import DataModule
from src.data.core.splits import Split, column_as, tensor_of
from src.errors import UserError, suggest
from src.runtime.compat.lightning import own_rank
from src.runtime.ranges import NonNegativeFloat, PositiveInt
from src.spec import AudioSpec, DataSpec, InputSpec

_SHARE = 0.25  # of the free memory that spectrograms may take
_LONGEST = 0.95  # quantile of the training clips' lengths that a clip is brought to
_TOLD = 5  # files left out that are named to the user


class Sound(DataModule):
    """Base of all datasets of sound: images of log-mel spectrograms, as `LogMel` describes them.

    Args:
        n_mels: bands of the spectrogram.
        window_ms, hop_ms: length of a window, and from one to the next, in milliseconds.
        range_db: what is so many decibels below a clip's loudest value or quieter counts as silence.
        augment: random masks and shifts of the training images.

    Attributes:
        log_mel: what makes the images, complete once the data is set up.
    """

    inputs = (AudioSpec,)

    def __init__(
        self,
        *,
        n_mels: int = 40,
        window_ms: float = 25.0,
        hop_ms: float = 10.0,
        range_db: float = 80.0,
        augment: SpecAugment | None = None,
        **options,
    ) -> None:
        super().__init__(augment=augment, **options)
        self._options: dict[str, Any] = dict(n_mels=n_mels, window_ms=window_ms, hop_ms=hop_ms, range_db=range_db)
        self.log_mel: LogMel | None = None

    def _measure_input(self, **more: object) -> InputSpec:
        return super()._measure_input(log_mel=self._ready().spec, **more)

    def _ready(self) -> LogMel:
        """The spectrograms' settings, once they are complete."""
        if self.log_mel is None:
            raise RuntimeError("setup() comes first")
        return self.log_mel


class Tones(Sound):
    """Half a second of generated sound in noise: does a tone rise, fall, stay, tremble in loudness or in pitch?

    Pitch, speed, loudness, length, place and noise are drawn anew for each clip; a class is in the course alone.

    Args:
        rows: clips, dealt to the classes in turn.
        noise: loudness of the noise beside the tone's, as a ratio of their amplitudes.
    """

    name = "tones"
    source = "generated"
    class_names = ("rising", "falling", "steady", "tremolo", "vibrato")

    def __init__(self, *, rows: PositiveInt = 1_000, noise: NonNegativeFloat = 0.5, **options) -> None:
        super().__init__(**options)
        self.rows, self.noise = rows, noise
        self.log_mel = LogMel(sample_rate=8_000, seconds=0.5, **self._options)

    @override
    def load(self) -> dict[str, Split]:
        target = torch.arange(self.rows) % len(self.class_names)
        draw = np.random.RandomState(self.split_seed)  # numpy's legacy stream is promised never to change
        log_mel = self._ready()
        images = [log_mel(torch.from_numpy(self._tone(self.class_names[label], draw))) for label in target]
        return {"all": {"input": torch.stack(images), "target": target}}

    def _tone(self, course: str, draw: np.random.RandomState) -> np.ndarray:
        """One clip, float32 (N,)."""
        count, rate = self._ready().samples, self._ready().sample_rate
        length = int(count * draw.uniform(0.5, 1.0))
        time = np.arange(length) / rate
        pitch, swing, speed = draw.uniform(300, 2_000), draw.uniform(0.15, 0.6), draw.uniform(6, 15)
        loudness, frequency = np.ones(length), np.full(length, pitch)
        waves = np.sin(2 * np.pi * speed * time + draw.uniform(0, 2 * np.pi))
        if course in ("rising", "falling"):
            way = 1 if course == "rising" else -1
            frequency *= np.exp(way * swing * (time / time[-1] - 0.5))
        elif course == "tremolo":
            loudness += swing * 1.5 * waves
        elif course == "vibrato":
            frequency *= 1 + swing / 5 * waves
        phase = 2 * np.pi * frequency.cumsum() / rate + draw.uniform(0, 2 * np.pi)
        clip = draw.normal(size=count) * self.noise * 0.5**0.5  # a sine of amplitude 1 has that deviation
        start = draw.randint(count - length + 1)
        clip[start : start + length] += loudness * np.sin(phase)
        return (clip * draw.uniform(0.1, 1.0)).astype(np.float32)


class Recordings(Sound):
    """Clips in files. Every one is read before training, so that a broken one is found then, and measured.

    Args:
        sample_rate: null: the one that most training clips have.
        seconds: null: the length that 95 % of the training clips do not exceed.
        in_memory: make all spectrograms before training. null: where they take at most a quarter of the free memory.
            Otherwise `num_workers` processes make them batch by batch, and mean, standard deviation and fingerprint are
            those of up to 2,000 clips.
        on_bad: `skip` leaves out the files that cannot be read, says which, and lists them in the description; `error`
            stops at the first one.

    Attributes:
        left_out: what `skip` left out, by name with the reason.
    """

    ordered = False  # class by class

    def __init__(
        self,
        *,
        sample_rate: int | None = None,
        seconds: float | None = None,
        in_memory: bool | None = None,
        on_bad: Literal["error", "skip"] = "error",
        **options,
    ) -> None:
        super().__init__(**options)
        # what is left to the data stands for something common, so that a wrong option is told before anything is read
        LogMel(sample_rate or 44_100, seconds or 1.0, **(self._options | {"n_mels": min(1, self._options["n_mels"])}))
        if on_bad not in ("error", "skip"):
            raise UserError(f"data.on_bad={on_bad}: error or skip")
        self.sample_rate, self.seconds = sample_rate, seconds
        self.in_memory, self.on_bad = in_memory, on_bad
        self.left_out: dict[str, str] = {}
        self._found: dict[str, Any] = {}

    def _checked(self, clips: Clips, labels: Sequence[int], split: str) -> Split:
        """The clips that can be read, with their class, length in seconds, sample rate and channels.

        Raises:
            UserError: one that cannot be, or a class of which none can.
        """
        good, measures = [], []
        for row in tracked(range(len(clips)), f"reading {split}"):
            try:
                recording = clips.recording(row)
            except UserError as error:
                if self.on_bad == "error":
                    raise
                self.left_out[clips.name(row)] = str(error)
                continue
            good.append(row)
            measures.append((recording.seconds, recording.sample_rate, recording.channels))
        for label in sorted(set(labels) - {labels[row] for row in good}):
            raise UserError(f"data.path: no clip of class {self.class_names[label]} in {split} can be read")
        rows, lengths = torch.tensor(good), torch.tensor(measures, dtype=torch.float64)
        return {"input": clips.subset(rows), "target": torch.tensor(labels)[rows], "measures": lengths}

    def _split(self, splits: dict[str, Split]) -> dict[str, Split]:
        count = sum(len(split["input"]) for split in splits.values())
        _tell(self.name, self.left_out, count + len(self.left_out))
        splits = super()._split(splits)
        measures = {name: tensor_of(split, "measures") for name, split in splits.items()}
        for split in splits.values():
            del split["measures"]
        self._clips = {name: column_as(split, "input", Clips) for name, split in splits.items()}
        lengths, rates = measures["train"][:, 0], measures["train"][:, 1]
        hop = self._options["hop_ms"] / 1000
        seconds = self.seconds or float(-(-lengths.quantile(_LONGEST) // hop)) * hop or hop
        rate = self.sample_rate or int(rates.mode().values)
        self.log_mel = LogMel(rate, round(seconds, 6), **self._options)
        self._found = described(torch.cat(list(measures.values())), self.log_mel)
        keep = self.in_memory
        if keep is None:
            keep = 4 * count * np.prod(self.log_mel.shape) <= _SHARE * psutil.virtual_memory().available
        if self.on_device and not keep:
            raise UserError("data.on_device=true keeps rows in memory, these stay in their files: data.in_memory=true")
        for name, split in splits.items():
            clips = column_as(split, "input", Clips).made_by(self.log_mel)
            split["input"] = clips.read(name) if keep else clips
        return splits

    def row_name(self, split: str, row: int) -> str:
        """Split and file name of a row."""
        return f"{split} {self._clips[split].name(row)}"

    @override
    def describe(self) -> dict[str, Any]:
        left_out = {"left_out": dict(self.left_out)} if self.on_bad == "skip" else {}
        return super().describe() | self._found | left_out


class AudioFolder(Recordings):
    """Sound files in class folders: `path/CLASS/*.wav`, or `path/{train,val,test}/CLASS/*.wav`; also flac, ogg, mp3.

    Classes are the folders' names in alphabetical order. Parts that have no folder are split from `train`.

    Args:
        path: the folder; a relative one is taken from the working directory.

    Raises:
        UserError: no such folder, no class folder, a class without sound, a file that cannot be read.
    """

    name = "audio_folder"

    def __init__(self, *, path: str, **options) -> None:
        super().__init__(**options)
        self.path = Path(path).expanduser().absolute()

    @override
    def load(self) -> dict[str, Split]:
        self.source = str(self.path)
        found, self.class_names = labelled(self.path, FORMATS, "sound")
        return {split: self._checked(self._column(files), labels, split) for split, (files, labels) in found.items()}

    @override
    def whole(self, spec: DataSpec) -> Split:
        self.class_names = spec.class_names
        found = labelled(self.path, FORMATS, "sound", spec.class_names)[0].values()
        clips = self._column([file for files, _ in found for file in files])
        split = self._checked(clips, [label for _, labels in found for label in labels], "all")
        _tell(self.name, self.left_out, len(clips))
        self.log_mel = LogMel.from_spec(spec.input_as(AudioSpec).log_mel)
        self._found = described(tensor_of(split, "measures"), self.log_mel)
        del split["measures"]
        return split | {"input": column_as(split, "input", Clips).made_by(self.log_mel)}

    def _column(self, files: Sequence[Path]) -> Clips:
        return Clips(files, [file.relative_to(self.path).as_posix() for file in files])

    def _place(self, split: Split, rows: Tensor) -> str:
        return f"data.path: {self.path}"


class SpokenDigits(Recordings):
    """The Free Spoken Digit Dataset (Jackson et al. 2016): 3,000 recordings of ten digits by six speakers, at 8 kHz.

    The upstream test split holds the recordings 0 to 4 of each digit by each speaker, 300 in all.

    Args:
        speakers_out: whose recordings are the test split, all of them and nothing else: are new voices understood?
            null: the upstream test split.
        val_speakers: whose recordings are the validation split, likewise; null: a share of the training split.
        root: folder of the files, which lie in its folder `fsdd`: `recordings.tar.xz`, or the folder `recordings` as
            upstream has it. null: the folder named by the environment variable LABBOOK_DATA_ROOT, else data/ in the
            project.

    Raises:
        UserError: the files are missing or damaged; a speaker that is not there, or none left to learn from.
    """

    name = "spoken_digits"
    source = "https://github.com/Jakobovski/free-spoken-digit-dataset"
    class_names = tuple("0123456789")
    speakers = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    # of all names and contents, in the order of the names
    sha256 = "45a9b976ba3397a2fd5c70a9f2e43c34f442a3a6be47392ecfc41174b678f37e"

    def __init__(
        self,
        *,
        root: str | None = None,
        speakers_out: list[str] | None = None,
        val_speakers: list[str] | None = None,
        **options,
    ) -> None:
        super().__init__(**options)
        for option, names in (("speakers_out", speakers_out), ("val_speakers", val_speakers)):
            for name in names or ():
                if name not in self.speakers:
                    raise UserError(f"data.{option}: there is no speaker {name}{suggest(name, self.speakers)}")
        self.folder = data_root(root) / "fsdd"
        self.speakers_out, self.val_speakers = speakers_out or [], val_speakers or []
        if both := set(self.speakers_out) & set(self.val_speakers):
            raise UserError(f"data.val_speakers: {', '.join(sorted(both))} is in data.speakers_out too")
        if len(self.speakers_out) + len(self.val_speakers) >= len(self.speakers):
            raise UserError("data.speakers_out and data.val_speakers leave no speaker to learn from")

    @override
    def load(self) -> dict[str, Split]:
        files = self._files()
        rows: dict[str, list[str]] = {}
        for name in files:
            rows.setdefault(self._part_of(name), []).append(name)
        return {
            split: self._checked(Clips([files[n] for n in names], names), [int(n[0]) for n in names], split)
            for split, names in rows.items()
        }

    def _part_of(self, name: str) -> str:
        """Name of the split that a file `DIGIT_SPEAKER_NUMBER.wav` belongs to."""
        _, speaker, number = name.removesuffix(".wav").split("_")
        if speaker in self.val_speakers:
            return "val"
        if self.speakers_out:
            return "test" if speaker in self.speakers_out else "train"
        return "test" if int(number) < 5 else "train"

    def _files(self) -> dict[str, bytes]:
        """Contents of the recordings by name, verified by their checksum."""
        archive, folder = self.folder / "recordings.tar.xz", self.folder / "recordings"
        files: dict[str, bytes] = {}
        try:
            if folder.is_dir():
                files = {path.name: path.read_bytes() for path in folder.glob("*.wav")}
            elif archive.is_file():
                with tarfile.open(archive) as content:
                    for member in content:  # each read as it comes: to go back is to unpack everything once more
                        wanted = member.name.endswith(".wav") and member.isfile()
                        if wanted and (file := content.extractfile(member)):
                            files[Path(member.name).name] = file.read()
            else:
                advice = f"git clone {self.source} {self.folder}"
                raise UserError(f"data={self.name}: neither {archive} nor {folder} is there: {advice}")
        except (OSError, EOFError, tarfile.TarError) as error:
            raise UserError(f"data={self.name}: {self.folder} cannot be read ({error})") from None
        digest = hashlib.sha256()
        for name in sorted(files):
            digest.update(name.encode() + files[name])
        if digest.hexdigest() != self.sha256:
            found = f"{len(files)} recordings, which are not the 3,000 of the release"
            raise UserError(f"data={self.name}: {self.folder} holds {found}: delete it and fetch it again")
        return {name: files[name] for name in sorted(files)}


def _tell(name: str, left_out: dict[str, str], count: int) -> None:
    """Print a line that names the clips left out."""
    if left_out and not own_rank():
        names = ", ".join(list(left_out)[:_TOLD]) + (", ..." if len(left_out) > _TOLD else "")
        print(f"{name}: {len(left_out)} of {count} clips cannot be read and are left out: {names}", file=sys.stderr)
