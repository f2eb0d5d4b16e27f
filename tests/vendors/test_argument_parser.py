"""Transformers' argument parser reads our arguments as it reads its own."""

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("HOTLOOP_HF_PYTHON", "")

PROGRAM = """
import sys
sys.path.append(sys.argv[1])  # what hotloop needs and transformers does not bring
from transformers import HfArgumentParser
from runtime import TrainingArguments
parser = HfArgumentParser(TrainingArguments)
args, = parser.parse_args_into_dataclasses(sys.argv[2:])
again, = parser.parse_dict(args.to_dict())
assert again == args
print(args.to_json_string())
"""


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="HOTLOOP_HF_PYTHON names no interpreter with transformers")
def test_a_command_line():
    """Choices, optional values, lists, JSON objects and negated switches arrive, as do dicts."""
    line = (
        "--use_cpu --eval_strategy steps --eval_steps 10 --report_to jsonl --no_log_on_each_node "
        '--lr_scheduler_type cosine --lr_scheduler_kwargs {"num_cycles":0.25} --label_names a b '
        "--dataloader_num_workers 2 --dataloader_multiprocessing_context fork --tf32 false "
        "--activation_checkpointing --log_level info --include_for_metrics inputs --seed 3"
    )
    done = subprocess.run(  # noqa: S603 - a program of this test
        [PYTHON, "-c", PROGRAM, sysconfig.get_paths()["purelib"], *line.split()],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)

    expected = {
        "eval_steps": 10,
        "report_to": ["jsonl"],
        "log_on_each_node": False,
        "lr_scheduler_kwargs": {"num_cycles": 0.25},
        "label_names": ["a", "b"],
        "dataloader_multiprocessing_context": "fork",
        "tf32": False,
        "activation_checkpointing": True,
        "log_level": "info",
        "include_for_metrics": ["inputs"],
        "seed": 3,
    }
    assert {name: values[name] for name in expected} == expected
