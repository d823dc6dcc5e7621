# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The generator: frames and back, conditions, losses, samples, guidance, lengths."""

import numpy as np
import pytest
import torch

from espnet_av.avgen.choices import build_model, complete_conf
from espnet_av.avgen.model import AVGenModel, network_state
from espnet_av.avgen.output import resample_head
from espnet_av.avgen.pose import quaternion_to_matrix
from espnet_av.avgen.presets import PARTNER_STREAMS
from espnet_av.avgen.sampler import ChunkRules, SolverRules
from espnet_av.utils.errors import CheckpointError, DataError, UsageError

TRANSFORMER = {"d_model": 32, "hidden_dim": 32, "num_heads": 2, "window_per_layer": [[4, 2], [3, 1]]}
SIZES = {"face_dim": 12, "melspec_dim": 6, "transformer_conf": TRANSFORMER}
FAST = SolverRules(2)


def make(kind="avflow", random=True, **options) -> AVGenModel:
    torch.manual_seed(0)
    model = build_model(kind, {**SIZES, **options})
    if random:
        for name, parameter in model.named_parameters():
            if not name.startswith("head_vae."):
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def batch(length=40, size=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dims = {"mel": 6, "face": 12, "head": 7, "tokens": 29, **PARTNER_STREAMS}
    found = {name: torch.randn(size, length, dim, generator=generator) for name, dim in dims.items()}
    found["head"][..., 0] += 3
    return found


def partner(given):
    return {name: given[name] for name in PARTNER_STREAMS}


def values(generated):
    return np.concatenate([generated.face.ravel(), generated.head.ravel(), generated.mel.ravel()])


def test_frames_and_back():
    given = batch()
    for head_vae in (False, True):
        model = make(head_vae=head_vae)
        statistics = {"mel_mean": -3.0, "mel_std": 2.0, "face_std": np.linspace(0.1, 2, 12), "head_mean": np.ones(7)}
        model.set_statistics(statistics)
        frames = model.encode(given["face"], given["head"], given["mel"])
        assert frames.shape == (2, 40, model.dim) and model.dim == 12 + (8 if head_vae else 7) + 6
        torch.testing.assert_close(frames[..., -6:], (given["mel"] + 3) / 2)
        face, head, mel = model.decode(frames)
        torch.testing.assert_close(face, given["face"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mel, given["mel"], atol=1e-5, rtol=1e-5)
        if not head_vae:
            torch.testing.assert_close(head, given["head"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("statistics", "kind", "hint"),
    [
        ({"mel": 1.0}, UsageError, "mel_mean"),
        ({"face_mean": np.zeros(3)}, DataError, "wrong size"),
        ({"mel_std": float("nan")}, DataError, "not finite"),
    ],
)
def test_wrong_statistics_are_refused(statistics, kind, hint):
    with pytest.raises(kind, match=hint):
        make().set_statistics(statistics)


def test_a_std_is_never_zero():
    model = make()
    model.set_statistics({"face_std": 0.0})
    assert (model.face_std > 0).all()


def test_training_and_validation_terms():
    model, given = make(), batch()
    given = {**given, "lengths": torch.tensor([40, 31]), "valid": torch.rand(2, 40) > 0.3}
    model.train()
    loss, stats = model(**given)
    loss.backward()
    assert {"loss", "loss_face", "loss_head", "loss_mel"} == set(stats)
    assert all(parameter.grad is None for parameter in model.head_vae.parameters()) and not model.head_vae.training
    assert model.null_tokens.grad is not None
    model.eval()
    first, stats = model(**given)
    second, _ = model(**given)
    assert first == second and {"loss_t1", "loss_t2", "loss_t3", "loss_t4"} <= set(stats)
    times = torch.stack([stats[f"loss_t{number}"] for number in range(1, 5)])
    torch.testing.assert_close(times.mean(), first.detach())
    assert model(**batch(seed=5))[0] != first


def test_weights_of_the_terms():
    given = batch()

    def total(**options):
        model = make(**options)
        loss, stats = model(**given)
        return float(loss.detach()), {name: float(value) for name, value in stats.items()}

    loss, stats = total(audio_weight=3.0)
    assert loss == pytest.approx(stats["loss_face"] + 0.2 * stats["loss_head"] + 3 * stats["loss_mel"], rel=1e-5)
    loss, _ = total(audio_weight=3.0, reference_compat=True)
    assert loss == pytest.approx(stats["loss_face"] + 0.2 * stats["loss_head"] + 0.2 * stats["loss_mel"], rel=1e-5)
    with pytest.raises(UsageError, match="mel term"):
        make(audio_weight=-1.0)


def test_what_does_not_count_does_not_count():
    model, given = make(head_vae=False), batch()
    valid = torch.ones(2, 40, dtype=torch.bool)
    valid[:, 10:20] = False
    x1 = model.encode(given["face"], given["head"], given["mel"])
    x0, t, condition = torch.randn_like(x1), torch.tensor([0.2, 0.7]), model.condition(given["tokens"])
    step = model.flow_step(x1, x0, t, condition, valid=valid)
    errors = (step.data - x1).abs()
    torch.testing.assert_close(step.terms["face"], errors[valid][:, :12].mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(step.terms["mel"], errors[..., -6:].mean(), atol=1e-5, rtol=1e-5)
    known = torch.zeros(2, 40, dtype=torch.bool)
    known[:, :15] = True
    step = model.flow_step(x1, x0, t, condition, known=known)
    torch.testing.assert_close(step.terms["mel"], errors[:, 15:, -6:].mean(), atol=1e-5, rtol=1e-5)


def test_perfect_velocity_has_no_loss():
    for sigma in (0.0, 1e-6, 0.1):
        model, given = make(head_vae=False, sigma_min=sigma), batch()
        x1 = model.encode(given["face"], given["head"], given["mel"])
        x0 = torch.randn_like(x1)
        model.network = lambda *_, flow=model.flows["mel"], a=x0, b=x1, **__: flow.velocity(a, b)
        step = model.flow_step(x1, x0, torch.rand(2), model.condition(given["tokens"]))
        assert step.loss == 0 and torch.allclose(step.data, x1, atol=1e-6)


def test_motion_and_mouth_terms():
    given = batch()
    model = make(motion_velocity_weight=0.5, mouth_weight=0.3)
    with pytest.raises(UsageError, match="mouth_direction"):
        model(**given)
    model.set_statistics({"mouth_direction": np.eye(12)[3]})
    loss, stats = model(**given)
    assert {"loss_motion", "loss_mouth"} <= set(stats) and loss.isfinite()


def test_no_partner_means_no_partner():
    given = batch()
    model = make()
    assert torch.equal(model.condition(given["tokens"], partner(given)), given["tokens"])
    first = model.generate(given["tokens"][0], solver=FAST)[0]
    second = model.generate(given["tokens"][0], {k: v[0] for k, v in partner(given).items()}, solver=FAST)[0]
    np.testing.assert_array_equal(values(first), values(second))


def test_conversation():
    given = batch()
    model = make(participant_cond=True)
    condition = model.condition(given["tokens"], partner(given))
    assert condition.shape == (2, 40, 29 + 87)
    torch.testing.assert_close(condition[..., 29:58], given["other_tokens"])
    assert condition[..., 58:].abs().max() <= 1.5
    model.set_statistics({"partner_min": np.zeros(58), "partner_max": np.zeros(58)})
    assert (model.condition(given["tokens"], partner(given))[..., 58:] == 0).all()
    alone = model.condition(given["tokens"])
    torch.testing.assert_close(alone[..., 29:], model.null_partner.expand(2, 40, -1))
    model.train()
    model(**given)[0].backward()
    with pytest.raises(DataError, match="incomplete"):
        model.condition(given["tokens"], {"other_tokens": given["other_tokens"]})
    with pytest.raises(DataError, match="other_head"):
        model.condition(given["tokens"], {**partner(given), "other_head": given["other_head"][:, 1:]})
    with pytest.raises(UsageError, match="without conditions"):
        make(participant_cond=True, condition_drop=0.0).condition(given["tokens"])


@pytest.mark.parametrize("kind", ["avflow", "cascade"])
def test_samples(kind):
    model, given = make(kind), batch(length=86)
    first = model.generate(given["tokens"], num_samples=2, seed=4, solver=FAST)
    assert len(first) == 4
    assert first[0].face.shape == (30, 12) and first[0].head.shape == (30, 7) and first[0].mel.shape == (86, 6)
    assert first[0].head_R.shape == (30, 3, 3) and first[0].head_t.shape == (30, 3) and first[0].wav is None
    products = first[0].head_R @ first[0].head_R.transpose(0, 2, 1)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-4)
    again = model.generate(given["tokens"][1], num_samples=2, seed=4, solver=FAST)
    np.testing.assert_allclose(values(first[3]), values(again[1]), atol=1e-4)
    assert not np.allclose(values(first[0]), values(first[1]), atol=1e-2)
    same = model.generate(given["tokens"][1], num_samples=2, seed=4, solver=FAST)
    np.testing.assert_array_equal(values(again[0]), values(same[0]))
    other = model.generate(given["tokens"][1], seed=5, solver=FAST)[0]
    assert not np.allclose(values(again[0]), values(other), atol=1e-2)


@pytest.mark.parametrize("history", ["states", "memory"])
@pytest.mark.parametrize("kind", ["avflow", "cascade"])
def test_chunks_give_what_the_whole_gives(kind, history):
    model, tokens = make(kind), batch(length=150, size=1)["tokens"]
    before, after = model.transformer.reach
    rules, guidance = SolverRules(3), {"cfg": 0.7}
    whole = model.generate(tokens, solver=rules, **guidance)[0]
    finished = []
    chunks = ChunkRules(before + 3 * after + 30, before, 3 * after, history)
    pieces = model.generate(tokens, solver=rules, chunks=chunks, progress=finished.append, **guidance)[0]
    np.testing.assert_allclose(pieces.mel, whole.mel, atol=1e-4)
    np.testing.assert_allclose(pieces.face, whole.face, atol=1e-4)
    assert len(finished) > 2 and finished[-1] == 150


def test_guidance():
    model, given = make(participant_cond=True), batch(size=1)
    tokens, other = given["tokens"], partner(given)
    plain = values(model.generate(tokens, other, solver=FAST)[0])
    led = values(model.generate(tokens, other, solver=FAST, cfg=1.0)[0])
    towards = values(model.generate(tokens, other, solver=FAST, partner_cfg=1.0)[0])
    assert not np.allclose(plain, led, atol=1e-3) and not np.allclose(plain, towards, atol=1e-3)
    assert not np.allclose(led, towards, atol=1e-3)
    with pytest.raises(UsageError, match="condition_drop"):
        make(condition_drop=0.0).generate(tokens, solver=FAST, cfg=1.0)
    with pytest.raises(UsageError, match="partner"):
        make().generate(tokens, solver=FAST, partner_cfg=1.0)
    for name in ("cfg", "partner_cfg"):
        with pytest.raises(UsageError, match=f"^{name} is out of range"):
            model.generate(tokens, other, solver=FAST, **{name: -3.0})


def test_told_frames():
    model, given = make(prefix_prob=0.5, prefix_max=20), batch(length=100)
    model.train()
    model(**given)[0].backward()
    model.eval()
    chunks = ChunkRules(60, 10, 10, kind="prefix")
    assert model.generate(given["tokens"][:1], solver=FAST, chunks=chunks)[0].mel.shape == (100, 6)
    with pytest.raises(UsageError, match="prefix"):
        make().generate(given["tokens"][:1], solver=FAST, chunks=chunks)


def test_a_cascade_is_as_large_as_the_joint_model():
    sizes = {
        kind: sum(p.numel() for p in make(kind, random=False).transformer.parameters())
        for kind in ("avflow", "cascade")
    }
    assert abs(sizes["cascade"] / sizes["avflow"] - 1) < 0.02
    with torch.device("meta"):
        large = [build_model(kind, {"preset": "base"}).transformer for kind in ("avflow", "cascade")]
    joint, cascade = (sum(p.numel() for p in network.parameters()) for network in large)
    assert abs(cascade / joint - 1) < 0.01
    with pytest.raises(UsageError, match="highway"):
        make("cascade", transformer_conf={**TRANSFORMER, "highway": "linear"})


def test_motion_of_a_cascade_follows_the_speech():
    model, given = make("cascade"), batch()
    x1 = model.encode(given["face"], given["head"], given["mel"])
    t, x0, condition = torch.tensor([0.5, 0.5]), torch.randn_like(x1), model.condition(given["tokens"])
    other = x1.clone()
    other[..., -6:] += 1
    first = model.network(x0, t, condition, clean=x1)
    second = model.network(x0, t, condition, clean=other)
    assert torch.equal(first[..., -6:], second[..., -6:]) and not torch.equal(first[..., :-6], second[..., :-6])


def test_sound_is_as_long_as_the_motion():
    model, tokens = make(audio_gain=1.1), batch(length=50, size=1)["tokens"]
    generated = model.generate(tokens, solver=FAST, vocoder=lambda mel: torch.ones(len(mel), 256 * mel.shape[-1]))[0]
    assert generated.wav.shape == (256 * 50,) and generated.wav[0] == pytest.approx(1.1)
    assert len(generated.face) == round(30 * 256 * 50 / 22050)
    with pytest.raises(DataError, match="vocoder"):
        model.generate(tokens, solver=FAST, vocoder=lambda mel: torch.ones(len(mel), 300 * mel.shape[-1]))


@pytest.mark.parametrize(
    ("tokens", "hint"),
    [
        (torch.zeros(0, 29), "no token frames"),
        (torch.zeros(9, 32), "token channels"),
        (torch.zeros(29), "wrong shape"),
        (torch.full((9, 29), float("nan")), "not finite"),
    ],
)
def test_wrong_tokens_are_refused(tokens, hint):
    with pytest.raises(DataError, match=hint):
        make().generate(tokens, solver=FAST)


def test_heads_are_resampled_along_the_shorter_way():
    angle = torch.linspace(0.1, 3.0, 40)
    quaternion = torch.stack((angle.cos(), angle.sin(), torch.zeros(40), torch.zeros(40)), -1)
    jumping = quaternion * torch.where(torch.arange(40) % 2 == 0, 1.0, -1.0).unsqueeze(1)
    head = torch.cat((jumping, torch.zeros(40, 3)), -1).unsqueeze(0)
    smooth = resample_head(head, 14)[0, :, :4]
    expected = resample_head(torch.cat((quaternion, torch.zeros(40, 3)), -1).unsqueeze(0), 14)[0, :, :4]
    torch.testing.assert_close(quaternion_to_matrix(smooth), quaternion_to_matrix(expected), atol=1e-5, rtol=0)
    assert resample_head(torch.randn(1, 40, 4), 14).shape == (1, 14, 4)


def test_presets_and_keywords():
    conf = complete_conf({"preset": "small", "audio_weight": 3.0, "transformer_conf": {"dropout": 0.1}})
    assert conf["transformer_conf"]["d_model"] == 192 and conf["transformer_conf"]["dropout"] == 0.1
    for wrong in ({"preset": "huge"}, {"weight": 1}, {"condition_drop": 2.0}, {"time_distribution": "beta"}):
        with pytest.raises(UsageError):
            build_model("avflow", wrong)


def test_weights_within_a_training():
    state = {f"avgen.{name}": each for name, each in make().state_dict().items()}
    make().load_state_dict(network_state(state), strict=True)
    with pytest.raises(CheckpointError, match="generator"):
        network_state({"encoder.weight": torch.zeros(1)})
