"""Trainings that do the same in several processes as in one whose batches are as large as theirs.

Launched as a rank it goes through `TRIALS` and leaves what each process has seen of each in
`<folder>/<trial>-<rank>.pt`; imported, `run` does the same in one process.
"""

import contextlib
import faulthandler
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.utils.data import IterableDataset

import runtime
from bus import RanksError, Stop
from runtime._world import World
from tests.runtime.trainer import rank_signals

BATCH = 2
"""Samples of a batch of each process."""

COUNTED = ("loss", "grad_norm", "learning_rate", "epoch", "step", "num_input_tokens_seen")
"""What a log entry says that does not depend on the clock."""


def sample(index):
    """A sample of which some labels count for nothing."""
    generator = torch.Generator().manual_seed(index)
    labels = torch.randint(0, 3, (4,), generator=generator)
    labels[: index % 4] = -100
    return {"x": torch.rand(4, 5, generator=generator), "labels": labels, "index": index}


class Samples(torch.utils.data.Dataset):
    """So many samples by position."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return sample(index)


class Stream(IterableDataset):
    """Samples one after another, without a length; workers take turns."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        first, by = (0, 1) if worker is None else (worker.id, worker.num_workers)
        yield from (sample(index) for index in range(first, self.size, by))


class Model(torch.nn.Module):
    """Two layers, one of which normalizes if so wanted; notes what it is trained on."""

    main_input_name = "x"

    def __init__(self, *, normalizes=False, chance=0.0):
        super().__init__()
        with torch.random.fork_rng():
            # DDP gives everybody what the first process has, so that this may differ.
            torch.manual_seed(1 + World.here().rank)
            self.first = torch.nn.Linear(5, 6)
            self.second = torch.nn.Linear(6, 3)
            self.unused = torch.nn.Linear(2, 2)
        self.norm = torch.nn.BatchNorm1d(6) if normalizes else None
        self.drop = torch.nn.Dropout(chance)
        self.seen = []

    def forward(self, x, labels=None, index=None):
        """Mean cross entropy and the logits."""
        if self.training:
            self.seen.append(index.tolist())
        hidden = torch.tanh(self.first(x))
        if self.norm is not None:
            hidden = self.norm(hidden.flatten(0, 1)).view_as(hidden)
        logits = self.second(self.drop(hidden))
        loss = None if labels is None else (logits - labels[..., None].clamp(0)).square().mean()
        return {"loss": loss, "logits": logits}


def by_token(outputs, labels, num_items_in_batch=None):
    """Cross entropy of all labels that count, over their number in the whole step."""
    logits = outputs["logits"].flatten(0, 1)
    total = torch.nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum")
    return total / num_items_in_batch


def accuracy(prediction):
    """The share of labels that were predicted, and a number that depends on the order."""
    hits = prediction.predictions.argmax(-1) == prediction.label_ids
    places = torch.arange(1, len(hits) + 1)[:, None]
    weighted = (torch.from_numpy(prediction.label_ids) * places).sum()
    return {"accuracy": float(hits.mean()), "order": float(weighted)}


def arguments(folder, world, **more):
    """Arguments with which every step is logged."""
    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "per_device_train_batch_size": BATCH * (FORCED.size if world.alone else 1),
        "per_device_eval_batch_size": BATCH * (FORCED.size if world.alone else 1),
        "num_train_epochs": 2,
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return runtime.TrainingArguments(**{**settings, **more})


class FORCED:
    """How many processes one process stands for."""

    size = 2


class OneOrder(runtime.Trainer):
    """A trainer whose epochs are filled up like those of several processes."""

    def floating_point_ops(self, inputs):
        """As many as there are samples."""
        return float(len(inputs["index"]))

    def _get_train_sampler(self, train_dataset=None):
        order = super()._get_train_sampler(train_dataset)
        return FilledUp(order, BATCH * FORCED.size) if self.args.world_size == 1 else order


