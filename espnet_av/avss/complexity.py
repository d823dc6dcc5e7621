# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What a separator costs: parameters, multiply-accumulates with recurrences, file size, memory, time.

Counted are matrix products, convolutions and attention, also those inside recurrent layers, which common counters
leave out, and the element-wise work of recurrent cells. Time and memory are measured in a process of their own.

Axes: ``B`` batch, ``N`` samples, ``T`` video frames, ``D`` width of lip embeddings, ``n`` steps, ``M`` sequences.
"""

import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_av.avss.choices import takes_lips
from espnet_av.avss.losses import SeparationLoss
from espnet_av.avss.model import build_network
from espnet_av.avss.sru import SRU
from espnet_av.train.provenance import machine
from espnet_av.utils.complexity import count_macs, count_parameters
from espnet_av.utils.errors import EnvironmentProblem, describe, usage_error

SAMPLE_RATE = 16000
FPS = 25
MIB = 1 << 20
SRU_STEP_MACS = 6  # of a unit and step: forget gate 1, state 2, reset gate 1, output 2
CELL_MACS = {"LSTM": 3, "GRU": 3, "RNN_TANH": 0, "RNN_RELU": 0}


@dataclass(frozen=True)
class Measured:
    """Time and memory of a repeated piece of work.

    Attributes:
        seconds: Median of one run.
        peak_mb: Largest memory of the process (or the GPU) during the work, in MiB, above what was there before it.
    """

    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class CostReport:
    """What a network costs for one call: one mixture, and one target where it looks at lips.

    Attributes:
        model: Name and keywords.
        input_sec: Length of the mixture in seconds.
        num_parameters: All parameters.
        parts: Those of each direct part.
        file_mb: Size of the weights as safetensors, MiB.
        gmacs: 1e9 multiply-accumulates, those of recurrent layers included.
        recurrence_gmacs: Of these, the element-wise work of recurrent cells (their matrix products are in ``gmacs``).
        inference: Time and memory of a forward pass; None when not measured.
        training: Time and memory of forward and backward pass and weight update; None when not measured.
        num_threads: CPU threads.
        device: Where it was measured.
        hardware: The machine.
    """

    model: str
    input_sec: float
    num_parameters: int
    parts: dict[str, int]
    file_mb: float
    gmacs: float
    recurrence_gmacs: float
    inference: Measured | None = None
    training: Measured | None = None
    num_threads: int = 1
    device: str = "cpu"
    hardware: dict[str, str] = field(default_factory=dict)

    @property
    def rtf(self) -> float | None:
        """Real-time factor of a forward pass: seconds of work per second of sound."""
        return self.inference.seconds / self.input_sec if self.inference else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "rtf": self.rtf}


def make_inputs(network: nn.Module, input_sec: float, batch_size: int = 1, device: str = "cpu") -> tuple[Tensor, ...]:
    """Return random inputs of a separator: mixture ``(B, N)`` and, where it looks at them, lips ``(B, T, D)``."""
    generator = torch.Generator().manual_seed(0)
    num_samples = round(input_sec * SAMPLE_RATE)
    inputs = [0.1 * torch.randn(batch_size, num_samples, generator=generator)]
    if takes_lips(type(network)):
        num_frames = max(1, round(input_sec * FPS))
        width: Any = network.video_dim  # all networks that look at lips have it
        inputs.append(torch.randn(batch_size, num_frames, width, generator=generator))
    return tuple(value.to(device) for value in inputs)


def count_cost(network: nn.Module, *inputs: Tensor) -> tuple[float, float]:
    """Return 1e9 multiply-accumulates of a forward pass, and how many of them are element-wise work of recurrent cells.

    The network is put into evaluation mode.
    """
    network.eval()
    with _recurrences(network) as counted, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the switch of a feature of other hardware
        with torch.backends.mkldnn.flags(enabled=False):  # its recurrent layers hide products from the counter
            macs = count_macs(network, *inputs)
    return (macs + sum(counted)) / 1e9, sum(counted) / 1e9


@contextmanager
def _recurrences(network: nn.Module) -> Iterator[list[int]]:
    """List the element-wise multiply-accumulates of recurrent layers, which the counter does not see."""
    counted: list[int] = []

    def of_sru(module: SRU, args: tuple[Any, ...], output: Any) -> None:
        hidden = output[0]  # (n, M, 2H) of the last layer; all have that shape
        counted.append(hidden.numel() * len(module.rnn_lst) * SRU_STEP_MACS)

    def of_torch(module: nn.RNNBase, args: tuple[Any, ...], output: Any) -> None:
        counted.append(output[0].numel() * module.num_layers * CELL_MACS[module.mode])

    hooks = [
        module.register_forward_hook(of_sru if isinstance(module, SRU) else of_torch)
        for module in network.modules()
        if isinstance(module, (SRU, nn.RNNBase))
    ]
    try:
        yield counted
    finally:
        for hook in hooks:
            hook.remove()


def file_size(network: nn.Module) -> int:
    """Return the bytes of the weights as a safetensors file."""
    from safetensors.torch import save

    return len(save({name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}))


def cost_report(
    model: str,
    model_conf: Mapping[str, Any] | None = None,
    *,
    input_sec: float = 2.0,
    num_threads: int = 1,
    device: str = "cpu",
    runs: int = 3,
    train: bool = True,
) -> CostReport:
    """Build a network with random weights and find out what it costs.

    Args:
        model: ``rtfsnet``, ``convtasnet``, ...
        model_conf: Its keywords.
        input_sec: Length of the mixture in seconds.
        num_threads: CPU threads of the measurements.
        device: Where to measure.
        runs: Timed passes after one that is not timed; 0 measures nothing.
        train: Measure a training step of batch size 1 as well.

    Raises:
        UsageError: Unknown model or keyword, or a length that is not above 0.
    """
    if input_sec <= 0:
        usage_error("length of the mixture", got=input_sec, allowed="seconds above 0")
    conf = dict(model_conf or {})
    network = build_network(model, conf)
    total, parts = count_parameters(network)
    gmacs, recurrence = count_cost(network, *make_inputs(network, input_sec))
    text = ", ".join(f"{key} {value}" for key, value in conf.items())
    settings = {"model": model, "conf": conf, "input_sec": input_sec, "device": device, "num_threads": num_threads}
    return CostReport(
        model=f"{model} ({text})" if text else model,
        input_sec=input_sec,
        num_parameters=total,
        parts=parts,
        file_mb=file_size(network) / MIB,
        gmacs=gmacs,
        recurrence_gmacs=recurrence,
        inference=measure(runs=runs, step="inference", **settings) if runs else None,
        training=measure(runs=runs, step="training", **settings) if runs and train else None,
        num_threads=num_threads,
        device=device,
        hardware=machine(),
    )


def measure(**settings: Any) -> Measured:
    """Measure time and memory in a new process; the keywords are those of :func:`run_measurement`.

    Raises:
        EnvironmentProblem: The process died, as when memory runs out.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_measurement, args=(sender, settings), daemon=True)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError as error:
        fix = "use a shorter mixture, or leave out the training step"
        raise EnvironmentProblem(describe("the process that measures died", got=settings["step"], fix=fix)) from error
    finally:
        process.join()


