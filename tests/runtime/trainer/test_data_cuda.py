"""Feeding a CUDA device: nothing waits for it."""

import pytest
import torch

from runtime import default_data_collator
from runtime._data import EpochFeed, count_labels
from runtime._loaders import LoaderOptions, build_loader

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("pinned", [True, False])
def test_feeding_does_not_wait_for_the_device(pinned):
    """Batches in pinned and in pageable memory are moved and counted without a wait."""
    rows = [
        {"x": torch.full((4,), float(row)), "labels": torch.tensor([row, -100])} for row in range(8)
    ]
    loader = build_loader(
        rows,
        batch_size=2,
        collator=default_data_collator,
        options=LoaderOptions(pin_memory=pinned),
    )
    feed = EpochFeed(loader, accumulation=2, device=torch.device("cuda", 0))
    counts, batches = [], []
    torch.cuda.set_sync_debug_mode("error")
    try:
        feed.begin(0)
        while group := feed.next_group():
            batches += group
            counts.append(count_labels(group))
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert [float(count) for count in counts] == [4.0, 4.0]
    assert [batch["x"][0, 0].item() for batch in batches] == [0.0, 2.0, 4.0, 6.0]
