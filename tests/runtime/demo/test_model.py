"""The model: what it may look at, where it starts, what it can learn."""

import math

import torch

from runtime.demo._model import ByteGPT, ModelShape
from runtime.demo._trainer import loss

SHAPE = ModelShape(context=32, layers=2, heads=2, width=32)


def model() -> ByteGPT:
    torch.manual_seed(0)
    return ByteGPT(SHAPE)


class TestByteGPT:
    def test_never_sees_the_future(self):
        """Changing a byte changes no prediction before it."""
        tokens = torch.randint(256, (2, 32))
        changed = tokens.clone()
        changed[:, 20] = (changed[:, 20] + 1) % 256
        before, after = model()(tokens), model()(changed)
        assert torch.equal(before[:, :20], after[:, :20])
        assert not torch.equal(before[:, 20:], after[:, 20:])

    def test_knows_the_order_of_what_it_reads(self):
        """Position reaches attention by rotation alone, so swapped bytes read differently."""
        tokens = torch.tensor([[1, 2, 3]])
        swapped = torch.tensor([[2, 1, 3]])
        assert not torch.allclose(model()(tokens)[0, -1], model()(swapped)[0, -1])

    def test_starts_by_guessing(self):
        """About ln 256 nats per byte."""
        tokens = torch.randint(256, (8, 33))
        guessed = loss(model()(tokens[:, :-1]), tokens[:, 1:], None)
        assert abs(guessed.item() - math.log(256)) < 0.3

    def test_learns_a_batch_by_heart(self):
        """The loss of one batch falls below a tenth of a nat."""
        learner = model()
        tokens = torch.randint(256, (2, 33))
        optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-2)
        for _ in range(100):
            missed = loss(learner(tokens[:, :-1]), tokens[:, 1:], None)
            optimizer.zero_grad()
            missed.backward()
            optimizer.step()
        assert missed.item() < 0.1


class TestGenerate:
    def test_is_reproducible_and_leaves_the_random_state_alone(self):
        """Sampling must not change what a training run draws next; longer than the context, too."""
        writer = model()
        before = torch.get_rng_state()
        first = writer.generate("The ", length=60, seed=1)
        assert torch.equal(torch.get_rng_state(), before)
        assert writer.generate("The ", length=60, seed=1) == first
        assert writer.generate("The ", length=60, seed=2) != first
        assert first.startswith("The ")

    def test_writes_something_even_after_divergence(self):
        """A run that was stopped for its NaN still gets its summary."""
        writer = model()
        with torch.no_grad():
            writer.token.weight.fill_(math.nan)
        assert writer.generate("The ", length=5, seed=1).startswith("The ")
