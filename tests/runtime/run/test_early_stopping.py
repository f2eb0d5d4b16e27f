"""Early stopping: a pure policy, checked against the definition written out naively."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import DecisionApplied, Evaluated, Stop
from bus.testing import JournalAsserter
from runtime import EarlyStopping, Patience

POLICIES = st.builds(
    EarlyStopping,
    patience=st.integers(1, 5),
    min_delta=st.sampled_from([0.0, 0.25, 1.0]),
    goal=st.sampled_from(["minimize", "maximize"]),
)
VALUES = st.lists(
    st.one_of(
        st.integers(-8, 8).map(lambda number: number / 4),
        st.sampled_from([math.nan, math.inf, -math.inf]),
    ),
    max_size=30,
)


def naive_stop(policy, values):
    """The first index at which the last `patience` values brought no improvement, or None."""
    for end in range(1, len(values) + 1):
        best, best_index = None, -1
        for index, value in enumerate(values[:end]):
            if math.isnan(value):
                continue
            gain = math.inf if best is None else value - best
            if best is not None and policy.goal == "minimize":
                gain = -gain
            if best is None or gain > policy.min_delta:
                best, best_index = value, index
        if end - 1 - best_index >= policy.patience:
            return end - 1
    return None


def actual_stop(policy, values):
    state = Patience()
    for index, value in enumerate(values):
        state = policy.update(state, value, step=index)
        if policy.exhausted(state):
            return index
    return None


@given(POLICIES, VALUES)
def test_stops_where_the_definition_says(policy, values):
    """It stops at exactly the evaluation at which the last `patience` ones were no better."""
    assert actual_stop(policy, values) == naive_stop(policy, values)


@given(POLICIES, VALUES)
def test_goals_mirror_each_other(policy, values):
    """Maximizing a value is minimizing its negative."""
    mirrored = EarlyStopping(
        patience=policy.patience,
        min_delta=policy.min_delta,
        goal="maximize" if policy.goal == "minimize" else "minimize",
    )

    assert actual_stop(mirrored, [-value for value in values]) == actual_stop(policy, values)


@given(POLICIES, VALUES, st.integers(0, 30))
def test_resuming_changes_nothing(policy, values, cut):
    """The state after some evaluations is all that the rest needs; `update` keeps the old one."""
    state = Patience()
    for index, value in enumerate(values[:cut]):
        state = policy.update(state, value, index)
    kept = Patience(state.best, state.best_step, state.failures)
    rest = [policy.update(state, value, cut).failures for value in values[cut:]]

    assert state == kept
    assert rest == [policy.update(kept, value, cut).failures for value in values[cut:]]


@given(POLICIES, VALUES)
def test_the_decider_asks_when_the_policy_says(policy, values):
    """As a decider of evaluations it answers with a Stop from that evaluation on."""
    decide = policy.decider()

    async def answers():
        return [
            await decide(Evaluated(step=step, metrics={"loss": value}))
            for step, value in enumerate(values)
        ]

    stops = [step for step, answer in enumerate(asyncio.run(answers())) if answer is not None]
    assert (stops[0] if stops else None) == naive_stop(policy, values)


class TestDetails:
    def test_nan_is_never_better(self):
        """NaN counts as a failure, also as the first value, and never becomes the best."""
        policy = EarlyStopping(patience=2)
        state = policy.update(Patience(), math.nan, 1)

        assert state == Patience(None, None, 1)
        assert policy.update(state, 3.0, 2) == Patience(3.0, 2, 0)
        assert policy.exhausted(policy.update(state, math.nan, 2))

    def test_min_delta_must_be_exceeded(self):
        """An improvement by exactly `min_delta` is none."""
        policy = EarlyStopping(min_delta=0.5)

        assert not policy.improves(1.5, 2.0)
        assert policy.improves(1.25, 2.0)

    def test_reason_names_metric_count_and_best(self):
        """The journal says what was waited for and where the best value was."""
        policy = EarlyStopping(metric="acc", goal="maximize")

        assert policy.reason(Patience(0.91, 40, 3)) == (
            "acc has not improved in 3 evaluations (best 0.91 at step 40)"
        )
        assert policy.reason(Patience(None, None, 3)).endswith("(never a number)")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"patience": 0}, "patience=0"),
            ({"patience": -1}, "patience=-1"),
            ({"min_delta": -0.1}, "min_delta=-0.1"),
            ({"min_delta": math.nan}, "min_delta=nan"),
            ({"min_delta": math.inf}, "min_delta=inf"),
            ({"goal": "lower"}, "goal='lower'"),
        ],
    )
    def test_bad_arguments(self, options, message):
        """Arguments out of range are refused by name and value."""
        with pytest.raises(ValueError, match=message):
            EarlyStopping(**options)

    def test_other_evaluations_are_passed_over(self):
        """An evaluation without the metric neither counts nor resets."""
        decide = EarlyStopping(patience=1).decider(Patience(1.0, 1, 0))

        async def answers():
            other = await decide(Evaluated(step=2, metrics={"acc": 0.5}))
            worse = await decide(Evaluated(step=3, metrics={"loss": 2.0}))
            return other, worse

        other, worse = asyncio.run(answers())
        assert other is None
        assert isinstance(worse, Stop)


def test_stops_a_run_at_the_same_step_each_time(new_run):
    """Registered as a decider it stops the loop at the safe point after the deciding evaluation."""
    losses = [3.0, 2.0, 2.0, 2.5, 1.0]
    stopped = []
    for name in ("first", "second"):
        run = new_run(name)
        run.decider(Evaluated)(EarlyStopping(patience=2).decider())
        for step, loss in enumerate(losses):
            run.publish(Evaluated(step=step, metrics={"loss": loss}))
            if run.safe_point(step).stop:
                stopped.append(step)
                break
        run.close()
        JournalAsserter(run.dir).complete().ends("stopped").has(
            DecisionApplied,
            count=1,
            step=3,
            by="early_stopping",
            reason="loss has not improved in 2 evaluations (best 2 at step 1)",
        )

    assert stopped == [3, 3]
