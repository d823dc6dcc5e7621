# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Make all clips of one mini_av speaker: ``python -m espnet_av.corpora.mini_av_speaker < job.json``.

``mini_av`` starts this in a fresh process for every speaker, because the synthesiser's samples depend on what the
process spoke before. The folder of a speaker appears only when it is complete. One line per finished clip goes to
standard output. The process ends by itself when its parent is gone.
"""

import hashlib
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.avgen.face.identity import Identity, make_identity
from espnet_av.corpora.sentences import speaker_name
from espnet_av.corpora.voices import Voice, voice_of

SAMPLE_RATE = 16000
FPS = 25
CRF = 19
FORMAT = 2  # raise this when the same seed gives other clips: finished speakers are then made again
_SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
_MIN_PAD_SEC, _MAX_PAD_SEC = 0.22, 0.38
_MIN_CLIP_SEC = 2.0
_SLOW_WORDS, _HASTE = 6, 1.12  # sentences of more words are spoken faster by this factor
_LEVEL_DB = -26.0  # of the active speech, below full scale
_FLOOR_DB = -66.0  # of the room noise
SPEAKER_FILE = "speaker.json"


@dataclass(frozen=True)
class SpeakerJob:
    """What a worker is told.

    ``index`` counts all speakers, ``rank`` those of its group (training or unseen); ``utterances`` holds (id, split,
    text) in the order of speaking.
    """

    corpus_dir: str
    index: int
    rank: int
    unseen: bool
    seed: int
    utterances: tuple[tuple[str, str, str], ...]

    @property
    def speaker(self) -> str:
        """Name of the speaker."""
        return speaker_name(self.index)

    @property
    def folder(self) -> Path:
        """Where the finished clips lie."""
        return Path(self.corpus_dir) / self.speaker

    def digest(self) -> str:
        """Return what identifies the content of the folder: format, seed, speaker and texts."""
        facts = [FORMAT, self.index, self.rank, self.unseen, self.seed, [list(item) for item in self.utterances]]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def is_done(self) -> bool:
        """Return whether the folder is complete and was made from the same job."""
        try:
            return json.loads((self.folder / SPEAKER_FILE).read_text())["job"] == self.digest()
        except (OSError, ValueError, KeyError):
            return False


class SpeakerMaker:
    """Speak, move and film the utterances of one speaker, in order."""

    def __init__(self, job: SpeakerJob) -> None:
        import cv2

        from espnet_av.avgen.face.renderer import FaceRenderer
        from espnet_av.corpora.espeak import Espeak

        cv2.setNumThreads(1)
        self._job = job
        self._voice: Voice = voice_of(job.rank, unseen=job.unseen)
        self._face: Identity = make_identity(job.index, job.seed, high_voice=self._voice.high)
        self._renderer, self._espeak = FaceRenderer(self._face), Espeak()

    def describe(self) -> dict[str, Any]:
        """Return who the speaker is."""
        return {
            "speaker": self._job.speaker,
            "job": self._job.digest(),
            "unseen": self._job.unseen,
            "seed": self._job.seed,
            "voice": asdict(self._voice),
            "face": asdict(self._face),
            "espeak_version": self._espeak.version,
        }

    def make(self, number: int, utt_id: str, split: str, text: str, folder: Path) -> dict[str, Any]:
        """Make one clip in ``folder``: mp4, flac, json and npz.

        Args:
            number: Position of the utterance in the job.
            utt_id: File stem.
            split: Name of its data folder.
            text: Words; empty for a silent clip.
            folder: Where to write.

        Returns:
            What the corpus file lists: id, split, text, lengths and digests.
        """
        from espnet_av.avgen.face.visemes import ARTICULATION
        from espnet_av.data.audio_io import write_audio
        from espnet_av.data.video_io import write_video

        rng = np.random.default_rng([self._job.seed, 61, self._job.index, number])
        render_seed = int(rng.integers(1 << 31))
        wave, words, phones = self._speak(text, rng) if text else self._silence(rng)
        num_frames = len(wave) // _SAMPLES_PER_FRAME
        tracks = self._move(phones, num_frames, rng, talks=bool(text)).rounded()
        frames = self._renderer.render(tracks, render_seed)
        pcm = np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)
        write_video(folder / f"{utt_id}.mp4", frames, fps=FPS, audio=wave, sample_rate=SAMPLE_RATE, crf=CRF)
        write_audio(folder / f"{utt_id}.flac", pcm, SAMPLE_RATE)
        np.savez(folder / f"{utt_id}.npz", **vars(tracks))
        facts = {
            "utt_id": utt_id,
            "split": split,
            "text": text,
            "num_samples": len(pcm),
            "num_frames": num_frames,
            "pcm_md5": hashlib.md5(pcm.tobytes()).hexdigest(),
            "frames_md5": frames_md5(frames),
        }
        details = {
            **facts,
            "speaker": self._job.speaker,
            "sample_rate": SAMPLE_RATE,
            "fps": FPS,
            "render_seed": render_seed,
            "articulation": ARTICULATION,
            "words": words,
            "phones": phones,
        }
        (folder / f"{utt_id}.json").write_text(json.dumps(details) + "\n", encoding="utf-8")
        return facts

    def _speak(self, text: str, rng: np.random.Generator) -> tuple[np.ndarray, list, list]:
        """Return the padded waveform (N,) and the words and phones as (label, start, end) in seconds of the clip."""
        from espnet_av.data.audio_io import resample_audio

        voice = self._voice
        haste = _HASTE if len(text.split()) > _SLOW_WORDS else 1.0
        rate = round(voice.rate * haste * rng.uniform(0.95, 1.06))
        pitch = int(np.clip(round(voice.pitch + rng.normal(0, 2)), 0, 99))
        speech = self._espeak.say(text, voice.name, rate, pitch, voice.pitch_range)
        wave = resample_audio(speech.pcm.astype(np.float32) / 32768, speech.sample_rate, SAMPLE_RATE).astype(np.float64)
        active = wave[np.abs(wave) > 0.05 * np.abs(wave).max()]
        level = 10 ** ((_LEVEL_DB + rng.uniform(-2, 2)) / 20) / np.sqrt(np.mean(active**2))
        wave *= min(level, 0.95 / np.abs(wave).max())
        before, after = rng.uniform(_MIN_PAD_SEC, _MAX_PAD_SEC, 2)
        missing = max(0.0, _MIN_CLIP_SEC - before - after - len(wave) / SAMPLE_RATE)
        lead = round((before + missing / 2) * SAMPLE_RATE)
        tail = round((after + missing / 2) * SAMPLE_RATE)
        tail += -(lead + len(wave) + tail) % _SAMPLES_PER_FRAME
        wave = np.pad(wave, (lead, tail)) + self._room(lead + len(wave) + tail, rng)
        shift, end = lead / SAMPLE_RATE, len(wave) / SAMPLE_RATE
        words = [(s.label, round(s.start + shift, 4), round(s.end + shift, 4)) for s in speech.words]
        phones = [(s.label, round(s.start + shift, 4), round(s.end + shift, 4)) for s in speech.phones]
        spoken = round(shift + len(speech.pcm) / speech.sample_rate, 4)
        return wave, words, [("sil", 0.0, round(shift, 4)), *phones, ("sil", spoken, end)]

    def _silence(self, rng: np.random.Generator) -> tuple[np.ndarray, list, list]:
        num_frames = int(rng.uniform(2.0, 3.2) * FPS)
        wave = self._room(num_frames * _SAMPLES_PER_FRAME, rng)
        return wave, [], [("sil", 0.0, num_frames / FPS)]

    def _room(self, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        from espnet_av.corpora.acoustics import coloured_noise

        return coloured_noise(num_samples, "pink", SAMPLE_RATE, rng) * 10 ** ((_FLOOR_DB + rng.uniform(-4, 4)) / 20)

    def _move(self, phones: list, num_frames: int, rng: np.random.Generator, *, talks: bool) -> Any:
        """Return the motion tracks of the clip."""
        from espnet_av.avgen.face import motion as face_motion
        from espnet_av.avgen.face.renderer import MotionTracks
        from espnet_av.avgen.face.visemes import articulation_track, viseme_spans

        lag = self._face.articulation_lag
        articulation = articulation_track(viseme_spans(phones), num_frames, FPS, lag)
        if not talks:
            articulation = face_motion.idle_mouth(articulation, rng)
        pose = face_motion.pose_track(self._face, num_frames, rng)
        return MotionTracks(
            articulation, pose, face_motion.blink_track(num_frames, rng), face_motion.gaze_track(num_frames, rng)
        )


def frames_md5(frames: np.ndarray) -> str:
    """Return the MD5 of the green channel at every other pixel of the frames ``(T, H, W, 3)``; all would take long."""
    return hashlib.md5(np.ascontiguousarray(frames[:, ::2, ::2, 1]).tobytes()).hexdigest()


def run_job(job: SpeakerJob, parent: int | None = None) -> None:
    """Make the folder of a speaker unless it is complete already.

    Args:
        job: What to make.
        parent: Process id of the parent; when it is no longer the parent, stop.
    """
    partial = job.folder.with_name(f".{job.speaker}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        maker = SpeakerMaker(job)
        done = []
        for number, (utt_id, split, text) in enumerate(job.utterances):
            if parent is not None and os.getppid() != parent:
                raise SystemExit("the parent process is gone")
            done.append(maker.make(number, utt_id, split, text, partial))
            sys.stdout.write(utt_id + "\n")
            sys.stdout.flush()
        record = {**maker.describe(), "utterances": done}
        (partial / SPEAKER_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(job.folder, ignore_errors=True)
        os.replace(partial, job.folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main() -> int:
    """Read a job from standard input and do it."""
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    message = json.load(sys.stdin)
    job = SpeakerJob(**{**message["job"], "utterances": tuple(map(tuple, message["job"]["utterances"]))})
    run_job(job, parent=message["parent"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
