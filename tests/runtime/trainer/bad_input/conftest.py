"""A maker of trainers."""

import pytest

from tests.runtime.trainer.bad_input.wrong_uses import Maker


@pytest.fixture
def make(tmp_path):
    """Makes trainers, which are closed after the test."""
    maker = Maker(tmp_path)
    yield maker
    for trainer in maker.made:
        trainer.close()