def _send_measurement(sender: Any, settings: dict[str, Any]) -> None:
    sender.send(run_measurement(**settings))
    sender.close()


def run_measurement(
    *,
    model: str,
    conf: Mapping[str, Any],
    input_sec: float,
    device: str,
    num_threads: int,
    runs: int,
    step: str,
) -> Measured:
    """Measure forward passes (``step='inference'``) or training steps (``'training'``) in this process."""
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    network = build_network(model, dict(conf)).to(device)
    inputs = make_inputs(network, input_sec, device=device)
    work = _training_step(network, inputs) if step == "training" else _forward(network, inputs)
    on_gpu = torch.device(device).type == "cuda"
    before = _reset_peak(on_gpu)
    seconds = []
    for number in range(runs + 1):
        start = time.perf_counter()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        if number:
            seconds.append(time.perf_counter() - start)
    return Measured(statistics.median(seconds), max(0.0, (_peak(on_gpu) - before) / MIB))


def _forward(network: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], None]:
    network.eval()

    @torch.inference_mode()
    def run() -> None:
        network(*inputs)

    return run


def _training_step(network: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], None]:
    network.train()
    loss = SeparationLoss(pit=not takes_lips(type(network)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def run() -> None:
        estimate = network(*inputs)
        target = inputs[0].unsqueeze(1).expand_as(estimate)
        loss(estimate, target).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def _reset_peak(on_gpu: bool) -> int:
    """Forget the largest memory so far; return the bytes in use now."""
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
    except OSError:  # then the peak may be that of an earlier moment, and the increase is too small
        return _status("VmHWM")
    return _status("VmRSS")


def _peak(on_gpu: bool) -> int:
    return torch.cuda.max_memory_allocated() if on_gpu else _status("VmHWM")


def _status(name: str) -> int:
    """Return a size of this process in bytes from the kernel."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise EnvironmentProblem(describe(f"the kernel does not tell {name}", fix="measure on Linux, or pass --runs 0"))


def report_rows(report: CostReport) -> list[tuple[str, str]]:
    """Return the report as (property, value with unit) for tables."""
    parts = ", ".join(f"{name} {count / 1e3:.0f} K" for name, count in report.parts.items())
    rows = [
        ("model", report.model),
        ("input", f"{report.input_sec:g} s, one mixture"),
        ("parameters", f"{report.num_parameters:,} ({parts})"),
        ("weights file", f"{report.file_mb:.2f} MiB"),
        (
            "multiply-accumulates",
            f"{report.gmacs:.2f} G ({report.gmacs / report.input_sec:.2f} G per second of sound; "
            f"element-wise work of recurrent cells {report.recurrence_gmacs:.3f} G)",
        ),
    ]
    for name, measured in (("inference", report.inference), ("training step", report.training)):
        if measured:
            factor = f", real-time factor {measured.seconds / report.input_sec:.3f}" if name == "inference" else ""
            rows.append((name, f"{measured.seconds:.3f} s{factor}, peak memory +{measured.peak_mb:,.0f} MiB"))
    threads = "1 thread" if report.num_threads == 1 else f"{report.num_threads} threads"
    return [*rows, ("measured on", f"{report.device}, {threads}, {', '.join(report.hardware.values())}")]