class FilledUp(torch.utils.data.Sampler):
    """An order of which the last round is filled from its beginning."""

    def __init__(self, order, whole):
        self.sampler, self.whole = order, whole

    def __len__(self):
        return -(-len(self.sampler) // self.whole) * self.whole

    def __iter__(self):
        order = list(self.sampler)
        yield from (order * self.whole)[: len(self)]


def outcome(trainer, **more):
    """What a training leaves behind."""
    return {
        "weights": {name: each.clone() for name, each in trainer.model.state_dict().items()},
        "logs": [
            {name: entry[name] for name in COUNTED if name in entry}
            for entry in trainer.state.log_history
        ],
        "seen": list(trainer.model.seen),
        "steps": trainer.state.global_step,
        "flos": trainer.state.total_flos,
        **more,
    }


def trained(folder, world, data, *, model=None, kind=OneOrder, loss=None, **more):
    """Train and tell what came of it."""
    args = arguments(folder, world, **more)
    with kind(model or Model(), args, train_dataset=data, compute_loss_func=loss) as trainer:
        output = trainer.train()
        return outcome(trainer, train_loss=output.training_loss)


def even(folder, world):
    """Every round is full; a trainer before this one has failed in its constructor."""
    with contextlib.suppress(TypeError):
        runtime.Trainer(Model(), arguments(folder, world), callbacks=["no callback"])
    return trained(folder, world, Samples(8 * FORCED.size))


def accumulated(folder, world):
    """The last step of an epoch has fewer micro-batches than the others."""
    return trained(folder, world, Samples(10 * FORCED.size), gradient_accumulation_steps=3)


def uneven(folder, world):
    """The last round of an epoch lacks samples."""
    return trained(folder, world, Samples(8 * FORCED.size + 1), gradient_accumulation_steps=2)


def dropped(folder, world):
    """The last round of an epoch is dropped."""
    data = Samples(8 * FORCED.size + 3)
    return trained(folder, world, data, kind=runtime.Trainer, dataloader_drop_last=True)


def tokens(folder, world):
    """Labels are weighed alike, however many of them each process has."""
    return trained(
        folder,
        world,
        Samples(8 * FORCED.size + 3),
        loss=by_token,
        gradient_accumulation_steps=2,
        include_num_input_tokens_seen="all",
    )


def streamed(folder, world):
    """Data without a length, which ends in the middle of the last round of its first pass."""
    data = Stream(5 * FORCED.size * BATCH)
    return trained(folder, world, data, kind=runtime.Trainer, max_steps=8)


def worked(folder, world):
    """Data without a length, read by two workers of each process."""
    data = Stream(8 * FORCED.size * BATCH)
    more = {"max_steps": 6, "dataloader_num_workers": 2}
    return trained(folder, world, data, kind=runtime.Trainer, **more)


def evaluated(folder, world):
    """Evaluation and prediction of an uneven number of samples."""
    args = arguments(folder, world)
    data, found = Samples(6 * FORCED.size + 1), {}
    with runtime.Trainer(Model(), args, eval_dataset=data, compute_metrics=accuracy) as trainer:
        trainer.model.load_state_dict(fixed_weights())
        found["metrics"] = trainer.evaluate()
        found["prediction"] = trainer.predict(data)
        found["stream"] = trainer.predict(Stream(data.size))
        args.eval_do_concat_batches = False
        trainer.compute_metrics = None
        found["apart"] = trainer.predict(data).predictions
    return found


def fixed_weights():
    """The same weights in every process, which nobody has to hand over."""
    names = Model().state_dict()
    return {name: torch.linspace(-1, 1, each.numel()).view_as(each) for name, each in names.items()}


def settings(folder, world):
    """Everything that can be said of the exchange of gradients."""
    model = Model(normalizes=True)
    del model.unused
    return trained(
        folder,
        world,
        Samples(6 * FORCED.size),
        model=model,
        gradient_accumulation_steps=2,
        ddp_find_unused_parameters=False,
        ddp_static_graph=True,
        ddp_broadcast_buffers=False,
        ddp_bucket_cap_mb=1,
        ddp_timeout=60,
    )


def compiled(folder, world):
    """A compiled model, evaluated on the way."""
    data = Samples(4 * FORCED.size)
    args = arguments(
        folder, world, torch_compile=True, torch_compile_backend="eager", eval_strategy="epoch"
    )
    with OneOrder(Model(), args, train_dataset=data, eval_dataset=Samples(3)) as trainer:
        output = trainer.train()
        return outcome(trainer, train_loss=output.training_loss)


def signalled(folder, world):
    """SIGTERM to one rank, and to all of them one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    return {"trials": [rank_signals.trial(folder / str(n), world, n, world.size) for n in (0, 1)]}


class StopsInside(runtime.TrainerCallback):
    """Asks for a stop from within an evaluation, on the last rank only."""

    trainer = None

    def on_prediction_step(self, args, state, control, **kwargs):  # noqa: ARG002 - a hook's
        """Ask at the second evaluation, at its first batch."""
        if state.global_step == 4 and args.process_index == args.world_size - 1:
            self.trainer.run.control.request(Stop(reason="enough"))


def stopped(folder, world):
    """One rank asks for a stop while all evaluate an uneven number of batches."""
    args = arguments(folder, world, eval_strategy="steps", eval_steps=2, max_steps=400)
    asks = StopsInside()
    data, few = Samples(8 * FORCED.size), Samples(4 * FORCED.size + 1)
    with runtime.Trainer(Model(), args, None, data, few, callbacks=[asks]) as trainer:
        asks.trainer = trainer
        trainer.train()
        return outcome(trainer)


def refused(folder, world):
    """What one rank alone may not do, and what no job of several can."""
    found = {}
    try:
        runtime.Trainer(Model(), arguments(folder, world, auto_find_batch_size=True))
    except ValueError as error:
        found["batch size"] = str(error)
    args = arguments(folder, world, ddp_timeout=1)
    with runtime.Trainer(Model(), args, eval_dataset=Samples(4)) as trainer:
        if trainer.is_world_process_zero():
            try:
                trainer.evaluate()
            except RanksError as error:
                found["alone"] = str(error)
    return found


def differing(folder, world):
    """Metrics that differ by rank, and a training that is ended by them."""
    args = arguments(
        folder,
        world,
        eval_strategy="epoch",
        num_train_epochs=4,
        metric_for_best_model="luck",
        greater_is_better=True,
    )
    data, stop = Samples(4 * FORCED.size), runtime.EarlyStoppingCallback(2)
    luck = iter([4.0, 3.0, 2.0, 1.0] if world.rank == 0 else [1.0, 2.0, 3.0, 4.0])
    with runtime.Trainer(
        Model(),
        args,
        None,
        data,
        data,
        compute_metrics=lambda _: {"luck": next(luck)},
        callbacks=[stop],
    ) as trainer:
        trainer.train()
        return outcome(trainer)


class Batchwise:
    """Metrics batch by batch.

    Attributes:
        sizes: Samples of each batch.
    """

    def __init__(self):
        self.sizes, self.hits = [], 0

    def __call__(self, prediction, compute_result=False):
        """Count; give the result at the last batch."""
        self.sizes.append(len(prediction.predictions))
        self.hits += int((prediction.predictions.argmax(-1) == prediction.label_ids).sum())
        return {"hits": self.hits} if compute_result else {}


def batchwise(folder, world):
    """Metrics that are computed batch by batch get the batches of all processes."""
    args = arguments(folder, world, batch_eval_metrics=True)
    count, data = Batchwise(), Samples(6 * FORCED.size + 1)
    with runtime.Trainer(Model(), args, eval_dataset=data, compute_metrics=count) as trainer:
        trainer.model.load_state_dict(fixed_weights())
        return {"hits": trainer.evaluate()["eval_hits"], "sizes": count.sizes}


class OwnChance(runtime.TrainerCallback):
    """Lets each process draw different random numbers."""

    def on_train_begin(self, args, state, control, **kwargs):  # noqa: ARG002 - a hook's
        """Seed, unless training goes on."""
        if not state.global_step:
            torch.manual_seed(100 + args.process_index)


def resumed(folder, world):
    """A training with dropout that is broken off and goes on, beside one that is not."""
    data, found = Samples(10 * FORCED.size + 1), {}
    more = {"save_strategy": "steps", "save_steps": 4, "save_total_limit": 2, "logging_steps": 3}
    more |= {"gradient_accumulation_steps": 2, "lr_scheduler_type": "linear"}
    for name, again in (("unbroken", None), ("broken", 4)):
        place = folder / name
        args = arguments(place, world, **more)
        with runtime.Trainer(Model(chance=0.5), args, None, data, callbacks=[OwnChance]) as trainer:
            if again is not None:
                source = folder / "unbroken" / f"checkpoint-{again}"
                trainer.train(resume_from_checkpoint=str(source))
            else:
                trainer.train()
            found[name] = outcome(trainer)
        found[f"{name} files"] = sorted(str(each.relative_to(place)) for each in files(place))
    return found


def files(place):
    """The files of an output directory's checkpoints, hidden ones too."""
    return [each for each in place.rglob("*checkpoint-*/*") if "runs" not in each.parts]


def best(folder, world):
    """The best model is loaded at the end, with the statistics that it was saved with."""
    args = arguments(
        folder,
        world,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        learning_rate=0.8,
    )
    data = Samples(8 * FORCED.size)
    with runtime.Trainer(Model(normalizes=True), args, None, data, data) as trainer:
        trainer.train()
        left = sorted(path.name for path in folder.glob("checkpoint-*"))
        found = outcome(trainer, left=left, best=trainer.state.best_metric)
        found["best step"] = trainer.state.best_global_step
        found["again"] = trainer.evaluate()["eval_loss"]
        return found


TRIALS = {
    each.__name__: each
    for each in (
        even,
        signalled,
        accumulated,
        uneven,
        dropped,
        tokens,
        streamed,
        worked,
        evaluated,
        settings,
        compiled,
        stopped,
        refused,
        differing,
        batchwise,
        resumed,
        best,
    )
}

OWN_GROUP = ("even", "signalled")
"""Trials, the first ones, whose trainers make the process group, and end it."""


def trials():
    """Those above, and those of sharded models."""
    from tests.runtime.trainer import shard_trials  # noqa: PLC0415 - it imports this module

    return TRIALS | shard_trials.TRIALS


def run(name, folder, size):
    """One process's part of a trial, which stands for as many as there are said to be."""
    FORCED.size = size
    return trials()[name](Path(folder) / name, World.here())


def main(folder, names):
    """Every process's part of every trial."""
    faulthandler.dump_traceback_later(800, exit=True)  # a hang is told, and ends
    torch.set_num_threads(1)
    world, groups = World.here(), []
    for name in names:
        if name not in OWN_GROUP and not dist.is_initialized():
            dist.init_process_group("gloo")
        result = run(name, folder, world.size)
        groups.append(dist.is_initialized())
        torch.save({**result, "groups": groups}, f"{folder}/{name}-{world.rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    from tests.runtime.trainer import rank_trials  # the one that others import too

    rank_trials.main(sys.argv[1], sys.argv[2:] or list(trials()))
