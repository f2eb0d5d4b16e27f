"""The training arguments of data and machine: seeds, loaders, devices, processes."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import JsonValue

from runtime._argument_reporting import ReportingFields


@dataclass
class DataFields(ReportingFields):
    """Where a training starts, what it reads and runs on; `metadata["help"]` explains each."""

    ignore_data_skip: bool = field(
        default=False,
        metadata={"help": "Resume at the epoch's beginning instead of where it was left."},
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Restore the callbacks' states when resuming."}
    )

    full_determinism: bool = field(
        default=False, metadata={"help": "Compute the same bits each time, at a price in speed."}
    )
    seed: int = field(default=42, metadata={"help": "Seed set when training begins."})
    data_seed: int | None = field(
        default=None, metadata={"help": "Seed of the order of samples; unset: seed."}
    )

    use_cpu: bool = field(
        default=False, metadata={"help": "Train on the CPU even if there is an accelerator."}
    )

    dataloader_drop_last: bool = field(
        default=False, metadata={"help": "Drop a last batch that is not full."}
    )
    dataloader_num_workers: int = field(
        default=0, metadata={"help": "Processes that load data; 0 for the training's own."}
    )
    dataloader_pin_memory: bool = field(
        default=True, metadata={"help": "Load into memory that devices copy from faster."}
    )
    dataloader_persistent_workers: bool = field(
        default=False, metadata={"help": "Keep the workers from one epoch to the next."}
    )
    dataloader_prefetch_factor: int | None = field(
        default=None, metadata={"help": "Batches that each worker loads in advance."}
    )
    dataloader_multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None = field(
        default=None, metadata={"help": "How workers are started; unset: torch's way."}
    )
    dataloader_in_order: bool = field(
        default=True, metadata={"help": "Yield batches in order, not as workers finish them."}
    )
    remove_unused_columns: bool = field(
        default=True, metadata={"help": "Drop columns that the model's forward does not take."}
    )
    label_names: list[str] | None = field(
        default=None, metadata={"help": "Keys of a batch that are labels; unset: found out."}
    )
    train_sampling_strategy: Literal[
        "random", "sequential", "group_by_length", "batch_rebalance"
    ] = field(default="random", metadata={"help": "Order of the training samples."})
    length_column_name: str = field(
        default="length", metadata={"help": "Column with the lengths that grouping goes by."}
    )

    ddp_find_unused_parameters: bool | None = field(
        default=None, metadata={"help": "find_unused_parameters of DistributedDataParallel."}
    )
    ddp_bucket_cap_mb: int | None = field(
        default=None, metadata={"help": "bucket_cap_mb of DistributedDataParallel."}
    )
    ddp_broadcast_buffers: bool | None = field(
        default=None, metadata={"help": "broadcast_buffers of DistributedDataParallel."}
    )
    ddp_static_graph: bool | None = field(
        default=None, metadata={"help": "static_graph of DistributedDataParallel."}
    )
    ddp_backend: str | None = field(
        default=None, metadata={"help": "Backend of torch.distributed, such as nccl or gloo."}
    )
    ddp_timeout: int = field(
        default=1800, metadata={"help": "Seconds that a collective operation may take."}
    )

    fsdp: bool | None = field(  # of one type, because upstream's parser takes no other
        default=None,
        metadata={
            "help": "Whether several processes shard the model, with torch's fully_shard. In "
            'Python upstream\'s older words, such as "full_shard auto_wrap", are fine too.'
        },
    )
    fsdp_config: dict[str, JsonValue] | str | None = field(
        default=None,
        metadata={"help": "How to shard: a dictionary, or the path of a file of JSON."},
    )

    do_train: bool = field(default=False, metadata={"help": "For scripts: whether to train."})
    do_eval: bool = field(default=False, metadata={"help": "For scripts: whether to evaluate."})
    do_predict: bool = field(default=False, metadata={"help": "For scripts: whether to predict."})
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={"help": "For scripts: checkpoint to hand to train()."},
    )
