"""Which process this is, from what launchers set."""

import pytest

from runtime._world import World


def test_nobody_else():
    """Without a launcher a process trains by itself."""
    assert World.here({}) == World(rank=0, size=1, local_rank=0)
    assert World.here({"RANK": "", "WORLD_SIZE": ""}).alone


def test_launched():
    """What torchrun sets for the second worker of the second machine."""
    world = World.here({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"})

    assert (world.rank, world.size, world.local_rank, world.alone) == (3, 4, 1, False)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, r"RANK=2 cannot be with WORLD_SIZE=2"),
        ({"RANK": "1"}, r"RANK=1 cannot be with WORLD_SIZE=1"),
        ({"WORLD_SIZE": "0"}, r"cannot be with WORLD_SIZE=0"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, r"RANK='one' must be a whole number"),
        ({"LOCAL_RANK": "-1"}, r"LOCAL_RANK='-1' must be a whole number"),
    ],
)
def test_nonsense(environment, words):
    """What cannot be is refused with the variable's name."""
    with pytest.raises(ValueError, match=words):
        World.here(environment)
