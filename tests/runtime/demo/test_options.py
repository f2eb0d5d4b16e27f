"""The numbers to train by."""

import pytest
from pydantic import ValidationError

from runtime.demo import DemoOptions, Recipe


class TestRecipe:
    def test_takes_what_was_asked_for(self):
        """The rest stays as it is in the recipe that it starts from."""
        base = Recipe(steps=10, seed=4, width=64)
        recipe = DemoOptions(steps=20).recipe(base)
        assert recipe == Recipe(steps=20, seed=4, width=64)

    @pytest.mark.parametrize("wrong", [{"steps": 0}, {"seed": -1}, {"learning_rate": 0.0}])
    def test_refuses_what_cannot_be(self, wrong):
        """Before anything is loaded."""
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            DemoOptions(**wrong).recipe()
