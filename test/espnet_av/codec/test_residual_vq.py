# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Residual quantiser: gradients, learning of the codebooks, and what it refuses."""

import pytest
import torch
from torch.testing import assert_close

from espnet_av.codec.codebook import EuclideanCodebook, kmeans, sample_indices
from espnet_av.codec.quantizer import ResidualVectorQuantizer, principal_axes
from espnet_av.utils.errors import UsageError

DIM, FRAMES = 8, 30


@pytest.fixture
def quantizer() -> ResidualVectorQuantizer:
    torch.manual_seed(0)
    return ResidualVectorQuantizer(DIM, 3, 16, 4, kmeans_iters=3)


@pytest.fixture
def latent() -> torch.Tensor:
    return torch.randn(2, DIM, FRAMES, generator=torch.Generator().manual_seed(1))


def start(quantizer: ResidualVectorQuantizer, latent: torch.Tensor) -> None:
    quantizer.train()(latent)
    quantizer.eval()


def test_codes_of_fewer_layers_come_first(quantizer, latent):
    start(quantizer, latent)
    all_codes = quantizer.encode(latent)
    assert all_codes.shape == (3, 2, FRAMES)
    for number in (1, 2, 3):
        assert torch.equal(quantizer.encode(latent, number), all_codes[:number])
        assert torch.equal(quantizer(latent, number).codes, all_codes[:number])
    errors = [(quantizer.decode(all_codes[:number]) - latent).square().mean() for number in (1, 3)]
    assert errors[1] != errors[0]


def test_tables_hold_what_codes_add(quantizer, latent):
    start(quantizer, latent)
    codes, tables = quantizer.encode(latent), quantizer.tables()
    assert tables.shape == (3, 16, DIM)
    looked_up = sum(table[indices] for table, indices in zip(tables, codes, strict=True)).transpose(1, 2)
    torch.testing.assert_close(looked_up, quantizer.decode(codes))
    torch.testing.assert_close(looked_up, quantizer(latent).quantized)


def test_gradients_reach_both_projections_of_layers_in_use(quantizer, latent):
    start(quantizer, latent)
    latent.requires_grad_(True)
    quantizer.train()(latent, 2).quantized.square().sum().backward()
    for number, layer in enumerate(quantizer.layers):
        used = number < 2
        for name, parameter in layer.named_parameters():
            assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == used, name
    assert latent.grad.abs().sum() > 0


def test_leftovers_pass_no_gradient(quantizer, latent):
    """The second layer's output depends on the first only through numbers, not through gradients."""
    start(quantizer, latent)
    quantizer.train()
    latent.requires_grad_(True)
    first, second = quantizer.layers[0], quantizer.layers[1]
    output, *_ = first(latent)
    second(latent - output.detach())[0].sum().backward()
    assert first.project_out.weight.grad is None
    assert latent.grad is not None


def test_commitment_pulls_the_encoder_and_is_zero_in_evaluation(quantizer, latent):
    start(quantizer, latent)
    assert quantizer(latent).commit_loss == 0
    latent.requires_grad_(True)
    quantizer.train()(latent).commit_loss.backward()
    assert latent.grad.abs().sum() > 0
    assert quantizer.layers[0].project_out.weight.grad is None


def test_only_training_learns(quantizer, latent):
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    quantizer.eval()
    quantizer(latent)
    quantizer.train().encode(latent)
    assert all(torch.equal(before[name], tensor) for name, tensor in quantizer.state_dict().items())
    quantizer(latent)
    assert quantizer.layers[0]._codebook.inited == 1
    quantizer(latent)
    assert not torch.equal(before["vq.layers.0._codebook.embed"], quantizer.layers[0].codebook)


def test_learning_goes_on_from_loaded_codebooks(quantizer, latent):
    start(quantizer, latent)
    other = ResidualVectorQuantizer(DIM, 3, 16, 4, kmeans_iters=3)
    other.load_state_dict(quantizer.state_dict())
    torch.manual_seed(5)
    one = quantizer.train()(latent).quantized
    torch.manual_seed(5)
    assert torch.equal(other.train()(latent).quantized, one)
    assert torch.equal(other.layers[2].codebook, quantizer.layers[2].codebook)


