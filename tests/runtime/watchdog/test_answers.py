"""Who is blamed, of what ranks say of themselves."""

import math

from hypothesis import given
from hypothesis import strategies as st

from runtime._watchdog_answers import Answer, find, gather_stacks


def answer(rank: int, activity: str = "exchange", **more: object) -> Answer:
    fields = {
        "question": 1,
        "rank": rank,
        "passed": 100,
        "step": 100,
        "phase": "training",
        "lenient": False,
        "silent": 6.0,
        "limit": 10.0,
        "activity": activity,
        "place": "train.py:7 in step" if activity == "exchange" else f"train.py:9 in {activity}",
        "stacks": f"rank {rank}",
    }
    return Answer.model_validate({**fields, **more})


def test_a_rank_that_does_something_else():
    """It is named, and the ranks that wait for it are not."""
    found = find([answer(0), answer(1, "code"), answer(2)], 0, {})

    assert found is not None
    assert (found.kind, found.ranks) == ("rank", (1,))
    assert "rank 1 is at train.py:9 in code" in found.text
    assert "waiting at train.py:7 in step: ranks 0, 2" in found.text


def test_a_rank_without_data():
    """Data that does not come is told from code that does not end."""
    found = find([answer(0), answer(1, "data", stopped=["process 7"])], 0, {})

    assert found is not None
    assert (found.kind, found.ranks) == ("data", (1,))
    assert "process 7 stopped" in found.text


def test_a_rank_that_left_out_a_collective():
    """It goes on while the others wait, is ahead in a later one, or waits in another one."""
    going_on = find([answer(0), answer(1, "code", silent=0.1, passed=900), answer(2)], 0, {})
    ahead = find([answer(0), answer(1, passed=101), answer(2)], 0, {})
    elsewhere = find([answer(0), answer(1, place="train.py:70 in barrier"), answer(2)], 0, {})

    for found in (going_on, ahead, elsewhere):
        assert found is not None
        assert (found.kind, found.ranks) == ("collective", (1,))


def test_all_wait_alike():
    """Nobody can be told from the others, so all are named, with where they wait."""
    found = find([answer(0), answer(1)], 0, {})

    assert found is not None
    assert (found.kind, found.ranks) == ("collective", (0, 1))
    assert "train.py:7 in step: ranks 0, 1" in found.text


def test_a_rank_that_may_take_its_time():
    """Ranks that wait for one that saves, evaluates or compiles are not late."""
    for activity in ("compiling", "storage", "code"):
        assert find([answer(0), answer(1, activity, lenient=True)], 0, {}) is None


def test_a_rank_that_left_the_loop():
    """Having returned from it is no excuse while others wait in it."""
    beyond = answer(1, "code", silent=0.0, place="train.py:99 in report")
    found = find([answer(0), beyond], 0, {})
    assert found is not None
    assert found.ranks == (1,)


def test_a_rank_that_does_not_answer():
    """Its process is gone or stopped; one whose run is over is told apart."""
    silent = find([answer(0)], 0, {1: False})
    over = find([answer(0)], 0, {1: True, 2: False})

    assert silent is not None
    assert (silent.kind, silent.ranks) == ("silent", (1,))
    assert over is not None
    assert (over.kind, over.ranks) == ("ended", (1,))


def test_a_worker_that_died():
    """Nothing else matters then."""
    found = find([answer(0), answer(1, "data", dead=["process 7, killed by SIGKILL"])], 0, {})
    assert found is not None
    assert (found.kind, found.ranks) == ("worker", (1,))
    assert "process 7, killed by SIGKILL" in found.text


def test_alone():
    """A process that waits for its device has nobody else to blame."""
    found = find([answer(0, "device")], 0, {})
    assert found is not None
    assert (found.kind, found.ranks) == ("rank", (0,))


def test_stacks_of_a_thousand_ranks():
    """Those at one place stand together, those that are blamed first, and all within a bound."""
    same = [answer(rank) for rank in range(1000) if rank != 700]
    kept, left_out = gather_stacks([*same, answer(700, "code")], (700,))
    assert [each.ranks[0] for each in kept] == [700, 0]
    assert len(kept[1].ranks) == 999
    assert left_out == 0

    many = [answer(rank, place=f"{rank}", stacks="x" * 16_000) for rank in range(100)]
    kept, left_out = gather_stacks(many, (99,))
    assert kept[0].ranks == (99,)
    assert len(kept) + left_out == 100
    assert sum(len(each.stacks) for each in kept) <= 256_000


activities = st.sampled_from(["exchange", "backward", "device", "data", "code"])


@given(
    st.lists(
        st.tuples(activities, st.integers(0, 3), st.floats(0, 20), st.sampled_from("abc")),
        min_size=1,
        max_size=8,
    ),
    st.sets(st.integers(100, 103)),
)
def test_somebody_is_always_blamed(ranks, missing):
    """Where nothing is lenient there is a finding, of ranks that there are, and words for it."""
    answers = [
        answer(rank, activity, passed=passed, silent=silent if rank else 20.0, place=place)
        for rank, (activity, passed, silent, place) in enumerate(ranks)
    ]
    found = find(answers, 0, dict.fromkeys(missing, False))
    assert found is not None
    assert found.ranks
    assert set(found.ranks) <= missing | {each.rank for each in answers}
    assert found.text


def test_an_answer_survives_its_way():
    """A limit that is not known yet is infinite on both sides."""
    sent = answer(3, limit=math.inf, dead=["process 7"])
    assert Answer.model_validate_json(sent.model_dump_json()) == sent
