# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Optional loss: distance of the features that a frozen speech model hears in decoded and in original speech.

Axes: ``B`` batch, ``T`` samples.

The speech model (WavLM, HuBERT or wav2vec 2.0 of torchaudio) is downloaded on first use. Its weights stay out of
checkpoints.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.utils.errors import EnvironmentProblem, describe, usage_error

FEATURE_RATE = 16000  # Hz that the speech models were trained at
BUNDLES = {"wavlm_large": "WAVLM_LARGE", "hubert_large": "HUBERT_LARGE", "wav2vec2_large": "WAV2VEC2_LARGE_LV60K"}

#: Waveforms ``(B, T)`` at 16 kHz -> features of every layer.
ExtractFeatures = Callable[[Tensor], Sequence[Tensor]]


class SemanticLoss(nn.Module):
    """Mean over layers of ``mean|x - y| / (std(y) + 1e-5)`` for features ``x`` of decoded, ``y`` of original speech.

    Args:
        model: Name of a speech model (:data:`BUNDLES`), or a function that returns the features of every layer.
        sample_rate: Of the waveforms, in Hz.
        feature_ids: Layers to compare; None: all; ``[-1]``: the features before the first layer alone.

    Raises:
        UsageError: The name is unknown.
        EnvironmentProblem: The speech model is not on this machine and cannot be downloaded.
    """

    def __init__(
        self,
        model: str | ExtractFeatures = "wavlm_large",
        sample_rate: int = 24000,
        feature_ids: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.feature_ids = None if feature_ids is None else list(feature_ids)
        self.extract = load_extractor(model, self.feature_ids == [-1]) if isinstance(model, str) else model

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Return the distance ``()``.

        Args:
            estimate: Decoded speech ``(B, T)`` or ``(B, 1, T)``.
            target: Original speech of the same shape.
        """
        found = self.extract(self._resample(estimate))
        with torch.no_grad():
            wanted = self.extract(self._resample(target))
        chosen = range(len(wanted)) if self.feature_ids in (None, [-1]) else self.feature_ids
        losses = [F.l1_loss(found[i], wanted[i]) / (wanted[i].std() + 1e-5) for i in chosen]
        return torch.stack(losses).mean()

    def _resample(self, wav: Tensor) -> Tensor:
        wav = wav.flatten(0, -2)
        if self.sample_rate == FEATURE_RATE:
            return wav
        from torchaudio.functional import resample

        return resample(wav, self.sample_rate, FEATURE_RATE)


def load_extractor(name: str, before_layers: bool = False) -> ExtractFeatures:
    """Return the feature function of a speech model of torchaudio, frozen.

    Args:
        name: One of :data:`BUNDLES`.
        before_layers: Give the features before the first transformer layer, alone in a list.

    Raises:
        UsageError: The name is unknown.
        EnvironmentProblem: The weights are not on this machine and cannot be downloaded.
    """
    if name not in BUNDLES:
        usage_error("unknown speech model of the semantic loss", got=name, allowed=list(BUNDLES))
    import torchaudio

    try:
        model = getattr(torchaudio.pipelines, BUNDLES[name]).get_model()
    except OSError as error:
        what = f"the speech model '{name}' of the semantic loss cannot be downloaded: {error}"
        fix = "download it once where there is a network and copy the folder of torch.hub, or set lambda_semantic: 0"
        raise EnvironmentProblem(describe(what, fix=fix)) from error
    model.eval().requires_grad_(False)

    def extract(wav: Tensor) -> Sequence[Tensor]:
        model.to(wav.device)
        if before_layers:
            return [model.feature_extractor(wav, None)[0]]
        return model.extract_features(wav)[0]

    return extract
