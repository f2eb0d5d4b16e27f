"""Trainings of a sharded model, in several processes and in one that has all of it.

They are trials as those of `rank_trials`, which launches them too.
"""

import torch
from torch.distributed.fsdp import fully_shard
from torch.utils.data import Subset

import runtime
from bus import JournalReader, MetricsLogged
from runtime._world import World
from tests.runtime.trainer.rank_trials import (
    FORCED,
    OneOrder,
    Samples,
    arguments,
    by_token,
    outcome,
)
from tests.runtime.trainer.test_no_reads import Watch


class Block(torch.nn.Module):
    """What is gathered and let go as one."""

    def __init__(self, chance):
        super().__init__()
        self.inner = torch.nn.Linear(5, 7)
        self.outer = torch.nn.Linear(7, 5, bias=False)
        self.drop = torch.nn.Dropout(chance)

    def forward(self, x):
        """As many features as before."""
        return x + self.drop(self.outer(torch.tanh(self.inner(x))))


class Net(torch.nn.Module):
    """Two blocks between two layers that share a weight."""

    main_input_name = "x"

    def __init__(self, chance=0.0, *, empty=False, alike=False):
        super().__init__()
        rank = World.here().rank
        with torch.random.fork_rng(), torch.device("meta" if empty and rank else "cpu"):
            # The first process's weights are everybody's, so that they may differ.
            torch.manual_seed(1 if alike else 1 + rank)
            self.first = torch.nn.Linear(5, 5)
            self.blocks = torch.nn.ModuleList([Block(chance) for _ in range(2)])
            self.norm = torch.nn.BatchNorm1d(5)
            self.last = torch.nn.Linear(5, 5)
            self.head = torch.nn.Linear(5, 3)
        self.last.weight = self.first.weight
        self.seen = []  # as the other trials' model has it

    def forward(self, x, labels=None, index=None):  # noqa: ARG002 - the data has it
        """Mean cross entropy and the logits."""
        hidden = self.first(x.flatten(0, 1))
        for block in self.blocks:
            hidden = block(hidden)
        # Statistics of each process's own batch would differ from those of one that has all.
        hidden = hidden * self.norm.weight + self.norm.running_mean
        logits = self.head(torch.tanh(self.last(hidden))).view(*x.shape[:2], 3)
        loss = None if labels is None else (logits - labels[..., None].clamp(0)).square().mean()
        return {"loss": loss, "logits": logits}


BY_CLASS = {"transformer_layer_cls_to_wrap": "Block"}
BY_SIZE = {"min_num_params": 60}


def trainer(folder, world, data, *, model=None, more=(), config=BY_CLASS, **settings):
    """A trainer of a sharded model, or of a whole one where there is one process."""
    settings = {"fsdp": True, "fsdp_config": dict(config), **settings}
    args = arguments(folder, world, **settings)
    made = OneOrder(model or Net(), args, train_dataset=data, **dict(more))
    made.remove_callback(runtime.PrinterCallback)
    return made


def found(made, **more):
    """What a training leaves behind, with whole weights; every process calls it."""
    left = outcome(made, **more)
    left["weights"] = {
        name: each.full_tensor() if hasattr(each, "full_tensor") else each
        for name, each in left["weights"].items()
    }
    return left


def trained(folder, world, data, **more):
    """Train and tell what came of it."""
    with trainer(folder, world, data, **more) as made:
        output = made.train()
        return found(made, train_loss=output.training_loss, kinds=kinds(made.model))


def kinds(model):
    """The modules that are gathered on their own."""
    return [name for name, each in model.named_modules() if hasattr(each, "unshard")]


def sharded(folder, world):
    """Gradients add up, whole, and are clipped; the last step of an epoch has fewer batches."""
    return trained(
        folder,
        world,
        Samples(10 * FORCED.size + 1),
        gradient_accumulation_steps=3,
        max_grad_norm=0.2,
        weight_decay=0.1,
    )


def sharded_tokens(folder, world):
    """Labels weigh alike, blocks go by size, other ranks' models are empty, batches are summed."""
    return trained(
        folder,
        world,
        Samples(8 * FORCED.size + 3),
        model=Net(empty=True),
        more={"compute_loss_func": by_token},
        config={**BY_SIZE, "reshard_after_forward": False, "sync_each_batch": True},
        gradient_accumulation_steps=2,
    )


def sharded_half(folder, world):
    """Computed in bfloat16, with activations that are computed again."""
    config = {**BY_CLASS, "activation_checkpointing": True}
    return trained(folder, world, Samples(8 * FORCED.size), bf16=True, config=config)


def sharded_compiled(folder, world):
    """A compiled model, which whoever made it has sharded already."""
    model = Net(alike=True)
    if not world.alone:
        for module in (*model.blocks, model):
            fully_shard(module)
    more = {"torch_compile": True, "torch_compile_backend": "eager", "fsdp": False}
    return trained(folder, world, Samples(4 * FORCED.size), model=model, **more)


class Drops(runtime.TrainerCallback):
    """Ends the first epoch in the middle of an accumulation, on every rank."""

    rank_consistent = True

    def on_substep_end(self, args, state, control, **kwargs):  # noqa: ARG002 - a hook's
        """End it once there is a step."""
        if state.global_step == 1 and state.epoch < 1:
            control.should_epoch_stop = True


def sharded_dropped(folder, world):
    """A step that is broken off leaves nothing behind."""
    return trained(
        folder,
        world,
        Samples(8 * FORCED.size),
        more={"callbacks": [Drops]},
        gradient_accumulation_steps=2,
    )


