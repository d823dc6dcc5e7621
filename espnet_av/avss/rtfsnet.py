# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""RTFS-Net: the voice of one speaker out of a mixture, given the embeddings of the speaker's lips.

Pegg, Li and Hu, "RTFS-Net: recurrent time-frequency modelling for efficient audio-visual speech separation"
(ICLR 2024). Parameters carry the published names, so published state dicts load after :func:`drop_constants`; one set
of weights serves any number of passes.

Axes: ``B`` batch, ``L`` samples, ``T`` frames, ``F`` bins, ``C`` channels, ``Tv`` video frames, ``Cv`` embedding width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from espnet_av.avss.caf import CAFBlock
from espnet_av.avss.lip_guided import SAMPLES_PER_FRAME, LipGuided
from espnet_av.avss.norms import GlobalNorm
from espnet_av.avss.rtfs_blocks import ConvLayer, PointwiseConv, RTFSBlock, smallest_size
from espnet_av.avss.rtfs_inference import masked_columns
from espnet_av.avss.spectrum import MaskGenerator, STFTDecoder, STFTEncoder
from espnet_av.avss.vp_block import VPBlock
from espnet_av.layers.typed_modules import submodule
from espnet_av.utils.errors import usage_error

CONSTANT_KEYS = ("scale_x", "pos_enc.pe")  # in published files; never trained
EXTRA_KEYS = ("no_video",)  # ours; absent from published files
SILENCE = 1e-8  # root mean square under which no level is normalised


