# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the doctor may find, and the limits that make a measure a finding."""

from dataclasses import dataclass

from espnet_av.utils.errors import UsageError, describe

#: Kind of finding -> what it means.
KINDS = {
    "unreadable": "a file is gone, damaged, or of an unknown format",
    "truncated": "a file ends before its header or the tables say",
    "not_finite": "samples that are no numbers",
    "silent": "no sound at all: nothing above -60 dB of full scale",
    "mostly_silent": "hardly any sound beside pauses",
    "quiet": "very soft",
    "loudness": "much louder or softer than the set",
    "clipped": "flat tops: the level was too high when it was recorded",
    "hole": "digital silence in the middle of the sound, as of lost packets",
    "dc_offset": "the samples are not centred at zero",
    "length_mismatch": "sound and video differ in length",
    "frame_rate": "the ratio of the lengths of sound and video says that the frame rate is wrong",
    "av_offset": "sound and lips go together best when one of them is shifted",
    "av_drift": "sound and lips go together best when one of them is played faster",
    "no_lip_motion": "the pictures do not change",
    "repeated_frames": "frames that equal the one before: dropped ones were filled up, or the frame rate was changed",
    "blank_video": "pictures of one colour",
    "empty_text": "a transcript without a word",
    "unknown_units": "a transcript with characters or words that training does not know",
    "speaking_rate": "too many characters for the time: the clip is cut, or it is another transcript",
    "duplicate": "the same sound, sample by sample, as an earlier clip of the set",
    "duplicate_video": "the same pictures as an earlier clip of the set, with another sound",
    "near_duplicate": "the same recording as an earlier clip of the set: another level, format or start",
    "leak": "the recording is also in a set that is not for training",
}
#: What leaves a clip of a training or validation set out unless something else is asked for; the rest are warnings.
DEFAULT_DROP = ("unreadable", "truncated", "not_finite", "silent")


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        set_name: The set.
        utt: The utterance; empty for a finding about a whole set or speaker.
        kind: Key of :data:`KINDS`.
        detail: The measure and the limit, or the other clip.
        part: Talker of a mixture; empty elsewhere.
        drop: Whether it leaves the utterance out.
    """

    set_name: str
    utt: str
    kind: str
    detail: str
    part: str = ""
    drop: bool = False


@dataclass(frozen=True)
class Limits:
    """Where a measure becomes a finding.

    Attributes:
        silent_db: Peak below which a clip is silent, in dB of full scale.
        quiet_lufs: Loudness below which it is soft.
        loudness_lu: Distance from the median loudness of the set.
        clipped_share: Share of samples in flat tops, 0 to 1.
        min_tops: And so many flat tops at least.
        top_share: Share of the sounding samples within 3 dB of the top: clipped before lossy coding rounded its tops.
        speech_share: Smallest share of frames with sound.
        hole_sec: Longest digital silence between sounding samples.
        dc_offset: Largest mean of the samples.
        length_frames: Largest difference of the lengths of sound and video, in video frames.
        rate_ratio: Largest distance of their ratio over a set from 1.
        offset_frames: Smallest offset between sound and lips that counts.
        offset_margin: How much more like the usual shape the correlation must be there than in sync.
        offset_lead: How much more than anywhere else, further than three frames away.
        offset_gain: How much higher the correlation itself must be there than in sync.
        offset_height: And how high.
        drift_frames: Smallest change of the offset within a clip.
        drift_gain: How much higher the correlation must be with the speed changed.
        drift_sec: Shortest clip whose own drift is judged; the drift of a set is judged on all.
        repeated_share: Largest share of repeated frames.
        near_repeats: Largest share of frames that are repeated but for lossy coding.
        min_near_repeats: And so many of them at least.
        chars_per_sec: Highest speaking rate.
        same_error: Largest share of differing bits of two fingerprints of one recording.
        same_sec: Shortest sounding time that two clips must share.
    """

    silent_db: float = -60.0
    quiet_lufs: float = -50.0
    loudness_lu: float = 15.0
    clipped_share: float = 1e-3
    min_tops: int = 5
    top_share: float = 0.2
    speech_share: float = 0.15
    hole_sec: float = 0.1
    dc_offset: float = 0.02
    length_frames: float = 2.0
    rate_ratio: float = 0.002
    offset_frames: float = 2.0
    offset_margin: float = 0.1
    offset_lead: float = 0.05
    offset_gain: float = 0.06
    offset_height: float = 0.35
    drift_frames: float = 2.0
    drift_gain: float = 0.06
    drift_sec: float = 8.0
    repeated_share: float = 0.15
    near_repeats: float = 0.1
    min_near_repeats: int = 5
    chars_per_sec: float = 35.0
    same_error: float = 0.25
    same_sec: float = 0.5


def check_kinds(names: list[str], option: str) -> tuple[str, ...]:
    """Return kinds that the user named.

    Raises:
        UsageError: One is unknown.
    """
    for name in names:
        if name not in KINDS:
            raise UsageError(describe(f"{option}: unknown kind of finding", name, list(KINDS)))
    return tuple(names)
