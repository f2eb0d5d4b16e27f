"""The training arguments of the optimization: how long, how fast, how precise."""

from dataclasses import dataclass, field

from pydantic import JsonValue

from runtime._choices import OptimizerNames, SchedulerType


@dataclass
class TrainingFields:
    """What decides about the weights that come out; `metadata["help"]` explains each."""

    output_dir: str | None = field(
        default=None,
        metadata={"help": 'Folder for checkpoints and the final model; "trainer_output" if unset.'},
    )

    per_device_train_batch_size: int = field(
        default=8, metadata={"help": "Samples in a training batch of one device."}
    )
    num_train_epochs: float = field(
        default=3.0,
        metadata={"help": "Passes over the training data; a fraction ends within the last one."},
    )
    max_steps: int = field(
        default=-1,
        metadata={
            "help": "Optimizer steps to train, which then overrides num_train_epochs; below 0 is "
            "unset, 0 trains nothing. Needed for data without a length."
        },
    )

    learning_rate: float = field(
        default=5e-5, metadata={"help": "Learning rate that the schedule scales."}
    )
    lr_scheduler_type: SchedulerType | str = field(
        default="linear", metadata={"help": "Schedule of the learning rate, see SchedulerType."}
    )
    lr_scheduler_kwargs: dict[str, JsonValue] | str | None = field(
        default=None,
        metadata={"help": "Options of the schedule; on a command line, a JSON object."},
    )
    warmup_steps: float = field(
        default=0,
        metadata={
            "help": "Steps during which the learning rate rises; below 1, a share of all steps."
        },
    )

    optim: OptimizerNames | str = field(
        default="adamw_torch_fused", metadata={"help": "Optimizer, see OptimizerNames."}
    )
    optim_args: str | None = field(
        default=None,
        metadata={"help": "Options of sgd, adagrad or rmsprop: name=value, by commas."},
    )
    weight_decay: float = field(
        default=0.0,
        metadata={"help": "Weight decay of all parameters but biases and those of norms."},
    )
    adam_beta1: float = field(
        default=0.9, metadata={"help": "AdamW's decay of the running mean of gradients."}
    )
    adam_beta2: float = field(
        default=0.999, metadata={"help": "AdamW's decay of the running mean of squared gradients."}
    )
    adam_epsilon: float = field(default=1e-8, metadata={"help": "AdamW's term of stability."})

    gradient_accumulation_steps: int = field(
        default=1, metadata={"help": "Batches whose gradients add up to one optimizer step."}
    )
    average_tokens_across_devices: bool = field(
        default=True,
        metadata={"help": "Whether the loss is averaged over the tokens of all devices."},
    )
    max_grad_norm: float = field(
        default=1.0,
        metadata={"help": "Gradient norm above which gradients are scaled down; 0 for never."},
    )
    label_smoothing_factor: float = field(
        default=0.0, metadata={"help": "Share of the target spread over all classes."}
    )

    bf16: bool = field(default=False, metadata={"help": "Train with bfloat16 autocast."})
    fp16: bool = field(
        default=False, metadata={"help": "Train with float16 autocast and a gradient scaler."}
    )
    bf16_full_eval: bool = field(
        default=False, metadata={"help": "Evaluate with the whole model in bfloat16."}
    )
    fp16_full_eval: bool = field(
        default=False, metadata={"help": "Evaluate with the whole model in float16."}
    )
    tf32: bool | None = field(
        default=None,
        metadata={"help": "Whether CUDA multiplies in TF32; unset leaves torch's setting."},
    )

    activation_checkpointing: bool | None = field(
        default=None,
        metadata={
            "help": "Compute activations again in the backward pass instead of storing them.",
            "nargs": "?",
            "const": True,
        },
    )
    activation_checkpointing_kwargs: dict[str, JsonValue] | str | None = field(
        default=None,
        metadata={"help": "Options of activation checkpointing; a JSON object on a command line."},
    )
    gradient_checkpointing: bool | None = field(
        default=None,
        metadata={
            "help": "Deprecated name of activation_checkpointing.",
            "nargs": "?",
            "const": True,
        },
    )
    gradient_checkpointing_kwargs: dict[str, JsonValue] | str | None = field(
        default=None, metadata={"help": "Deprecated name of activation_checkpointing_kwargs."}
    )

    torch_compile: bool = field(
        default=False, metadata={"help": "Compile the model with torch.compile."}
    )
    torch_compile_backend: str | None = field(
        default=None, metadata={"help": "Backend of torch.compile; setting it compiles."}
    )
    torch_compile_mode: str | None = field(
        default=None, metadata={"help": "Mode of torch.compile; setting it compiles."}
    )
    use_cache: bool = field(
        default=False,
        metadata={"help": "Value of a transformers model's config.use_cache while training."},
    )
    torch_empty_cache_steps: int | None = field(
        default=None,
        metadata={"help": "Steps after which the device's memory cache is emptied; unset: never."},
    )
    auto_find_batch_size: bool = field(
        default=False,
        metadata={"help": "Start over with a smaller training batch when memory runs out."},
    )
