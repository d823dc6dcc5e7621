# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Networks of the codec frame by frame, with exactly the numbers of the whole recording.

Every convolution keeps the inputs that it looks back at. One that looks ahead gives its outputs that much later, and
the way around a residual unit is delayed by as much; the delays add up to :attr:`StreamEngine.delay`. Two things make
the result exact at the ends. Offline, each layer sees zeros before the recording, not what earlier layers would make
of zeros: outputs at negative times are therefore set to zero, in every layer. After the recording the same holds for
times from the end on.

For frames of 10 ms the cost is that of calling operators, not of arithmetic. A pass is therefore compiled once for
each number of frames into a list of operators whose inputs and outputs are fixed pieces of memory: a copy that puts
the taps side by side, one matrix product with the bias as one more row, the activation in place. Long signals lie
channel by channel, short ones step by step, whichever is faster for the product.

Axes: ``B`` batch, ``C`` channels, ``F`` frames, ``H`` steps of history, ``T`` steps, ``k`` taps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from espnet_av.codec.deploy import LOG2_E, Activation, Conv, Residual, Step, Upsample, walk_layers
from espnet_av.utils.errors import usage_error

MAX_FRAMES = 8  # frames that go through the layers together
SHORT = 32  # steps; signals below lie step by step
SMALL = 512  # values; below, the built-in ELU is faster than the one put together

Operator = Callable[[], object]


@dataclass
class _Clock:
    """Where a pass stands: its first frame, and the number of frames of the recording once that is known."""

    frame: int = 0
    end: int | None = None


@dataclass
class _Signal:
    """A piece of memory that holds one signal.

    Attributes:
        view: ``(B, C, H + T)``.
        matrix: For products: ``(C, B T)``, or ``(B T, C)`` step by step; with a last row or column of ones if wanted.
        by_step: Which of the two.
        history: ``H``.
        delay: Steps by which it is late.
    """

    view: Tensor
    matrix: Tensor
    by_step: bool
    history: int = 0
    delay: int = 0

    @property
    def new(self) -> Tensor:
        """The part that a pass writes, ``(B, C, T)``."""
        return self.view[..., self.history :]