def test_equally_near_entries_give_the_first():
    codebook = EuclideanCodebook(2, 4)
    codebook.embed.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]]))
    assert codebook.search(torch.tensor([[0.0, 2.0], [0.0, 0.0]])).tolist() == [1, 0]


def test_dead_entries_become_vectors_of_the_batch():
    torch.manual_seed(0)
    codebook = EuclideanCodebook(2, 8, dead_threshold=2).train()
    codebook.inited.fill_(1)
    codebook.embed.copy_(torch.randn(8, 2))
    codebook.embed[:4] += 100  # far from everything
    codebook.cluster_size.fill_(2.01)
    codebook.embed_avg.copy_(codebook.embed * 2.01)
    vectors = torch.randn(200, 2)
    codebook(vectors)
    for entry in codebook.embed[:4]:
        assert (vectors == entry).all(dim=1).any()
    assert (codebook.cluster_size[:4] == 2).all()
    assert (codebook.cluster_size >= 2).all()


def test_random_indices():
    torch.manual_seed(0)
    assert sorted(sample_indices(10, 10).tolist()) == list(range(10))
    drawn = sample_indices(3, 50)
    assert len(drawn) == 50
    assert set(drawn.tolist()) == {0, 1, 2}


def test_clusters_without_vectors_stay():
    vectors = torch.tensor([[0.0], [0.2], [1.0], [1.2]])
    means, counts = kmeans(vectors, torch.tensor([[0.0], [1.0], [9.0]]), 3)
    torch.testing.assert_close(means[:, 0], torch.tensor([0.1, 1.1, 9.0]))
    assert counts.tolist() == [2, 2, 0]


def test_without_projections(latent):
    quantizer = ResidualVectorQuantizer(DIM, 2, 16, kmeans_iters=2)
    start(quantizer, latent)
    assert not list(quantizer.parameters())
    assert torch.equal(quantizer.tables()[1], quantizer.layers[1].codebook)


def test_what_is_refused(quantizer):
    with pytest.raises(UsageError, match="1 to 3"):
        quantizer.encode(torch.randn(1, DIM, 2), 4)
    with pytest.raises(UsageError, match="1 to 3"):
        quantizer.decode(torch.zeros(4, 1, 2, dtype=torch.long))
    for codes in (torch.zeros(2, 3, dtype=torch.long), torch.zeros(1, 1, 3)):
        with pytest.raises(UsageError, match="integers"):
            quantizer.decode(codes)
    with pytest.raises(UsageError, match="at least"):
        ResidualVectorQuantizer(4, 0)


def test_projections_from_principal_axes():
    """Every layer starts by giving back most of what it is given, and the next one gets what is left over."""
    torch.manual_seed(0)
    scales = torch.linspace(2, 0.05, 16)
    latent = (torch.randn(8, 50, 16) * scales + 3).transpose(1, 2)  # with a mean that is far from zero
    errors = {}
    for pca_init in (False, True):
        torch.manual_seed(1)
        quantizer = ResidualVectorQuantizer(16, 3, 64, 4, pca_init=pca_init).train()
        quantizer(latent)
        quantizer.eval()
        outputs = [quantizer.decode(quantizer.encode(latent, number)) for number in (1, 2, 3)]
        errors[pca_init] = [(latent - output).square().mean().item() for output in outputs]
    variance = latent.transpose(1, 2).flatten(0, 1).var(0).mean().item()
    first, second, third = errors[True]
    assert third < second < first < 0.6 * variance
    assert errors[False][0] > variance  # random projections give nothing back


def test_principal_axes():
    """The axes are those of a singular value decomposition, orthonormal, the most important first."""
    torch.manual_seed(0)
    vectors = torch.randn(300, 6) * torch.tensor([1.0, 5.0, 0.1, 3.0, 0.5, 2.0]) + 7
    axes, mean = principal_axes(vectors, 3)
    assert_close(mean, vectors.mean(0), atol=1e-5, rtol=0)
    assert_close(axes @ axes.t(), torch.eye(3), atol=1e-5, rtol=0)
    expected = torch.linalg.svd(vectors - vectors.mean(0)).Vh[:3]
    assert_close((axes * expected).sum(1).abs(), torch.ones(3), atol=1e-4, rtol=0)
    with pytest.raises(UsageError, match="kmeans_init"):
        ResidualVectorQuantizer(16, 1, 8, 4, pca_init=True, kmeans_init=False)
