# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch
import yaml

from espnet_av.avsr.model import AVSRModel
from espnet_av.avss.lip_embedding import LipEmbedder
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError

SMALL = {"stem_channels": 4, "planes": (4, 5, 6, 7)}
MOUTHS = torch.randint(0, 256, (2, 6, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make(seed: int = 0, **options) -> LipEmbedder:
    torch.manual_seed(seed)
    embedder = LipEmbedder(**{**SMALL, **options})
    for key, value in embedder.net.state_dict().items():  # statistics that differ from those of a batch
        if key.endswith("running_mean"):
            value.normal_()
    return embedder


def save_published(path, embedder: LipEmbedder, prefix: str = "") -> None:
    state = {prefix + key: value for key, value in embedder.net.state_dict().items()}
    state[f"{prefix}tcn.tcn_output.weight"] = torch.zeros(2)
    torch.save({"model_state_dict": state, "optimizer_state_dict": {}, "epoch_idx": 3, "best_prec": 0.9}, path)


def test_clips_do_not_see_each_other_whatever_the_mode():
    embedder = make().train()
    assert not embedder.training and not any(module.training for module in embedder.modules())
    both = embedder(MOUTHS)
    assert both.shape == (2, 6, 7) and not both.requires_grad
    torch.testing.assert_close(embedder(MOUTHS[:1])[0], both[0], atol=1e-6, rtol=1e-5)
    owner = torch.nn.ModuleList([embedder, torch.nn.BatchNorm1d(2)]).train()
    assert owner[1].training and not embedder.net.frontend3D[1].training


def test_padding_does_not_count():
    embedder = make()
    padded = embedder(MOUTHS, torch.tensor([6, 4]))
    torch.testing.assert_close(padded[1, :4], embedder(MOUTHS[1:, :4])[0], atol=1e-6, rtol=1e-5)
    assert (padded[1, 4:] == 0).all()


@pytest.mark.parametrize("prefix", ["", "module.", "video_model."])
def test_published_file(tmp_path, prefix):
    embedder = make(activation="swish")
    save_published(tmp_path / "lrw.pth.tar", embedder, prefix)
    loaded = LipEmbedder.from_pretrained(tmp_path / "lrw.pth.tar")
    assert loaded.conf == embedder.conf
    assert loaded.digest() == embedder.digest() != make(1, activation="swish").digest()
    assert torch.equal(loaded(MOUTHS), embedder(MOUTHS))


def test_wrong_activation_and_other_files_are_refused(tmp_path):
    save_published(tmp_path / "prelu.pth", make(activation="prelu"))
    save_published(tmp_path / "swish.pth", make(activation="swish"))
    with pytest.raises(CheckpointError, match="has slopes of PReLU; got 'swish'"):
        LipEmbedder.from_pretrained(tmp_path / "prelu.pth", activation="swish")
    with pytest.raises(CheckpointError, match="has no slopes of PReLU; got 'prelu'"):
        LipEmbedder.from_pretrained(tmp_path / "swish.pth", activation="prelu")
    relu = LipEmbedder.from_pretrained(tmp_path / "swish.pth", activation="relu")
    assert relu.digest() != LipEmbedder.from_pretrained(tmp_path / "swish.pth").digest()
    state = make().net.state_dict()
    del state["trunk.layer3.0.bn1.bias"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match="cut.pth: .*1 missing .trunk.layer3.0.bn1.bias"):
        LipEmbedder.from_pretrained(tmp_path / "cut.pth")
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not a lip-reading checkpoint"):
        LipEmbedder.from_pretrained(tmp_path / "other.pth")
    with pytest.raises(MissingDataError, match="no such checkpoint"):
        LipEmbedder.from_pretrained(tmp_path / "absent.pth")


def test_shufflenet_keeps_its_width(tmp_path):
    embedder = make(backbone="shufflenetv2", width=0.5)
    assert embedder.output_size == 1024
    save_published(tmp_path / "snv.pth", embedder)
    loaded = LipEmbedder.from_pretrained(tmp_path / "snv.pth")
    assert loaded.conf["width"] == 0.5 and loaded.digest() == embedder.digest()
    with pytest.raises(UsageError, match="no such width; got 0.7"):
        LipEmbedder("shufflenetv2", width=0.7)


def test_saved_file_tells_everything(tmp_path):
    embedder = make(activation="relu", video_pool=2, video_size=64)
    embedder.name = "mine"
    loaded = LipEmbedder.from_pretrained(embedder.save(tmp_path / "front.safetensors"))
    assert (loaded.conf, loaded.name, loaded.digest()) == (embedder.conf, "mine", embedder.digest())
    with pytest.raises(CheckpointError, match="another activation; got 'swish'; allowed: relu"):
        LipEmbedder.from_pretrained(tmp_path / "front.safetensors", activation="swish")
    with pytest.raises(UsageError, match="safetensors"):
        embedder.save(tmp_path / "front.pth")


def test_lips_of_a_recogniser(tmp_path):
    encoder = {"dim": 16, "num_layers": 1, "num_heads": 2, "ffn_dim": 20, "conv_pos": 6, "conv_pos_groups": 4}
    encoder |= {"stem_channels": 3, "resnet_planes": [3, 4, 5, 6], "resnet_activation": "relu", "video_pool": 2}
    conf = {"encoder_conf": encoder, "decoder_conf": {"num_layers": 1, "num_heads": 2, "ffn_dim": 20}, "video_size": 64}
    torch.manual_seed(0)
    model = AVSRModel(7, **conf).eval()
    folder = tmp_path / "train_word" / "pack"
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / "valid.acc.best.pth")
    tokens = ["<blank>", "<unk>", "A", "B", "C", "D", "<eos>"]
    config = {"model": "avsr", "model_conf": conf, "token_list": tokens, "token_type": "word"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    embedder = LipEmbedder.from_pretrained(f"avsr:{folder}")
    assert embedder.name == "lips of train_word" and embedder.output_size == 6
    lips = model.encoder.feature_extractor_video
    frames = model.prepare_inputs(None, None, MOUTHS[..., 16:80, 16:80], torch.tensor([6, 6]))[1]
    expected = lips.resnet(frames.squeeze(1)).unflatten(0, (2, 6))
    torch.testing.assert_close(embedder(MOUTHS), expected, atol=1e-5, rtol=1e-5)


def test_untrained_front_end_is_told(caplog):
    one, same, other = (LipEmbedder.from_pretrained(name) for name in ("random", "random:0", "random:1"))
    assert one.digest() == same.digest() != other.digest()
    assert "UNTRAINED" in caplog.text
    with pytest.raises(UsageError, match="takes a seed"):
        LipEmbedder.from_pretrained("random:x")


def test_digest_knows_preprocessing_and_sizes():
    plain, pooled = make(), make(video_pool=2)
    assert plain.digest() == make().digest()
    assert len({plain.digest(), pooled.digest(), make(video_size=80).digest()}) == 3
    with torch.no_grad():
        pooled.net.frontend3D[0].weight[0, 0, 0, 0, 0] += 1e-3
    assert pooled.digest() != make(video_pool=2).digest()
    assert json.loads(json.dumps(plain.describe(4, 1).to_dict()))["variants"] == 4


def test_wrong_crops_are_refused():
    with pytest.raises(DataError, match="wrong type or shape; got .'torch.float32'"):
        make()(MOUTHS.float())
    with pytest.raises(DataError, match="too small"):
        make()(MOUTHS[..., :80, :80])
    with pytest.raises(UsageError, match="unknown backbone.*resnet18, shufflenetv2"):
        LipEmbedder("vgg")
