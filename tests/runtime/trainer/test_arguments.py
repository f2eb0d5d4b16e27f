"""Training arguments have upstream's names, defaults and derivations, and survive a round trip."""

import argparse
import copy
import dataclasses
import json
import logging
import pickle
from enum import Enum
from pathlib import Path
from typing import Literal, get_args, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime import IntervalStrategy, SaveStrategy, SchedulerType, TrainingArguments

GOLDEN = json.loads((Path(__file__).parent / "golden" / "arguments.json").read_text())
OURS = {
    "raise_from_callbacks": True,
    "asynchronous_checkpoints": True,
    "grace_seconds": None,
    "watchdog_seconds": 10.0,
    "requeue": True,
}
MENDED = {"restore_callback_states_from_checkpoint"}
LAUNCHED = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No launcher speaks to these tests."""
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)


def made(**values):
    return TrainingArguments(**{"use_cpu": True, **values})


def test_defaults_are_upstreams():
    """Every field has upstream's default, but for those that are ours or mended on purpose."""
    found = {name: value for name, value in made().to_dict().items() if name != "hub_token"}
    expected = {name: GOLDEN["defaults"][name] for name in found if name in GOLDEN["defaults"]}

    assert {name: found[name] for name in found if name not in expected} == OURS
    assert {name for name in expected if found[name] != expected[name]} == MENDED


def test_fields_stand_in_upstreams_order():
    """`output_dir` comes first, so that it may be given without its name."""
    assert TrainingArguments("out", use_cpu=True).output_dir == "out"
    assert next(iter(dataclasses.fields(TrainingArguments))).name == "output_dir"


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: json.dumps(case["given"]))
@pytest.mark.filterwarnings("ignore:gradient_checkpointing is deprecated:FutureWarning")
def test_derivations_are_upstreams(case):
    """What follows from what was given, and what is refused, is what upstream has."""
    given_values = case["given"]
    if torch.cuda.is_available() and {"tf32", "bf16"} & given_values.keys():
        pytest.skip("what was recorded is a machine without a GPU")
    if "refused" in case:
        with pytest.raises(ValueError, match=r"."):
            made(**given_values)
        return
    base, found = made().to_dict(), made(**given_values).to_dict()

    changed = {
        name: value
        for name, value in found.items()
        if value != base[name] or type(value) is not type(base[name])
    }
    assert changed == case["changed"]


@pytest.mark.parametrize("wanted", [None, "none", ["none"], []])
def test_nothing_to_report_to(wanted):
    """None means none, unlike upstream, where it ends in an error."""
    assert made(report_to=wanted).report_to == []


def test_reporting_to_all_names_the_sinks_that_are_ready():
    """As upstream it is what is installed and can be used."""
    assert "jsonl" in made(report_to="all").report_to
    assert "discord" not in made(report_to="all").report_to


def test_choices_are_members():
    """Words become members that equal their words."""
    args = made(eval_strategy="epoch", save_strategy=SaveStrategy.BEST, lr_scheduler_type="cosine")

    assert args.eval_strategy is IntervalStrategy.EPOCH
    assert args.eval_strategy == "epoch"
    assert args.save_strategy is SaveStrategy.BEST
    assert args.lr_scheduler_type is SchedulerType.COSINE


def test_text_is_read_as_its_field_says():
    """What comes from a command line, YAML or numpy has the field's type afterwards."""
    args = made(
        learning_rate="5e-4",
        max_steps=np.int64(7),
        logging_steps=np.float64(10),
        bf16="false",
        seed="3",
        lr_scheduler_kwargs='{"num_cycles": 2}',
        lr_scheduler_type="cosine",
        output_dir=Path("a") / "b",
    )

    assert (args.learning_rate, args.max_steps, args.seed) == (5e-4, 7, 3)
    assert (type(args.max_steps), type(args.logging_steps), args.bf16) == (int, int, False)
    assert args.lr_scheduler_kwargs == {"num_cycles": 2}
    assert args.output_dir == "a/b"


