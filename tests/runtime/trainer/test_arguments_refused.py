"""Every wrong argument is refused when it is given, with its name, its value, and what to do."""

import dataclasses

import pydantic
import pytest
import torch

from runtime import TrainingArguments

STEPS = {"load_best_model_at_end": True, "eval_strategy": "steps"}


def made(**values):
    return TrainingArguments(**{"use_cpu": True, **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": "fast"}, "learning_rate='fast': Input should be a valid number"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 must be 0 or more"),
        ({"learning_rate": float("nan")}, "learning_rate=nan must be 0 or more, and finite"),
        ({"learning_rate": None}, "learning_rate=None: Input should be a valid number"),
        ({"seed": 1.5}, "seed=1.5: Input should be a valid integer"),
        ({"seed": -1}, "seed=-1 must be 0 to "),
        ({"data_seed": -1}, "data_seed=-1 must be 0 to "),
        ({"max_steps": "many"}, "max_steps='many': Input should be a valid integer"),
        ({"num_train_epochs": -1}, "num_train_epochs=-1 must be 0 or more"),
        ({"num_train_epochs": float("inf")}, "num_train_epochs=inf must be 0 or more, and finite"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size=0 must be 1 or more"),
        ({"per_device_eval_batch_size": -8}, "per_device_eval_batch_size=-8 must be 1 or more"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps=0 must be 1 or more"),
        ({"warmup_steps": -0.1}, "warmup_steps=-0.1 must be 0 or more"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must be 0 or more"),
        ({"adam_beta1": 1.0}, "adam_beta1=1.0 must be 0 or more and below 1"),
        ({"adam_epsilon": -1e-8}, "adam_epsilon=-1e-08 must be 0 or more"),
        ({"label_smoothing_factor": 1.5}, "label_smoothing_factor=1.5 must be 0 to 1"),
        ({"max_grad_norm": float("nan")}, "max_grad_norm=nan must be a number"),
        ({"max_grad_norm": None}, "max_grad_norm=None: Input should be a valid number"),
        ({"bf16": "perhaps"}, "bf16='perhaps': Input should be a valid boolean"),
        ({"output_dir": 3}, "output_dir=3: Input should be a valid string"),
        ({"label_names": "labels"}, "label_names='labels': Input should be a valid list"),
        ({"log_level": "loud"}, "log_level='loud': Input should be 'detail', 'debug'"),
        ({"train_sampling_strategy": "up"}, "train_sampling_strategy='up': .*'random'"),
        ({"eval_strategy": "never"}, "eval_strategy='never' must be one of 'no', 'steps', 'epoch'"),
        ({"save_strategy": "worst"}, "save_strategy='worst' must be one of .*'best'"),
        ({"optim": "adamw_8bit"}, "optim='adamw_8bit' must be one of .*optimizers="),
        ({"optim": "sgd", "optim_args": "speed=1"}, "speed is no option of sgd"),
        ({"lr_scheduler_type": "up"}, "lr_scheduler_type='up' must be one of 'linear'"),
        ({"lr_scheduler_kwargs": {"power": 2}}, "power=2, no option of linear, which has none"),
        ({"lr_scheduler_kwargs": "cycles"}, "lr_scheduler_kwargs='cycles' must be a dict, or"),
        ({"lr_scheduler_kwargs": "{cycles}"}, "lr_scheduler_kwargs='{cycles}': Expecting property"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "min_lr .* or min_lr_rate .* is needed"),
        ({"lr_scheduler_type": "greedy"}, '"greedy" follows a metric, but eval_strategy="no"'),
        ({"include_for_metrics": ["labels"]}, '"inputs" and "loss", not \'labels\''),
        ({"include_num_input_tokens_seen": "some"}, '_seen=\'some\' must be "all", "non_padding"'),
        ({"logging_steps": 0}, "logging_steps=0 with logging_strategy"),
        ({"logging_steps": 2.5}, "logging_steps=2.5 must be an integer if above 1"),
        ({"save_steps": float("inf")}, "save_steps=inf must be a finite number"),
        ({"eval_steps": 1.5, "eval_strategy": "steps"}, "eval_steps=1.5 must be an integer"),
        (
            {"eval_strategy": "steps", "logging_strategy": "no", "logging_steps": 0},
            "eval_steps=None and logging_steps=0: set eval_steps",
        ),
        ({"eval_accumulation_steps": 0}, "eval_accumulation_steps=0 must be 1 or more"),
        ({"torch_empty_cache_steps": 0}, "torch_empty_cache_steps=0 must be 1 or more"),
        (
            {"load_best_model_at_end": True},
            'eval_strategy="no" and save_strategy="steps": make them equal',
        ),
        ({**STEPS, "eval_steps": 3, "save_steps": 10}, "save_steps=10 must be a multiple of .*=3"),
        ({**STEPS, "eval_steps": 0.3, "save_steps": 10}, "mix a share of all steps with a number"),
        ({**STEPS, "eval_steps": 0.2, "save_steps": 0.3}, "save_steps=0.3 must be a multiple"),
        ({"fp16": True, "bf16": True}, "fp16=True and bf16=True: training has one precision"),
        ({"fp16_full_eval": True, "bf16_full_eval": True}, "evaluation has one precision"),
        ({"fp16": True}, "fp16=True needs a GPU.*use bf16=True with use_cpu=True"),
        ({"tf32": True}, "tf32=True needs an NVIDIA GPU of the Ampere generation or later"),
        ({"dataloader_num_workers": -1}, "dataloader_num_workers=-1 must be 0 or more"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor=2 is about worker proc"),
        ({"dataloader_persistent_workers": True}, "dataloader_num_workers=0: set it to 1 or more"),
        ({"dataloader_multiprocessing_context": "spawn"}, "context=spawn is about worker proc"),
        ({"dataloader_multiprocessing_context": "thread"}, "'thread': Input should be 'fork'"),
        ({"ddp_timeout": 0}, "ddp_timeout=0 must be 1 or more"),
        ({"report_to": 3}, "report_to=3: Input should be a valid string"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_value(values, message):
    """The message quotes the argument with its value and says what it must be."""
    with pytest.raises(ValueError, match=message):
        made(**values)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which may have bfloat16")
@pytest.mark.parametrize("name", ["bf16", "bf16_full_eval"])
def test_low_precision_on_a_cpu_is_asked_for(name):
    """Training on the CPU in bfloat16 needs `use_cpu`, so that nobody does it by mistake."""
    assert getattr(made(**{name: True}), name)
    with pytest.raises(ValueError, match=f"{name}=True, but the CPU has no bfloat16.*use_cpu=True"):
        TrainingArguments(**{name: True})


def test_everything_wrong_is_said_at_once():
    """One message names all values of the wrong type."""
    with pytest.raises(ValueError, match=r"seed='a'.*; .*bf16='b'|bf16='b'.*; .*seed='a'"):
        made(seed="a", bf16="b")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("evaluation_strategy", "evaluation_strategy is eval_strategy now"),
        ("warmup_ratio", "warmup_ratio is warmup_steps now, where a value below 1 is a share"),
        ("logging_dir", "the environment variable TENSORBOARD_LOGGING_DIR says where"),
        ("no_cuda", "no_cuda is use_cpu now"),
        ("group_by_length", 'is train_sampling_strategy="group_by_length" now'),
        ("push_to_hub_token", "push_to_hub_token is hub_token now"),
        ("deepspeed", "deepspeed is not served: fsdp=True shards a model"),
        ("trackio_space_id", "trackio_space_id is not served: the sink trackio"),
        ("learning_rte", "learning_rte is no argument; is it learning_rate?"),
        ("zzz", "zzz is no argument$"),
    ],
)
def test_a_name_that_is_no_argument(name, message):
    """It says what the argument is called now, what to use instead, or what is near it."""
    with pytest.raises(TypeError, match=message):
        made(**{name: "x"})


@dataclasses.dataclass
class Sharded(TrainingArguments):
    """Arguments of somebody whose own `parallelism_config` means something."""

    parallelism_config: bool = False


def test_a_subclass_may_take_a_name_that_we_do_not():
    """What a subclass defines is an argument of it; what else is refused stays refused."""
    assert Sharded(parallelism_config=True, use_cpu=True).parallelism_config is True
    with pytest.raises(TypeError, match="Sharded: deepspeed is not served"):
        Sharded(deepspeed="x", use_cpu=True)


@dataclasses.dataclass
class Inner:
    """A nested dataclass."""

    depth: int = 1


class Settings(pydantic.BaseModel):
    """A nested model, which has a configuration of its own."""

    size: int = 2


class Loose(TrainingArguments):
    """A class with a constructor of its own."""

    def __init__(self, **values):
        values.pop("deepspeed", None)
        super().__init__(**values)


def test_a_constructor_of_ones_own_decides_itself():
    """What it takes, it takes."""
    assert Loose(deepspeed="x", use_cpu=True).use_cpu is True


def test_any_annotation_is_checked_or_refused():
    """Nested types are; one that is no type, or that nobody can find, is an error and no hole."""

    @dataclasses.dataclass
    class NoType(TrainingArguments):
        made_by: "callable" = None  # as it is found in scripts

    @dataclasses.dataclass
    class Nested(TrainingArguments):
        inner: Inner = dataclasses.field(default_factory=Inner)
        settings: Settings = dataclasses.field(default_factory=Settings)

    @dataclasses.dataclass
    class Nowhere(TrainingArguments):
        made_by: "Elsewhere" = None  # noqa: F821 - that is the point

    assert Nested(use_cpu=True, inner={"depth": "3"}, settings={"size": 4}).inner.depth == 3
    with pytest.raises(ValueError, match=r"settings={.*}: size: Input should be a valid integer"):
        Nested(use_cpu=True, settings={"size": "big"})
    with pytest.raises(TypeError, match=r"NoType.made_by: values of .* cannot be checked"):
        NoType(use_cpu=True)
    with pytest.raises(TypeError, match=r"Nowhere: an annotation cannot be read .*Elsewhere"):
        Nowhere(use_cpu=True)