class _Program:
    """Operators of a pass of ``frames`` frames.

    Args:
        steps: The network.
        batch_size: Recordings side by side.
        channels: Of the input.
        length: Input steps of a frame.
        frames: Frames of a pass.
        clock: Shared with the engine.
    """

    def __init__(
        self, steps: Sequence[Step], batch_size: int, channels: int, length: int, frames: int, clock: _Clock
    ) -> None:
        self.batch_size, self.frames, self.clock = batch_size, frames, clock
        self.device = next(walk_layers(steps, 1.0)).step.weight.device
        self.every: list[Operator] = []
        self.steady: list[Operator] = []
        self.shifts: list[Operator] = []
        self.histories: list[Tensor] = []
        pending = self._compile(list(steps), channels, length * frames)
        self.output, self.delay = pending.view, pending.delay
        self.every += self.shifts
        self.steady += self.shifts

    def __call__(self, x: Tensor, *, exact_ends: bool) -> Tensor:
        """Run a pass; ``exact_ends`` sets outputs outside the recording to zero. The result is reused by the next."""
        self.input.copy_(x)
        for operator in self.every if exact_ends else self.steady:
            operator()
        return self.output

    def _compile(self, steps: list[Step], channels: int, length: int) -> _Signal:
        if isinstance(steps[0], Conv):
            x = self._convolve(self._feed(None, steps[0], channels, length), steps[0])
            steps = steps[1:]
        else:
            x = self._make(channels, length)
            self.input = x.view
        while steps:
            step, steps = steps[0], steps[1:]
            if isinstance(step, Residual):
                x = self._add_residual(x, step)
            elif isinstance(step, Activation) and step.kind == "tanh":
                self._emit(x.view.tanh_)
            elif isinstance(step, Activation) and steps and isinstance(steps[0], (Conv, Upsample)):
                layer, steps = steps[0], steps[1:]
                fed = self._feed(x, layer, x.view.shape[1], x.view.shape[2])
                x = self._convolve(fed, layer) if isinstance(layer, Conv) else self._upsample(fed, layer)
            else:
                usage_error("this order of layers cannot be streamed", got=type(step).__name__)
        return x

    def _emit(self, *operators: Operator) -> None:
        self.every += operators
        self.steady += operators

    def _make(self, channels: int, length: int, *, history: int = 0, ones: bool = False, delay: int = 0) -> _Signal:
        batch, rows, total = self.batch_size, channels + ones, history + length
        by_step = length < SHORT
        shape = (batch, total, rows) if by_step else (rows, batch, total)
        memory = torch.zeros(shape, device=self.device)
        if ones:
            (memory[..., channels:] if by_step else memory[channels:]).fill_(1.0)
        view = memory.permute(0, 2, 1) if by_step else memory.permute(1, 0, 2)
        matrix = memory.reshape(batch * total, rows) if by_step else memory.reshape(rows, batch * total)
        return _Signal(view[:, :channels], matrix, by_step, history, delay)

    def _remember(self, signal: _Signal) -> None:
        """After the pass, move what the next one looks back at to the front."""
        history, length = signal.history, signal.view.shape[2] - signal.history
        if not history:
            return
        front, back = signal.view[..., :history], signal.view[..., length:]
        self.histories.append(front)
        if history <= length:
            self.shifts.append(partial(front.copy_, back))
        else:  # they overlap
            between = torch.empty_like(back)
            self.shifts += [partial(between.copy_, back), partial(front.copy_, between)]

    def _feed(self, x: _Signal | None, layer: Conv | Upsample, channels: int, length: int) -> _Signal:
        """Put the activation of ``x``, or the input of the network, where a layer reads it."""
        delay = x.delay if x is not None else 0
        if isinstance(layer, Upsample):
            fed = self._make(channels, length, ones=True, delay=delay)
        else:
            wait = -delay % layer.stride  # so that the delay is a whole number of output steps
            fed = self._make(channels, length, history=layer.left + layer.right + wait, delay=delay + wait)
            self._remember(fed)
        if x is None:
            self.input = fed.new
        else:
            self._elu(x.view, fed.new)
        return fed

    def _convolve(self, fed: _Signal, layer: Conv) -> _Signal:
        """Convolve what lies in ``fed``."""
        length = (fed.view.shape[2] - fed.history) // layer.stride
        out = self._make(layer.weight.shape[0], length, delay=(fed.delay + layer.right) // layer.stride)
        columns = self._gather(fed, layer, length)
        weight = _matrix(layer, out.by_step)
        operands = (columns, weight) if out.by_step else (weight, columns)
        self._emit(partial(torch.mm, *operands, out=out.matrix))
        self._mask(out)
        return out

    def _gather(self, fed: _Signal, layer: Conv, length: int) -> Tensor:
        """Put the taps of every output side by side, and a one; return the memory for the product."""
        channels, taps, batch = fed.view.shape[1], layer.weight.shape[2], self.batch_size
        on_batch, on_channel, on_time = fed.view.stride()
        step, gap = layer.stride * on_time, layer.dilation * on_time
        width = channels * taps + 1
        if length < SHORT:
            source = fed.view.as_strided((batch, length, taps, channels), (on_batch, step, gap, on_channel))
            matrix = torch.ones(batch * length, width, device=self.device)
            target = matrix.as_strided(source.shape, (length * width, width, channels, 1))
        else:
            source = fed.view.as_strided((channels, taps, batch, length), (on_channel, gap, on_batch, step))
            matrix = torch.ones(width, batch * length, device=self.device)
            target = matrix[:-1].view(source.shape)
        self._emit(partial(target.copy_, source))
        return matrix

    def _upsample(self, fed: _Signal, layer: Upsample) -> _Signal:
        _, channels, length = fed.view.shape
        wanted = layer.weight.shape[1]
        weight = layer.weight.permute(0, 2, 1).reshape(channels, -1)
        weight = torch.cat([weight, layer.bias.repeat(layer.stride)[None]]).contiguous()
        out = self._make(wanted, length * layer.stride, delay=fed.delay * layer.stride)
        rows = fed.matrix if fed.by_step else fed.matrix.t()
        if out.by_step:
            self._emit(partial(torch.mm, rows, weight, out=out.matrix.view(rows.shape[0], -1)))
        else:
            product = torch.empty(rows.shape[0], layer.stride * wanted, device=self.device)
            ordered = product.view(self.batch_size, length * layer.stride, wanted).transpose(1, 2)
            self._emit(partial(torch.mm, rows, weight, out=product), partial(out.view.copy_, ordered))
        self._mask(out)
        return out

    def _add_residual(self, x: _Signal, unit: Residual) -> _Signal:
        """Add the branch to ``x``, in its memory."""
        first, second = unit.first, unit.second
        channels, length = x.view.shape[1:]
        skip = None
        if unit.right:
            skip = self._make(channels, length, history=unit.right)
            self._remember(skip)
            self._emit(partial(skip.new.copy_, x.view))
        columns = self._branch(self._hidden(x, first), second)
        weight = _matrix(second, x.by_step)
        operands = (columns, weight) if x.by_step else (weight, columns)
        if skip is None:
            self._emit(partial(x.matrix.addmm_, *operands))
        else:
            self._emit(
                partial(torch.mm, *operands, out=x.matrix), partial(x.view.add_, skip.view[..., : x.view.shape[2]])
            )
        out = _Signal(x.view, x.matrix, x.by_step, 0, x.delay + unit.right)
        self._mask(out)
        return out

    def _hidden(self, x: _Signal, layer: Conv) -> _Signal:
        """Return the output of the first convolution of a unit, with ones behind it."""
        channels, length = x.view.shape[1:]
        fed = self._feed(x, layer, channels, length)
        hidden = self._make(channels, length, ones=True, delay=fed.delay + layer.right)
        columns, weight = self._gather(fed, layer, length), _matrix(layer, hidden.by_step)
        if hidden.by_step:
            self._emit(partial(torch.mm, columns, weight, out=hidden.matrix[:, :channels]))
        else:
            self._emit(partial(torch.mm, weight, columns, out=hidden.matrix[:channels]))
        return hidden

    def _branch(self, hidden: _Signal, layer: Conv) -> Tensor:
        """Return the memory that the second convolution of a unit multiplies."""
        if layer.weight.shape[2] == 1:
            self._elu(hidden.view, hidden.view)
            return hidden.matrix
        self._mask(hidden)
        channels, length = hidden.view.shape[1:]
        return self._gather(self._feed(hidden, layer, channels, length), layer, length)

    def _elu(self, source: Tensor, target: Tensor) -> None:
        """ELU as ``max(x, 2^(min(x, 0) log2 e) - 1)``: vectorised, which the built-in one is not."""
        if source.numel() < SMALL or source.device.type != "cpu":
            self._emit(partial(torch._C._nn.elu, source, out=target))  # type: ignore[call-arg]  # torch's stub lacks it
            return
        between, scale = torch.empty_like(source), torch.tensor([LOG2_E])
        self._emit(
            partial(torch.clamp_max, source, 0.0, out=between),
            partial(torch.mul, between, scale, out=between),
            partial(torch.exp2, between, out=between),
            partial(torch.add, between, torch.tensor([-1.0]), out=between),
            partial(torch.maximum, source, between, out=target),
        )

    def _mask(self, signal: _Signal) -> None:
        """Set what lies outside the recording to zero."""
        view, delay, length = signal.view, signal.delay, signal.view.shape[2]
        per_frame, clock = length // self.frames, self.clock

        def mask() -> None:
            first = clock.frame * per_frame - delay
            if first < 0:
                view[..., : min(length, -first)].zero_()
            if clock.end is not None:
                left = clock.end * per_frame - first
                if left < length:
                    view[..., max(0, left) :].zero_()

        self.every.append(mask)


def _matrix(layer: Conv, by_step: bool) -> Tensor:
    """Return the weight of a convolution for one product, with the bias last: ``(k C + 1, C')`` or its counterpart."""
    weight = layer.weight.permute(2, 1, 0) if by_step else layer.weight
    flat = weight.reshape(-1, weight.shape[2]) if by_step else weight.reshape(weight.shape[0], -1)
    bias = layer.bias[None] if by_step else layer.bias[:, None]
    return torch.cat([flat, bias], dim=0 if by_step else 1).contiguous()


class StreamEngine:
    """A network that takes frames and gives frames.

    Args:
        steps: The network, of :class:`~espnet_av.codec.deploy.FoldedCodec`.
        channels: Of the input.
        length: Input steps of a frame.
        batch_size: Recordings side by side.

    Attributes:
        delay: Output steps that come before those of the first frame; they are to be dropped.
        frames: Frames taken since the start.
    """

    def __init__(self, steps: Sequence[Step], channels: int, length: int, batch_size: int = 1) -> None:
        if batch_size < 1:
            usage_error("batch_size is too small", got=batch_size, allowed="1 or more")
        self._steps, self._channels, self._length, self._batch_size = tuple(steps), channels, length, batch_size
        self._clock = _Clock()
        self._programs: dict[int, _Program] = {}
        self._current = self._get(1)
        self.delay = self._current.delay
        self.out_channels, self.out_length = self._current.output.shape[1:]
        self._delay_frames = -(-self.delay // self.out_length)

    @property
    def frames(self) -> int:
        """Frames taken since the start."""
        return self._clock.frame

    @torch.inference_mode()
    def run(self, x: Tensor) -> Tensor:
        """Take some frames.

        Args:
            x: ``(B, C, F length)``.

        Returns:
            ``(B, C', F out_length)``, late by :attr:`delay` steps.
        """
        frames = x.shape[-1] // self._length
        if x.shape != (self._batch_size, self._channels, frames * self._length):
            allowed = (self._batch_size, self._channels, f"a multiple of {self._length}")
            usage_error("wrong shape of frames", got=tuple(x.shape), allowed=str(allowed))
        if frames == 1:
            return self._pass(1, x).clone()
        out = x.new_empty(self._batch_size, self.out_channels, frames * self.out_length)
        done = 0
        while done < frames:
            size = min(MAX_FRAMES, 1 << ((frames - done).bit_length() - 1))
            piece = x[..., done * self._length : (done + size) * self._length]
            out[..., done * self.out_length : (done + size) * self.out_length] = self._pass(size, piece)
            done += size
        return out

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """End the recording and return what is still inside, ``(B, C', delay)``; then start anew."""
        frames = self._clock.frame
        self._clock.end = frames
        zeros = torch.zeros(self._batch_size, self._channels, self._delay_frames * self._length)
        out = self.run(zeros.to(self._current.output.device))[..., : self.delay]
        self.reset()
        return out if frames else out[..., :0]

    def _pass(self, frames: int, x: Tensor) -> Tensor:
        program, clock = self._get(frames), self._clock
        if program is not self._current:
            for new, old in zip(program.histories, self._current.histories, strict=True):
                new.copy_(old)
            self._current = program
        result = program(x, exact_ends=clock.end is not None or clock.frame < self._warm_up)
        clock.frame += frames
        return result

    @property
    def _warm_up(self) -> int:
        return self._delay_frames

    def _get(self, frames: int) -> _Program:
        if frames not in self._programs:
            with torch.inference_mode():
                made = _Program(self._steps, self._batch_size, self._channels, self._length, frames, self._clock)
            self._programs[frames] = made
        return self._programs[frames]

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget the recording."""
        self._clock.frame, self._clock.end = 0, None
        for history in self._current.histories:
            history.zero_()

    @torch.inference_mode()
    def state(self) -> dict[str, Tensor]:
        """Return a copy of what is kept between passes."""
        kept = {f"history.{index}": history.clone() for index, history in enumerate(self._current.histories)}
        return {"frames": torch.tensor(self._clock.frame), **kept}

    @torch.inference_mode()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on where :meth:`state` was taken.

        Raises:
            UsageError: It is of another network or batch size.
        """
        histories = self._current.histories
        shapes = {f"history.{index}": tuple(history.shape) for index, history in enumerate(histories)}
        found = {name: tuple(value.shape) for name, value in state.items() if name != "frames"}
        if found != shapes or "frames" not in state:
            usage_error("the state is of another network or batch size", fix="take it from a stream made alike")
        for index, history in enumerate(histories):
            history.copy_(state[f"history.{index}"])
        self._clock.frame, self._clock.end = int(state["frames"]), None
