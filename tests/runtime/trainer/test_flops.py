"""Floating-point operations: upstream's number, counted without walking the model again."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from runtime._flops import FlopCounter, non_embedding_parameters, peak_flops


class Language(torch.nn.Module):
    """A model of tokens, its output perhaps tied to its embedding."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(11, 4)
        self.body = torch.nn.Linear(4, 4)
        self.head = torch.nn.Linear(4, 11, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, input_ids):
        return self.head(self.body(self.embed(input_ids)))


class Counting(Language):
    """One that counts itself, as Transformers' models do."""

    asked = 0

    def num_parameters(self, *, only_trainable=False, exclude_embeddings=False):
        """Count as Transformers does."""
        self.asked += 1
        assert exclude_embeddings
        assert not only_trainable
        return sum(each.numel() for name, each in self.named_parameters() if "embed" not in name)


BODY = 4 * 4 + 4
HEAD = 4 * 11
TOKENS = torch.zeros(3, 5, dtype=torch.int64)


class TestParameters:
    def test_embeddings_are_left_out(self):
        """Their weights do not count, everything else does."""
        assert non_embedding_parameters(Language()) == BODY + HEAD

    def test_a_tied_weight_counts_by_its_first_name(self):
        """As upstream: a head that shares an embedding's weight is the embedding."""
        assert non_embedding_parameters(Language(tied=True)) == BODY

    def test_a_model_that_counts_itself_is_asked(self):
        """The model's own rule goes before ours."""
        assert non_embedding_parameters(Counting()) == BODY + HEAD


class TestBatches:
    def test_upstreams_number(self):
        """6 for each token and each parameter outside the embeddings."""
        counter = FlopCounter(Counting())

        assert counter.of_batch({"input_ids": TOKENS}) == 6 * 15 * (BODY + HEAD)

    def test_the_model_is_walked_once(self):
        """However many batches there are, the parameters are counted at the first."""
        model = Counting()
        counter = FlopCounter(model)
        for _ in range(5):
            counter.of_batch({"input_ids": TOKENS})

        assert model.asked == 1

    def test_the_main_input_is_the_models(self):
        """A model says under which name its tokens come."""
        model = Counting()
        model.main_input_name = "pixels"

        assert FlopCounter(model).of_batch({"input_ids": TOKENS}) == 0
        assert FlopCounter(model).of_batch({"pixels": TOKENS}) == 6 * 15 * (BODY + HEAD)

    @pytest.mark.parametrize("batch", [{}, {"labels": TOKENS}, {"input_ids": [1]}, [TOKENS], None])
    def test_what_has_no_tokens_has_none(self, batch):
        """Batches without the main input count 0, as upstream."""
        assert FlopCounter(Counting()).of_batch(batch) == 0

    def test_a_plain_module_has_none(self):
        """Without `num_parameters` upstream counts 0; what a token costs is known all the same."""
        counter = FlopCounter(Language())

        assert counter.of_batch({"input_ids": TOKENS}) == 0
        assert counter.per_token == 6 * (BODY + HEAD)

    def test_no_value_is_read(self):
        """Only shapes are looked at, so a batch may be anywhere."""
        tokens = torch.zeros(3, 5, dtype=torch.int64, device="meta")

        assert FlopCounter(Counting()).of_batch({"input_ids": tokens}) > 0

    def test_the_estimate_is_near_what_torch_counts(self):
        """Torch's own counter, on a real pass, finds as much but for biases and the first layer."""
        model = Language()
        with FlopCounterMode(display=False) as counted:
            model(TOKENS).sum().backward()
        estimate = 15 * FlopCounter(model).per_token

        assert counted.get_total_flops() == pytest.approx(estimate, rel=0.1)


class TestPeaks:
    @pytest.mark.parametrize(
        ("name", "dtype", "tera"),
        [
            ("NVIDIA H200", torch.bfloat16, 989.4),
            ("NVIDIA H100 80GB HBM3", torch.float16, 989.4),
            ("NVIDIA H100 PCIe", torch.bfloat16, 756),
            ("NVIDIA A100-SXM4-80GB", torch.bfloat16, 312),
            ("NVIDIA A100 80GB PCIe", torch.float32, 19.5),
            ("NVIDIA L40S", torch.bfloat16, 362.05),
            ("NVIDIA L4", torch.bfloat16, 121),
            ("Tesla V100-SXM2-16GB", torch.float16, 125),
        ],
    )
    def test_data_sheets(self, name, dtype, tera):
        """Dense operations a second, found by the driver's name for the GPU."""
        assert peak_flops(name, dtype) == tera * 1e12

    def test_tf32(self):
        """float32 in TF32 has another peak where there are units for it, and only there."""
        assert peak_flops("NVIDIA H200", torch.float32, tf32=True) == 494.7e12
        assert peak_flops("Tesla T4", torch.float32, tf32=True) == 8.1e12

    @pytest.mark.parametrize(
        ("name", "dtype"),
        [
            ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", torch.bfloat16),
            ("NVIDIA A10G", torch.bfloat16),
            ("Some GPU", torch.bfloat16),
            ("", torch.float32),
            ("Tesla V100-SXM2-16GB", torch.bfloat16),
            ("NVIDIA H200", torch.float64),
        ],
    )
    def test_what_is_not_known_is_none(self, name, dtype):
        """No guess for a slice of a GPU, another GPU, or a precision without units."""
        assert peak_flops(name, dtype) is None