def sharded_evaluated(folder, world):
    """Uneven data, and so little that a process has none; then training, evaluated on the way."""
    data, few = Samples(6 * FORCED.size + 1), Subset(Samples(2), [0])
    with trainer(folder, world, data, eval_strategy="epoch", more={"eval_dataset": few}) as made:
        left = {"metrics": made.evaluate(data), "few": made.evaluate()["eval_loss"]}
        left["prediction"] = made.predict(data).predictions
        made.args.batch_eval_metrics = True
        made.compute_metrics = lambda part, **_: {"rows": len(part.predictions)}
        left["rows"] = made.evaluate(few)["eval_rows"]
        made.args.batch_eval_metrics, made.compute_metrics = False, None
        made.train()
        return {**left, **found(made)}


class OwnChance(runtime.TrainerCallback):
    """Lets each process draw different random numbers."""

    def on_train_begin(self, args, state, control, **kwargs):  # noqa: ARG002 - a hook's
        """Seed, unless training goes on."""
        if not state.global_step:
            torch.manual_seed(100 + args.process_index)


def resumable(folder, world, *, chance=0.0, **more):
    """A trainer of six steps that saves after four, the same for any number of processes."""
    settings = {"save_strategy": "steps", "save_steps": 4, "logging_steps": 3}
    settings |= {"gradient_accumulation_steps": 2, "lr_scheduler_type": "linear"}
    settings |= {"per_device_train_batch_size": 8 // world.size}
    return trainer(
        folder,
        world,
        Samples(40),
        model=Net(chance),
        more={"callbacks": [OwnChance]},
        **{**settings, **more},
    )


def sharded_resumed(folder, world):
    """A training with dropout that is broken off and goes on, beside one that is not."""
    left = {}
    for name, again in (("unbroken", None), ("broken", folder / "unbroken" / "checkpoint-4")):
        with resumable(folder / name, world, chance=0.5) as made:
            made.train(resume_from_checkpoint=None if again is None else str(again))
            left[name] = found(made)
    return left


def source(folder, world):
    """A checkpoint of a model without dropout, and the end of its training."""
    with resumable(folder, world, logging_steps=2) as made:
        made.train()
        made.save_model(folder / "model")
        return found(made)


def sharded_elsewhere(folder, world):
    """A training that goes on from checkpoints that other numbers of processes have made."""
    left = {}
    for place in sorted(folder.parent.glob("made by *")):
        with resumable(folder / place.name, world, logging_steps=2) as made:
            made.train(resume_from_checkpoint=str(place / "source" / "checkpoint-4"))
            left[place.name] = found(made)
    return left


def sharded_best(folder, world):
    """The best model is loaded at the end and exported whole; only weights are saved."""
    data = Samples(8 * FORCED.size)
    settings = dict.fromkeys(("eval_strategy", "save_strategy"), "steps")
    settings |= {"eval_steps": 2, "save_steps": 2, "save_total_limit": 1}
    settings |= {"load_best_model_at_end": True, "learning_rate": 0.8, "save_only_model": True}
    with trainer(folder, world, data, more={"eval_dataset": data}, **settings) as made:
        made.train()
        made.save_model(folder / "model")
        left = sorted(path.name for path in folder.glob("checkpoint-*"))
        best = {"left": left, "best": made.state.best_metric, "step": made.state.best_global_step}
        return found(made, **best, again=made.evaluate()["eval_loss"])


def sharded_unread(folder, world):
    """What a step reads on the host, clipping and logging included."""
    watch = Watch()
    data = Samples(4 * FORCED.size)
    # Here a log entry is read at once; what it holds is a plain tensor, as without a shard.
    settings = {"max_grad_norm": 0.2, "logging_strategy": "no"}
    with trainer(folder, world, data, more={"callbacks": [watch]}, **settings) as made:
        made.train()
    return {"reads": watch.reads, "calls": watch.calls}


def sharded_logs(folder, world):
    """Distributed tensors, logged and watched by the last rank alone."""
    if world.alone:
        return {}
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415 - slow
    from torch.distributed.tensor import (  # noqa: PLC0415 - slow
        DTensor,
        Partial,
        Replicate,
        Shard,
    )

    mesh, alone = init_device_mesh("cpu", (world.size,)), world.rank == world.size - 1
    one = torch.tensor([3.0])
    made = {
        "whole": DTensor.from_local(one.squeeze(), mesh, [Replicate()], run_check=False),
        "sum": DTensor.from_local(one.squeeze(), mesh, [Partial()], run_check=False),
        "part": DTensor.from_local(one, mesh, [Shard(0)], run_check=False),
    }
    with trainer(folder, world, Samples(4)) as own:
        own.train()
        if alone:
            own.run.log(made, step=9)
            own.log(dict(made))
            own.run.watch(own.model, every=1, gradients=False, parameters=True).sample(9)
        history = [sorted(entry) for entry in own.state.log_history][-1]
        rejected = own.run.statistics().rejected
    records = JournalReader(own.run.dir).records(types=(MetricsLogged,))
    events = [each.event.metrics for each in records if each.rank == world.rank]
    return {"history": history, "events": events, "rejected": rejected, "alone": alone}


TRIALS = {
    each.__name__: each
    for each in (
        sharded_tokens,
        sharded_half,
        sharded_compiled,
        sharded_dropped,
        sharded_evaluated,
        sharded_resumed,
        source,
        sharded_elsewhere,
        sharded_best,
        sharded_unread,
        sharded_logs,
        sharded,
    )
}
