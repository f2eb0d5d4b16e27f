"""The numbers to train by."""

import pytest
from pydantic import ValidationError

from runtime.demo import DemoOptions, Recipe


class TestLearningRate:
    def test_rises_then_falls_to_a_hundredth(self):
        """Linear to the peak at the end of the warm-up, half a cosine to the last step."""
        recipe = Recipe(steps=1000, warmup_steps=100, learning_rate=1.0)
        rates = [recipe.learning_rate_at(step) for step in range(1, 1001)]
        assert rates[0] == pytest.approx(0.01)
        assert rates[49] == pytest.approx(0.5)
        assert max(rates) == rates[99] == 1.0
        assert rates[99:] == sorted(rates[99:], reverse=True)
        assert rates[549] == pytest.approx(0.505)
        assert rates[-1] == pytest.approx(0.01)

    def test_short_trainings_warm_up_in_a_tenth(self):
        """Otherwise they would end before the peak."""
        recipe = Recipe(steps=20, warmup_steps=100, learning_rate=1.0)
        assert max(recipe.learning_rate_at(step) for step in range(1, 21)) == 1.0

    def test_a_single_step_has_one_too(self):
        """No division by zero at the edge."""
        assert Recipe(steps=1, learning_rate=1.0).learning_rate_at(1) == 1.0


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