def test_home_is_expanded(monkeypatch):
    """A `~` is the home folder."""
    monkeypatch.setenv("HOME", "/home/ada")

    assert made(output_dir="~/out").output_dir == "/home/ada/out"


def test_the_old_names_of_activation_checkpointing_warn_once():
    """They still work, say what they are called now, and a copy does not warn again."""
    with pytest.warns(FutureWarning, match="it is activation_checkpointing now"):
        args = made(gradient_checkpointing=True)

    assert args.activation_checkpointing is True
    assert dataclasses.replace(args, activation_checkpointing=False).gradient_checkpointing is False
    with pytest.warns(FutureWarning, match="it is activation_checkpointing_kwargs now"):
        args = made(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert args.activation_checkpointing_kwargs == {"use_reentrant": False}


class Color(Enum):
    """A choice of a user's own."""

    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Own(TrainingArguments):
    """A user's arguments, made as any dataclass."""

    width: int = 8
    betas: tuple[float, float] = (0.9, 0.99)
    color: Color = Color.RED
    cache: Path = Path("cache")
    mode: Literal["a", "b"] = "a"
    dtype: torch.dtype = torch.float32
    api_key: str | None = None
    name: str = None  # type: ignore[assignment]  # as many scripts have it

    def __post_init__(self):
        super().__post_init__()
        self.doubled = self.width * 2


def test_a_subclass_is_checked_and_converted_too():
    """Its own fields follow their annotations, and its own `__post_init__` runs."""
    args = Own(use_cpu=True, width="3", betas=[0, 1], color="blue", cache="x", mode="b")

    assert (args.width, args.betas, args.color) == (3, (0, 1), Color.BLUE)
    assert (args.cache, args.mode, args.doubled, args.name) == (Path("x"), "b", 6, None)
    with pytest.raises(ValueError, match=r"Own: width='wide': .*; mode='c': .*'a' or 'b'"):
        Own(use_cpu=True, width="wide", mode="c")
    with pytest.raises(ValueError, match="learning_rate='fast'"):
        Own(use_cpu=True, learning_rate="fast")


def test_a_subclass_makes_the_round_trip():
    """Enums, paths and tuples come back as they were."""
    args = Own(use_cpu=True, width=3, color=Color.BLUE, cache=Path("x"), betas=(0.5, 0.25))

    text = args.to_json_string()

    values = json.loads(text)
    assert values["color"] == "blue"
    assert values.pop("dtype") == "float32"
    assert Own(**values) == args


@pytest.mark.parametrize("cls", [TrainingArguments, Own])
def test_secrets_are_nowhere_to_be_read(cls):
    """Neither `repr`, dict, JSON nor errors show them; a mask that comes back is no secret."""
    secrets = {"hub_token": "hf_s3cret", **({"api_key": "k3y-s3cret"} if cls is Own else {})}
    args = cls(use_cpu=True, **secrets)

    assert "s3cret" not in repr(args) + str(args) + args.to_json_string() + str(args.to_dict())
    assert args.to_dict()["hub_token"] == "<HUB_TOKEN>"  # noqa: S105 - of a test
    read = cls(**{**args.to_dict(), **({"dtype": torch.float32} if cls is Own else {})})
    assert read.hub_token is None
    assert args.hub_token == "hf_s3cret"  # noqa: S105 - of a test
    with pytest.raises(ValueError, match="hub_token=<HUB_TOKEN>: Input should be a valid string"):
        cls(hub_token=5512)


def test_copies_are_equal():
    """`copy`, `pickle` and `replace` make equal arguments."""
    args = made(eval_strategy="steps", learning_rate=1e-3)

    assert copy.deepcopy(args) == args
    assert pickle.loads(pickle.dumps(args)) == args  # noqa: S301 - our own
    assert dataclasses.replace(args) == args


def parser_of(cls):
    """An argument parser made from the fields alone, as such tools make them."""
    parser = argparse.ArgumentParser()
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kinds = [kind for kind in get_args(hints[field.name]) if kind in (str, int, float)]
        kind = kinds[0] if kinds else hints[field.name]
        reader = kind if kind in (str, int, float) else str
        default = field.default
        if default is dataclasses.MISSING:
            default = field.default_factory()
        parser.add_argument(
            f"--{field.name}", type=reader, default=default, help=field.metadata["help"]
        )
    return parser


def test_a_command_line_can_be_parsed_from_the_fields():
    """Every field has a default and a help text that argparse can show."""
    parser = parser_of(TrainingArguments)
    line = "--learning_rate 0.01 --eval_strategy epoch --use_cpu true --warmup_steps 0.1"

    args = TrainingArguments(**vars(parser.parse_args(line.split())))

    assert args == made(learning_rate=0.01, eval_strategy="epoch", warmup_steps=0.1)
    assert "--max_grad_norm" in parser.format_help()


POSITIVE = st.integers(1, 10**6)
SHARE = st.floats(0.001, 0.999)
FIELDS = {
    "output_dir": st.none() | st.text(max_size=20),
    "learning_rate": st.floats(0, 1),
    "num_train_epochs": st.floats(0, 1e3) | st.integers(0, 50),
    "max_steps": st.integers(-5, 10**9),
    "warmup_steps": st.floats(0, 1e4) | st.integers(0, 500),
    "lr_scheduler_type": st.sampled_from(["linear", "constant", "inverse_sqrt"]),
    "lr_scheduler_kwargs": st.none() | st.just({}),
    "activation_checkpointing_kwargs": st.none()
    | st.dictionaries(st.text(max_size=5), st.booleans() | st.text(max_size=5) | st.none()),
    "optim": st.sampled_from(["adamw_torch", "sgd", "adafactor"]),
    "max_grad_norm": st.floats(-1, 1e9) | st.just(float("inf")),
    "gradient_accumulation_steps": POSITIVE,
    "label_smoothing_factor": st.floats(0, 1),
    "torch_compile_mode": st.none() | st.just("default"),
    "logging_strategy": st.sampled_from(["no", "steps", "epoch"]),
    "logging_steps": POSITIVE | SHARE | st.just(1.0) | st.just(3.0),
    "eval_strategy": st.sampled_from(["no", "steps", "epoch"]),
    "eval_steps": st.none() | POSITIVE | SHARE,
    "save_strategy": st.sampled_from(["no", "steps", "epoch", "best"]),
    "save_steps": POSITIVE | SHARE | st.just(0),
    "report_to": st.sampled_from([None, "none", "mlflow", ["a", "b"], []]),
    "include_num_input_tokens_seen": st.sampled_from([True, False, "non_padding"]),
    "include_for_metrics": st.lists(st.sampled_from(["inputs", "loss"]), max_size=2),
    "metric_for_best_model": st.none() | st.text(max_size=8),
    "greater_is_better": st.none() | st.booleans(),
    "seed": st.integers(0, 2**32 - 1),
    "data_seed": st.none() | st.integers(0, 2**63 - 1),
    "label_names": st.none() | st.lists(st.text(max_size=5), max_size=3),
    "disable_tqdm": st.none() | st.booleans(),
    "run_name": st.none() | st.text(max_size=10),
}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # 30 fields are many
@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_any_accepted_arguments_make_the_round_trip(values):
    """Through a dict, and through JSON, what is accepted comes back equal and is written alike."""
    args = made(**values)

    text = args.to_json_string()
    read = TrainingArguments(**json.loads(text))

    assert read == args == TrainingArguments(**args.to_dict())
    assert read.to_json_string() == text


def test_hyper_parameters_are_numbers_or_text():
    """`to_sanitized_dict` has the batch sizes too and nothing that a table cannot hold."""
    values = made(report_to=["a"], per_device_train_batch_size=3).to_sanitized_dict()

    assert {type(value) for value in values.values()} <= {bool, int, float, str}
    assert (values["train_batch_size"], values["report_to"]) == (3, "['a']")


@pytest.mark.parametrize(
    ("warmup", "steps"), [(0, 0), (0.1, 2), (0.05, 1), (1, 1), (5, 5), (2.5, 2)]
)
def test_warmup_steps_or_a_share_of_all(warmup, steps):
    """A share is rounded up, a number of steps down."""
    assert made(warmup_steps=warmup).get_warmup_steps(12) == steps


def test_where_the_process_stands(monkeypatch):
    """Alone it is the first of one; a launcher says otherwise in its environment."""
    args = made()
    assert (args.world_size, args.process_index, args.local_process_index) == (1, 0, 0)
    assert args.should_save
    assert args.should_log

    for name, value in {"WORLD_SIZE": "8", "RANK": "4", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert (args.world_size, args.process_index, args.local_process_index) == (8, 4, 0)
    assert args.should_log
    assert not args.should_save
    args.save_on_each_node = True
    assert args.should_save


def test_device_and_batch_sizes():
    """The CPU if asked for; batches are those of one device."""
    args = made(per_device_train_batch_size=5, per_device_eval_batch_size=6)

    assert args.device == torch.device("cpu")
    assert (args.n_gpu, args.train_batch_size, args.eval_batch_size) == (0, 5, 6)
    assert args.dataloader_pin_memory is False


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_accelerator_is_used_where_there_is_one():
    """Without `use_cpu` the process trains on the GPU that its launcher gave it."""
    args = TrainingArguments(bf16=True, tf32=True)

    assert args.device == torch.device("cuda", 0)
    assert args.n_gpu == 1


def test_log_levels(monkeypatch):
    """A level by name, the present one if passive, the replicas' own elsewhere."""
    present = logging.getLogger("runtime").getEffectiveLevel()
    assert made().get_process_log_level() == present
    assert made(log_level="detail").get_process_log_level() == logging.DEBUG

    monkeypatch.setenv("LOCAL_RANK", "1")
    assert made(log_level="info", log_level_replica="error").get_process_log_level() == 40


def test_groups_are_set_at_once():
    """The methods of upstream's scripts set, check and derive, and can be chained."""
    args = (
        made()
        .set_training(1e-3, 4, num_epochs=2, seed=7)
        .set_evaluate("steps", 10, delay=None)
        .set_testing(16)
        .set_save("epoch", total_limit=2)
        .set_logging("epoch", report_to="jsonl", level="info")
        .set_optimizer("sgd", args="momentum=0.9")
        .set_lr_scheduler("reduce_lr_on_plateau", max_steps=100)
        .set_dataloader(2, 3, num_workers=1, prefetch_factor=2, sampler_seed=5)
        .set_push_to_hub("me/model", "end", token="t")  # noqa: S106 - of a test
    )

    assert (args.do_train, args.do_eval, args.do_predict, args.push_to_hub) == (True,) * 4
    assert (args.learning_rate, args.seed, args.max_steps) == (5e-5, 7, 100)
    assert args.eval_strategy is IntervalStrategy.STEPS
    assert (args.eval_delay, args.report_to, args.data_seed) == (0, ["jsonl"], 5)
    assert args.metric_for_best_model == "loss"
    args.check()


@pytest.mark.parametrize("method", ["set_evaluate", "set_save", "set_logging"])
def test_groups_refuse_what_the_constructor_refuses(method):
    """No interval of 0, no unknown word, no wrong type."""
    args = made()

    with pytest.raises(ValueError, match="steps=0"):
        getattr(args, method)("steps", 0)
    with pytest.raises(ValueError, match="_strategy='never' must be one of"):
        getattr(args, method)("never")
    with pytest.raises(ValueError, match="_steps='few'"):
        getattr(args, method)("steps", "few")


def test_changed_arguments_can_be_checked_again():
    """What a change has broken is found when asked."""
    args = made()
    args.check()
    args.logging_steps = 0

    with pytest.raises(ValueError, match="logging_steps=0"):
        args.check()
