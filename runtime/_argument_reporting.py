"""The training arguments of what is told and kept: logging, evaluation, checkpoints, the hub."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from runtime._argument_training import TrainingFields
from runtime._choices import HubStrategy, IntervalStrategy, SaveStrategy

LogLevel: TypeAlias = Literal["detail", "debug", "info", "warning", "error", "critical", "passive"]


@dataclass
class ReportingFields(TrainingFields):
    """What a training says, measures and stores; `metadata["help"]` explains each."""

    logging_strategy: IntervalStrategy | str = field(
        default="steps", metadata={"help": 'When to log: "no", "steps" or "epoch".'}
    )
    logging_steps: float = field(
        default=500, metadata={"help": "Steps between two logs; below 1, a share of all steps."}
    )
    logging_first_step: bool = field(default=False, metadata={"help": "Log the first step too."})
    log_on_each_node: bool = field(
        default=True, metadata={"help": "Log once on each node instead of on the first one."}
    )
    logging_nan_inf_filter: bool = field(
        default=True,
        metadata={"help": "Replace a loss that is no finite number in logs by the mean so far."},
    )
    include_num_input_tokens_seen: str | bool = field(
        default="no",
        metadata={"help": 'Count input tokens: "all", "non_padding" or "no"; true is "all".'},
    )
    log_level: LogLevel = field(
        default="passive",
        metadata={"help": 'Log level of the first process; "passive" leaves it as it is.'},
    )
    log_level_replica: LogLevel = field(
        default="warning", metadata={"help": "Log level of the other processes."}
    )
    disable_tqdm: bool | None = field(
        default=None,
        metadata={"help": "Print instead of showing bars; unset: if warnings are not logged."},
    )
    report_to: None | str | list[str] = field(  # noqa: RUF036 - HfArgumentParser reads the second
        default="none",
        metadata={"help": 'Names of sinks; "all" for each that is ready, "none" for none.'},
    )
    run_name: str | None = field(default=None, metadata={"help": "Name of the run."})
    project: str = field(
        default="huggingface", metadata={"help": "Project that sinks put the run in."}
    )
    raise_from_callbacks: bool = field(
        default=True,
        metadata={
            "help": "Whether a callback that raises ends the training; otherwise it is logged and "
            "counted, and the training goes on."
        },
    )

    eval_strategy: IntervalStrategy | str = field(
        default="no", metadata={"help": 'When to evaluate: "no", "steps" or "epoch".'}
    )
    eval_steps: float | None = field(
        default=None,
        metadata={
            "help": "Steps between two evaluations; below 1, a share of all; unset: logging_steps."
        },
    )
    eval_delay: float = field(
        default=0,
        metadata={"help": "Steps or epochs, by eval_strategy, before the first evaluation."},
    )
    per_device_eval_batch_size: int = field(
        default=8, metadata={"help": "Samples in an evaluation batch of one device."}
    )
    prediction_loss_only: bool = field(
        default=False, metadata={"help": "Evaluate the loss alone, without predictions."}
    )
    eval_on_start: bool = field(
        default=False, metadata={"help": "Evaluate before the first step too."}
    )
    eval_do_concat_batches: bool = field(
        default=True,
        metadata={"help": "Join predictions of all batches; otherwise a list of batches."},
    )
    eval_accumulation_steps: int | None = field(
        default=None,
        metadata={"help": "Batches after which predictions leave the device; unset: at the end."},
    )
    include_for_metrics: list[str] = field(
        default_factory=list[str],
        metadata={"help": 'What compute_metrics gets besides: "inputs", "loss".'},
    )
    batch_eval_metrics: bool = field(
        default=False, metadata={"help": "Call compute_metrics for each batch, then once more."}
    )

    save_only_model: bool = field(
        default=False, metadata={"help": "Save weights alone, from which nothing can resume."}
    )
    save_strategy: SaveStrategy | str = field(
        default="steps", metadata={"help": 'When to save: "no", "steps", "epoch" or "best".'}
    )
    save_steps: float = field(
        default=500,
        metadata={"help": "Steps between two checkpoints; below 1, a share of all steps."},
    )
    save_on_each_node: bool = field(
        default=False, metadata={"help": "Save on each node instead of on the first one."}
    )
    save_total_limit: int | None = field(
        default=None,
        metadata={"help": "Checkpoints to keep, the best one among them; unset or 0: all."},
    )
    asynchronous_checkpoints: bool = field(
        default=True,
        metadata={"help": "Write checkpoints beside the training, from a snapshot in memory."},
    )
    grace_seconds: float | None = field(
        default=None,
        metadata={
            "help": "Seconds from SIGTERM or SIGUSR1 to the end of the process; unset: "
            "HOTLOOP_GRACE_SECONDS, or unknown."
        },
    )
    watchdog_seconds: float = field(
        default=10.0,
        metadata={
            "help": "Seconds without a step that are no stall, however fast steps are; 0 for no "
            "watchdog."
        },
    )
    requeue: bool = field(
        default=True, metadata={"help": "Whether a preempted SLURM job puts itself back in line."}
    )

    push_to_hub: bool = field(
        default=False, metadata={"help": "Push the model to a hub when it is saved."}
    )
    hub_token: str | None = field(
        default=None,
        compare=False,
        repr=False,
        metadata={"help": "Token of the hub; never shown or stored."},
    )
    hub_private_repo: bool | None = field(
        default=None, metadata={"help": "Whether a new repository is private."}
    )
    hub_model_id: str | None = field(
        default=None, metadata={"help": "Repository; unset: the name of output_dir."}
    )
    hub_strategy: HubStrategy | str = field(
        default="every_save", metadata={"help": "What to push, and when, see HubStrategy."}
    )
    hub_always_push: bool = field(
        default=False, metadata={"help": "Push even if the push before has not ended."}
    )
    hub_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit to push to."}
    )

    load_best_model_at_end: bool = field(
        default=False, metadata={"help": "End with the weights of the best evaluation."}
    )
    metric_for_best_model: str | None = field(
        default=None, metadata={"help": 'Metric that tells which is best; often "loss".'}
    )
    greater_is_better: bool | None = field(
        default=None,
        metadata={"help": 'Whether more is better; unset: unless the metric ends with "loss".'},
    )
