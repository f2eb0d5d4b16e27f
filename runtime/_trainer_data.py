"""The data of a trainer: its loaders, their samplers, and the feed of the loop."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler

from runtime._collate import Collator, default_data_collator
from runtime._data import EpochFeed, count_labels
from runtime._dataset_checks import check_dataset
from runtime._loaders import (
    LoaderOptions,
    build_loader,
    count_samples,
    has_length,
    without_unused_columns,
)
from runtime._samplers import eval_sampler, train_sampler
from runtime._seeds import seed_worker
from runtime._signatures import wanted_columns
from runtime._trainer_base import Batch, TrainerBase


class Loaders(TrainerBase):
    """The methods that people override to feed a model otherwise."""

    _eval_loaders: dict[str, DataLoader[Any]]

    def get_train_dataloader(self) -> Iterable[Any]:
        """The loader of the training data.

        Raises:
            ValueError: There is none.
        """
        if self.train_dataset is None:
            raise ValueError("there is nothing to train on; pass train_dataset=... to the trainer")
        data, args = self.train_dataset, self.args
        return self._loader(
            data,
            batch_size=self._train_batch_size,
            sampler=self._get_train_sampler(data),
            seed=self._order_seed,
            worker_init_fn=partial(
                seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index
            ),
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Iterable[Any]:  # noqa: ANN401 - anything with samples
        """The loader of an evaluation.

        Args:
            eval_dataset: Instead of the trainer's own; or the name of one of several.

        Raises:
            ValueError: There is none.
        """
        data, name = eval_dataset, "eval"
        if data is None:
            data = self.eval_dataset
        if isinstance(data, str):
            data, name = self._eval_set(data), data
        if data is None:
            raise ValueError(
                "there is nothing to evaluate on; pass eval_dataset=... to the trainer or to "
                "evaluate()"
            )
        check_dataset(data, "eval_dataset")
        keeps = self.args.dataloader_persistent_workers and eval_dataset in (None, name)
        if keeps and name in self._eval_loaders:
            return self._eval_loaders[name]
        loader = self._evaluation_loader(data)
        if keeps:
            self._eval_loaders[name] = loader
        return loader

    def get_test_dataloader(self, test_dataset: Any) -> Iterable[Any]:  # noqa: ANN401 - anything with samples
        """The loader of a prediction."""
        check_dataset(test_dataset, "test_dataset")
        return self._evaluation_loader(test_dataset)

    def num_examples(self, dataloader: Iterable[Any]) -> int:
        """How many samples a loader with a length has."""
        return count_samples(dataloader, self._train_batch_size)

    def make_feed(self, loader: Iterable[Any]) -> EpochFeed:
        """The micro-batches of the loop, in groups of an optimizer step."""
        parts = self.args.gradient_accumulation_steps
        # Only a transfer is worth an early start; the step itself sees to everything else.
        device = None if self.device.type == "cpu" else self.device
        return EpochFeed(loader, accumulation=parts, device=device)

    def count_items(self, group: list[Batch]) -> torch.Tensor | None:
        """Labels that count in the micro-batches of an optimizer step, on the device.

        Those of all processes together with `average_tokens_across_devices`. None if nobody scales
        a loss by them.
        """
        items = self._count_own_items(group)
        return items if items is None or not self._weighs_ranks else self._group.sum(items)

    def _count_own_items(self, group: list[Batch]) -> torch.Tensor | None:
        if not self.model_accepts_loss_kwargs and self.compute_loss_func is None:
            return None
        return count_labels(group, shifted=self.loss_shifts_labels)

    @property
    def _order_seed(self) -> int | None:
        """Where random orders begin; known to be the same in all processes if there are more."""
        args = self.args
        return args.seed if args.data_seed is None and not self._group.alone else args.data_seed

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:  # noqa: ANN401 - as above
        data = self.train_dataset if train_dataset is None else train_dataset
        if isinstance(data, IterableDataset) or not has_length(data):
            return None
        args = self.args
        return train_sampler(
            data,
            args.train_sampling_strategy,
            seed=self._order_seed,
            step_size=self._train_batch_size
            * args.gradient_accumulation_steps
            * self._group.world.size,
            length_column=args.length_column_name,
            input_name=self._input_name(),
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int] | None:  # noqa: ANN401 - as above
        if isinstance(eval_dataset, IterableDataset) or not has_length(eval_dataset):
            return None
        args = self.args
        return eval_sampler(
            eval_dataset,
            args.train_sampling_strategy,
            seed=args.seed,
            batch_size=args.eval_batch_size * self._group.world.size,
            length_column=args.length_column_name,
            input_name=self._input_name(),
        )

    def _input_name(self) -> str | None:
        named = getattr(self.processing_class, "model_input_names", None)
        return str(named[0]) if named else None

    def _eval_set(self, name: str) -> Any:  # noqa: ANN401 - anything with samples
        given: object = self.eval_dataset
        sets: Mapping[str, Any] = {}
        if isinstance(given, Mapping):
            sets = cast("Mapping[str, Any]", given)
        if name not in sets:
            there = ", ".join(sets) or "none with a name"
            raise ValueError(
                f"there is no evaluation set {name!r} (there are {there}); pass one of their "
                "names, or the data itself"
            )
        return sets[name]

    def _evaluation_loader(self, data: Any) -> DataLoader[Any]:  # noqa: ANN401 - anything with samples
        return self._loader(
            data,
            batch_size=self.args.eval_batch_size,
            sampler=self._get_eval_sampler(data),
            seed=self._order_seed,
            fills_up=False,
        )

    def _loader(self, data: Any, **more: Any) -> DataLoader[Any]:  # noqa: ANN401 - what `build_loader` takes
        args = self.args
        collator: Collator = self.data_collator or default_data_collator
        if args.remove_unused_columns:
            columns = wanted_columns(self.model, self.label_names)
            data, collator = without_unused_columns(
                data, collator, columns, type(self.model).__name__
            )
        options = LoaderOptions(
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            drop_last=args.dataloader_drop_last,
            in_order=args.dataloader_in_order,
            multiprocessing_context=args.dataloader_multiprocessing_context,
        )
        world = self._group.world
        return build_loader(data, collator=collator, options=options, world=world, **more)
