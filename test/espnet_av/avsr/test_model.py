# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_av.avsr.model import AVSRModel
from espnet_av.utils.errors import UsageError


def prepare(model: AVSRModel, batch: dict) -> tuple:
    return model.prepare_inputs(batch["speech"], batch["speech_lengths"], batch["video"], batch["video_lengths"])


def test_prepared_inputs_are_zero_beyond_the_lengths(make_model, batch):
    audio, video, lengths = prepare(make_model(), batch)
    assert audio.shape == (2, 104, 7)
    assert video.shape == (2, 1, 7, 88, 88)
    assert lengths.tolist() == [7, 4]
    assert (audio[1, :, 4:] == 0).all()
    assert (video[1, :, 4:] == 0).all()
    assert audio[1, :, 3].abs().sum() > 0


def test_prepared_audio_is_cut_or_padded_to_the_video(make_model, batch):
    model = make_model()
    expected, _, _ = prepare(model, batch)
    longer = torch.nn.functional.pad(batch["speech"], (0, 5000), value=0.7)
    actual, _, _ = model.prepare_inputs(longer, None, batch["video"], batch["video_lengths"])
    torch.testing.assert_close(actual[0], expected[0])
    shorter, lengths = batch["speech"][:, :3000], torch.tensor([3000, 2560])
    actual, _, _ = model.prepare_inputs(shorter, lengths, batch["video"], batch["video_lengths"])
    padded = torch.nn.functional.pad(batch["speech"][:1, :3000], (0, 7 * 640 - 3000))
    torch.testing.assert_close(actual[:1], model.features(padded)[0])


def test_prepared_video_is_cut_in_the_centre(make_model):
    video = torch.zeros(1, 2, 96, 96, dtype=torch.uint8)
    video[:, :, 4:92, 4:92] = 255
    _, frames, lengths = make_model().prepare_inputs(None, None, video, None)
    assert (frames > 3).all()
    assert lengths.tolist() == [2]


def test_audio_alone_gives_one_row_per_started_frame(make_model):
    audio, video, lengths = make_model().prepare_inputs(torch.rand(2, 1300), torch.tensor([1300, 640]), None, None)
    assert audio.shape == (2, 104, 3)
    assert video is None
    assert lengths.tolist() == [3, 1]


def test_wrong_inputs_are_refused(make_model, batch):
    model = make_model()
    with pytest.raises(UsageError, match="neither"):
        model.prepare_inputs(None, None, None, None)
    with pytest.raises(UsageError, match="uint8 gray"):
        model.prepare_inputs(None, None, batch["video"].float(), None)
    with pytest.raises(UsageError, match="differ in length"):
        model.encode(torch.zeros(1, 104, 3), torch.zeros(1, 1, 4, 88, 88), torch.tensor([3]))


def test_loss_mixes_both_and_every_parameter_learns(make_model, batch):
    model = make_model(modality_dropout=0.0)
    output = model(*prepare(model, batch), batch["labels"])
    torch.testing.assert_close(output.loss, 0.1 * output.loss_ctc + 0.9 * output.loss_att)
    assert 0 <= output.acc <= 1
    output.loss.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


@pytest.mark.parametrize(("weight", "missing"), [(0.0, "loss_ctc"), (1.0, "loss_att")])
def test_a_loss_without_weight_is_not_computed(make_model, batch, weight, missing):
    model = make_model(model={"ctc_weight": weight})
    output = model(*prepare(model, batch), batch["labels"])
    assert getattr(output, missing) is None
    assert torch.isfinite(output.loss)


def test_decoder_of_another_width(make_model, batch):
    model = make_model(decoder={"dim": 12})
    model(*prepare(model, batch), batch["labels"]).loss.backward()
    assert model.bridge.weight.shape == (12, 16)


def test_bfloat16_and_saved_weights(make_model, batch, tmp_path):
    model = make_model().eval()
    inputs = (*prepare(model, batch), batch["labels"])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model(*inputs).loss.item() == pytest.approx(model(*inputs).loss.item(), rel=0.05)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    other = make_model(vocab_size=9).eval()
    other.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True))
    assert torch.equal(model(*inputs).loss, other(*inputs).loss)


@pytest.mark.parametrize(("keywords", "message"), [({"ctc_weight": 1.5}, "0 to 1"), ({"vocab_size": 2}, "3 or more")])
def test_wrong_sizes_are_refused(keywords, message):
    with pytest.raises(UsageError, match=message):
        AVSRModel(**{"vocab_size": 9, **keywords})


def test_it_learns_one_batch(make_model, batch):
    model = make_model(modality_dropout=0.0, dropout=0.0, attention_dropout=0.0, input_dropout=0.0).train()
    inputs = prepare(model, batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = model(*inputs, batch["labels"]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_video_size_cuts_the_middle_of_the_crops():
    conf = {"dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 16, "conv_pos": 4, "conv_pos_groups": 4}
    conf |= {"stem_channels": 4, "resnet_planes": [4, 4, 4, 4], "num_classes": 0}
    decoder = {"num_layers": 1, "num_heads": 2, "ffn_dim": 16}
    model = AVSRModel(8, encoder_conf=conf, decoder_conf=decoder, video_size=64).eval()
    video = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    _, frames, _ = model.prepare_inputs(None, None, video, None)
    _, inner, _ = model.prepare_inputs(None, None, video[:, :, 16:80, 16:80], None)
    assert frames.shape == (1, 1, 3, 64, 64) and torch.equal(frames, inner)
    with pytest.raises(UsageError, match="video_size"):
        AVSRModel(8, encoder_conf=conf, decoder_conf=decoder, video_size=96)


def test_lips_learn_to_predict_the_audio(make_model, batch):
    plain, model = make_model(), make_model(model={"audio_prediction_weight": 5.0}, modality_dropout=0.0)
    assert set(model.state_dict()) - set(plain.state_dict()) == {
        "audio_prediction.proj.weight",
        "audio_prediction.proj.bias",
    }
    inputs = prepare(model, batch)
    output = model(*inputs, batch["labels"])
    torch.testing.assert_close(output.loss, 0.1 * output.loss_ctc + 0.9 * output.loss_att + 5 * output.loss_audio)
    (gradient,) = torch.autograd.grad(
        output.loss - 0.1 * output.loss_ctc, model.audio_prediction.proj.weight, retain_graph=True
    )
    assert gradient.abs().sum() > 0
    for modality in ("audio", "video"):
        used = modality == "video"
        assert (model(*inputs, batch["labels"], modality=modality).loss_audio is not None) == used
    assert model(None, *inputs[1:], batch["labels"], modality="video").loss_audio is None
    with pytest.raises(UsageError, match="audio_prediction_weight"):
        make_model(model={"audio_prediction_weight": -1.0})


def test_audio_prediction_sees_valid_frames_only(make_model, batch):
    model = make_model(model={"audio_prediction_weight": 1.0}).eval()
    audio, video, lengths = prepare(model, batch)
    first = model(audio, video, lengths, batch["labels"]).loss_audio
    audio[1, :, 4:] = 100.0
    torch.testing.assert_close(model(audio, video, lengths, batch["labels"]).loss_audio, first)
    audio[1, :, 3] += 100.0
    assert model(audio, video, lengths, batch["labels"]).loss_audio > first + 1