def drop_constants(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a published state dict without the constants that are computed here."""
    return {key: value for key, value in state.items() if not key.endswith(CONSTANT_KEYS)}


class RTFSNet(LipGuided):
    """The network; the defaults are the published RTFS-Net-4.

    Args:
        repeats: Passes of the RTFS block (R), the one before the fusion included; the same weights in all of them.
        channels: Channels ``C`` of the audio embedding.
        hidden: Channels inside the RTFS block.
        depth: Sizes inside the RTFS block.
        kernel: Kernel of its depthwise convolutions.
        rnn_hidden: Hidden units of a direction.
        rnn_layers: Recurrent layers of a path.
        rnn_window: Positions of a window of a path.
        attn_heads: Heads of the attention over frames.
        attn_qk_channels: Channels of queries and keys per head.
        video_dim: Width ``Cv`` of the lip embeddings.
        video_hidden: Channels inside the VP block.
        video_depth: Sizes inside the VP block.
        video_kernel: Kernel of its depthwise convolutions.
        video_heads: Heads of its attention.
        video_ffn: Channels of its feed-forward part.
        dropout: Dropout and drop-path of the VP block.
        caf_heads: Heads of the fusion.
        projection_norm: Norm and PReLU after the projections (off: dialect of the first published weights).
        mask_act: ``relu`` (published), ``tanh``, ``sigmoid`` or ``linear``.
        n_fft: Samples of an STFT window.
        hop: Samples between STFT frames.
        rnn: ``sru`` (published), ``lstm`` or ``gru``.
        level_norm: Bring each mixture to this root mean square and undo it at the output, so that the result does not
            depend on the level of the input. None: the published network, whose first norm sees the level.
        caf_length_gain: Keep the attention path of the fusion from fading with length (see :class:`CAFBlock`).
        lips_tolerance: Video frames by which lips may differ from the audio; the last frame is repeated, or frames
            are cut. None: any length is stretched without notice, as in the reference.
        samples_per_frame: Audio samples per video frame.

    Raises:
        UsageError: A keyword is out of range.
    """

    def __init__(
        self,
        *,
        repeats: int = 4,
        channels: int = 256,
        hidden: int = 64,
        depth: int = 2,
        kernel: int = 4,
        rnn_hidden: int = 32,
        rnn_layers: int = 4,
        rnn_window: int = 8,
        attn_heads: int = 4,
        attn_qk_channels: int = 4,
        video_dim: int = 512,
        video_hidden: int = 64,
        video_depth: int = 4,
        video_kernel: int = 3,
        video_heads: int = 8,
        video_ffn: int = 128,
        dropout: float = 0.1,
        caf_heads: int = 4,
        projection_norm: bool = True,
        mask_act: str = "relu",
        n_fft: int = 256,
        hop: int = 128,
        rnn: str = "sru",
        level_norm: float | None = None,
        caf_length_gain: bool = False,
        lips_tolerance: int | None = 1,
        samples_per_frame: int = SAMPLES_PER_FRAME,
    ) -> None:
        super().__init__(video_dim, lips_tolerance=lips_tolerance, samples_per_frame=samples_per_frame)
        check_sizes(repeats, channels, n_fft, depth, kernel, rnn_window)
        self.repeats = repeats
        self.level_norm = level_norm
        self.encoder = STFTEncoder(channels, n_fft=n_fft, hop=hop)
        self.audio_bottleneck = ConvLayer(
            PointwiseConv(channels, channels), pre_norm=GlobalNorm(channels), pre_act=nn.ReLU()
        )
        audio = RTFSBlock(
            channels, hidden, num_bins=n_fft // 2 + 1, depth=depth, kernel=kernel, rnn_hidden=rnn_hidden,
            rnn_layers=rnn_layers, rnn_window=rnn_window, attn_heads=attn_heads, attn_qk_channels=attn_qk_channels,
            projection_norm=projection_norm, rnn=rnn,
        )  # fmt: skip
        video = VPBlock(
            video_dim, video_hidden, depth=video_depth, kernel=video_kernel, num_heads=video_heads, ffn=video_ffn,
            dropout=dropout, projection_norm=projection_norm,
        )  # fmt: skip
        fusion = CAFBlock(channels, video_dim, num_heads=caf_heads, length_gain=caf_length_gain)
        self.refinement_module = nn.ModuleDict(
            {
                "audio_net": nn.ModuleDict({"blocks": audio}),
                "video_net": nn.ModuleDict({"blocks": video}),
                "crossmodal_fusion": nn.ModuleDict({"fusion_module": nn.ModuleDict({"audio_lstm": fusion})}),
            }
        )
        self.mask_generator = MaskGenerator(channels, mask_act)
        self.decoder = STFTDecoder(channels, n_fft=n_fft, hop=hop)
        self.min_samples = shortest_input(depth, kernel, rnn_window, hop, n_fft)

    @property
    def rtfs_block(self) -> RTFSBlock:
        """The block that is repeated over the audio."""
        return submodule(self.refinement_module, "audio_net.blocks", RTFSBlock)

    @property
    def vp_block(self) -> VPBlock:
        """The block that works on the lips."""
        return submodule(self.refinement_module, "video_net.blocks", VPBlock)

    @property
    def caf(self) -> CAFBlock:
        """The fusion of both."""
        return submodule(self.refinement_module, "crossmodal_fusion.fusion_module.audio_lstm", CAFBlock)

    def _separate(self, mix: Tensor, lips: Tensor) -> Tensor:
        """``(B, L)``, ``(B * S, Tv, Cv)`` -> ``(B * S, 1, L)``; all of both is valid."""
        length = mix.shape[1]
        learns = self.training or torch.is_grad_enabled() or not mix.is_cpu
        if not learns:
            mix = mix.repeat_interleave(len(lips) // len(mix), dim=0)
        scale = None
        if self.level_norm is not None:
            rms = mix.square().mean(dim=1, keepdim=True).sqrt()
            scale = torch.where(rms > SILENCE, self.level_norm / rms.clamp(min=SILENCE), torch.ones_like(rms))
            mix = mix * scale
        if length < self.min_samples:
            mix = torch.nn.functional.pad(mix, (0, self.min_samples - length))
        video = self.vp_block(lips.transpose(1, 2))
        if learns:
            columns = self.decoder.columns(self._masked_embedding(mix, video))
        else:
            columns = masked_columns(self, mix, video)
        voice = self.decoder.wave(columns, mix.shape[1])[..., :length]
        return voice if scale is None else voice / scale.repeat_interleave(len(voice) // len(scale), dim=0).unsqueeze(1)

    def _masked_embedding(self, mix: Tensor, video: Tensor) -> Tensor:
        """The network as in the paper's figure: ``(B, L)``, ``(B * S, Cv, Tv)`` -> ``(B * S, T, F, C)``."""
        embedding = self.encoder(mix)
        entry = self.audio_bottleneck(embedding)
        x = self.rtfs_block(entry)
        if len(video) > len(mix):
            embedding, entry, x = (each.repeat_interleave(len(video) // len(mix), 0) for each in (embedding, entry, x))
        x = self.caf(x, video)
        for _ in range(self.repeats - 1):
            x = self.rtfs_block(x + entry)
        return self.mask_generator(x, embedding)


def check_sizes(repeats: int, channels: int, n_fft: int, depth: int, kernel: int, rnn_window: int) -> None:
    """Raise UsageError for sizes that give no network."""
    if repeats < 1:
        usage_error("repeats is too small", got=repeats, allowed="1 or more")
    if channels % 2:
        usage_error("channels must be even (real and imaginary half)", got=channels, allowed="even numbers")
    bins = smallest_size(n_fft // 2 + 1, depth, kernel)
    if bins < rnn_window:
        usage_error(
            "too few bins at the smallest size for a window of the recurrent path",
            got=f"{bins} of n_fft {n_fft} at depth {depth}",
            allowed=f"{rnn_window} or more",
            fix="a larger n_fft, a smaller depth or rnn_window",
        )


def shortest_input(depth: int, kernel: int, rnn_window: int, hop: int, n_fft: int) -> int:
    """Return the samples under which a mixture is padded.

    >>> shortest_input(depth=2, kernel=4, rnn_window=8, hop=128, n_fft=256)
    1920
    """
    num_frames = 1
    while smallest_size(num_frames, depth, kernel) < rnn_window:
        num_frames += 1
    return max((num_frames - 1) * hop, n_fft // 2 + 1)
