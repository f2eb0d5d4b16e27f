"""What a trainer keeps: checkpoints, the best of them, and the finished model."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from bus import CheckpointSaved
from runtime._callback_states import export_states
from runtime._checkpoint_contents import CheckpointContents, LoadedCheckpoint, SavedCheckpoint
from runtime._checkpoint_errors import (
    CheckpointError,
    CheckpointNotFoundError,
    DamagedCheckpointError,
)
from runtime._checkpoint_files import checkpoint_path
from runtime._checkpoint_load import load_weights, verify
from runtime._checkpoint_pieces import read_model
from runtime._checkpoint_run import write_run
from runtime._checkpoint_shards import Shard
from runtime._checkpoint_trees import copy_tree
from runtime._checkpoints import PATIENCE, Checkpoints
from runtime._data import EpochFeed
from runtime._logs import SharedValues
from runtime._losses import LossSum
from runtime._model_folder import write_model
from runtime._pretrained import pretrained_files
from runtime._rank_states import RankState, RankStates
from runtime._resume import (
    DATA,
    GRAD_NORM,
    GUARD,
    LAST_LOGGED,
    LEARNING_RATE,
    LOSSES,
    EpochPlace,
    Resumed,
)
from runtime._rng import RngState
from runtime._sharded_state import load_local_weights, local_state, whole_weights
from runtime._state import TRAINER_STATE_NAME, TrainerState
from runtime._token_count import SEEN, TokenCount
from runtime._trainer_loading import Loading
from runtime._trainer_logging import Logging

log = logging.getLogger("runtime")

_FLOS: Final = "total_flos"


class Saving(Logging, Loading):
    """The methods that write checkpoints and models."""

    _rank_states: RankStates | None
    _losses: LossSum
    _tokens: TokenCount
    _last_logged: int
    _grad_norm: torch.Tensor | None
    _learning_rate: float | None
    _epoch: int = 0
    _epoch_start: RngState | None = None
    _feed: EpochFeed | None = None
    _resumed: Resumed | None = None
    """Where training goes on, until its epoch begins: what it owes may be saved before that."""

    def save_model(self, output_dir: "str | os.PathLike[str] | None" = None) -> None:
        """Write the model, its configuration, its tokenizer and the arguments; returns when done.

        Where the model is sharded all processes call it, and the first one writes all of it.

        Args:
            output_dir: Where; `args.output_dir` by default.
        """
        weights = None
        if self._sharded is not None:
            self._gather("save_model")
            weights = whole_weights(self.model, keep=self.args.should_save)
        if not self.args.should_save:
            return
        folder = Path(output_dir) if output_dir is not None else self.output_dir
        write_model(
            folder,
            self.model.state_dict() if weights is None else weights,
            arguments=self.args.to_json_string(),
            extras=pretrained_files(self.model, self.processing_class),
        )

    def save_state(self) -> None:
        """Write the state, with its history of logs, to `trainer_state.json` in `output_dir`."""
        if not self._group.alone and self._group.world.rank:
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self.state.save_to_json(self.output_dir / TRAINER_STATE_NAME)

    def save_checkpoint(self) -> Path:
        """Take a checkpoint of this moment; it is written behind training's back.

        Callbacks with an `on_save` of their own find it complete, so training waits for it then,
        unless they say `reads_checkpoint = False`.

        Returns:
            Where it is, or will be in a moment.
        """
        self.store_flos()
        step = self.state.global_step
        path = checkpoint_path(self.output_dir, step)
        best = self._note_best(step)
        self.state.stateful_callbacks = export_states(self.callback_handler, self.control)
        self._save(step, best)
        if self._somebody_reads_checkpoints() and not self._checkpoints.wait():
            log.warning("%s is not complete yet", path)
        self._tell_saved(path)
        return path

    def _save(self, step: int, best: Path | None) -> None:
        """Hand the checkpoint to the writer, or this process's part of it."""
        if (guard := self.run.active_guard) is not None:
            guard.flush()  # what it finds decides which checkpoints may go
        late = self._counted_by_all()
        states, args = self._rank_states, self.args
        take = None
        if states is not None and not args.save_only_model:
            give, take = states.handing_over(self._own_state())
            self._checkpoints.do(give)
        if args.should_save:
            contents = self._contents(late, take)
        elif self._sharded is not None:
            contents = CheckpointContents(model={}, state=str)
        else:
            return
        self._checkpoints.save(self._with_shard(contents), step=step, best=best)

    def _with_shard(self, contents: CheckpointContents) -> CheckpointContents:
        """A checkpoint's contents with this process's part of what is sharded."""
        if self._sharded is None or self._rank_states is None:
            return contents
        shards = self._rank_states.shards
        own = local_state(self.model, None if self.args.save_only_model else self.optimizer)
        shard = Shard(
            rank=shards.rank, size=shards.size, boxes=own.boxes, tied=own.tied, turn=shards.turn()
        )
        return replace(contents, model=own.weights, optimizer=own.optimizer, shard=shard)

    def note_epoch(self, epoch: int, start: RngState | None) -> None:
        """Remember which epoch it is, and the generators at its beginning once it has begun."""
        self._epoch, self._epoch_start, self._resumed = epoch, start, None

    def note_resumed(self, resumed: Resumed | None) -> None:
        """Remember where a checkpoint was made, as training begins; None if it is a new one."""
        self._resumed = resumed
        self._epoch_start = resumed.checkpoint.epoch_start if resumed is not None else None

    def before_update(self) -> None:
        """Keep the next change of weights from a checkpoint that is still being copied."""
        self._checkpoints.before_update()

    def settle_checkpoints(self) -> None:
        """At the end of training: load the best model and leave no more than was asked for.

        Everything is on the disk when it returns, for whoever looks there after `train`.
        """
        best, args = self.state.best_model_checkpoint, self.args
        if best is not None and args.save_total_limit == 1 and args.should_save:
            self._checkpoints.keep_only(Path(best))
        self._checkpoints.wait()
        best = self._group.said_by_first(best)  # by then all is on the disk
        if args.load_best_model_at_end and best is not None:
            self._load_best(Path(best))

    def _load_best(self, best: Path) -> None:
        """Load the best model as the first process finds it; every process calls it."""
        first, found = not self._group.world.rank, False
        try:
            if first:
                verify(best)
                if self._sharded is None:
                    load_weights(self.model, read_model(best, device=self.device))
                found = True
        except CheckpointError as error:
            log.warning("the best model cannot be loaded, the last one stays: %s", error)
        if self._sharded is None:
            self._group.spread([*self.model.parameters(), *self.model.buffers()])
        elif self._group.said_by_first(found):
            load_local_weights(self.model, best)

    def _counted_by_all(self) -> dict[str, torch.Tensor]:
        """What the state gets from devices, and from other processes; every process calls it."""
        if self._group.alone:
            return self._tokens.on_device(None)
        self._add_up_tokens()
        return {**self._tokens.on_device(None), _FLOS: self._flos_of_all()}

    def _own_state(self) -> RankState:
        """What this process keeps for itself, where several train."""
        own: dict[str, object] = {LOSSES: self._losses.state(), **self._guard_state()}
        if self._feed is not None:
            own[DATA] = self._data_state(self._feed)
        kept = copy_tree("loop", own, lambda _, tensor: tensor.clone())
        return RankState(RngState.capture(), self._epoch_start, kept)

    def _contents(
        self, late: Mapping[str, torch.Tensor], states: Callable[[Path], None] | None
    ) -> CheckpointContents:
        state, args = self.state.snapshot(), self.args
        values = self.run.take(late)
        counted = SharedValues(values) if values is not None else None
        state.num_input_tokens_seen = self._tokens.host

        def text() -> str:
            found = counted.wait() if counted is not None else {}
            state.num_input_tokens_seen = int(found.get(SEEN, state.num_input_tokens_seen))
            state.total_flos = found.get(_FLOS, state.total_flos)
            return state.to_json()

        sharded = self._sharded is not None  # what is sharded comes with the shard
        weights = {} if sharded else self.model.state_dict(keep_vars=True)
        arguments = args.to_json_string()
        extras = self._checkpoint_extras(states)
        if args.save_only_model:
            return CheckpointContents(model=weights, state=text, arguments=arguments, extras=extras)
        scaler = self._precision.scaler
        return CheckpointContents(
            model=weights,
            state=text,
            arguments=arguments,
            optimizer=None if sharded or self.optimizer is None else self.optimizer.state_dict(),
            scheduler=self.lr_scheduler.state_dict() if self.lr_scheduler is not None else None,
            scaler=scaler.state_dict() if scaler is not None else None,
            rng=RngState.capture() if states is None else None,
            epoch_start=self._epoch_start,
            loop=self._loop_state(),
            extras=extras,
        )

    def _loop_state(self) -> dict[str, object]:
        """What Transformers has no file for."""
        kept: dict[str, object] = {
            LAST_LOGGED: self._last_logged,
            LOSSES: self._losses.state(),
            GRAD_NORM: self._grad_norm,
            LEARNING_RATE: self._learning_rate,
            **self._guard_state(),
        }
        if self._feed is not None:
            kept |= {**self._place(self._feed).to_dict(), DATA: self._data_state(self._feed)}
        return kept

    def _guard_state(self) -> dict[str, object]:
        guard = self.run.active_guard
        return {} if guard is None else {GUARD: guard.state_dict()}

    def _nonfinite_from(self) -> int | None:
        """The first step whose loss was not finite, as far as is known; on the writing thread."""
        guard = self.run.active_guard
        if guard is None:
            return None
        guard.look()  # the device has done all steps before the checkpoint that was just written
        return guard.nonfinite_from

    def _data_state(self, feed: EpochFeed) -> dict[str, object] | None:
        return feed.state_dict() if self._resumed is None else self._resumed.data

    def _place(self, feed: EpochFeed) -> EpochPlace:
        """Where training is in its data; an epoch of which no step is left is the next already."""
        if self._resumed is not None:
            parts = self.args.gradient_accumulation_steps
            return self._resumed.as_place(parts, feed.batches)
        is_open = self._epoch_start is not None
        over = is_open and (feed.taken == feed.batches or self.control.should_epoch_stop)
        return EpochPlace(
            epoch=self._epoch + over,
            taken=feed.taken if is_open and not over else 0,
            is_open=is_open,
            accumulation=self.args.gradient_accumulation_steps,
            batches=feed.batches,
        )

    def _checkpoint_extras(self, states: Callable[[Path], None] | None) -> Callable[[Path], None]:
        pretrained = pretrained_files(self.model, self.processing_class)
        run, attempt, output_dir = self.run.dir, self.run.attempt, self.output_dir

        def write(folder: Path) -> None:
            write_run(folder, run, attempt, output_dir)
            if states is not None:
                states(folder)
            if pretrained is not None:
                pretrained(folder)

        return write

    def _note_best(self, step: int) -> Path | None:
        """The best checkpoint, this one perhaps; remembered once it is saved."""
        best = self.state.best_global_step
        if best:
            path = checkpoint_path(self.output_dir, best)
            if best == step or path.is_dir():
                self.state.best_model_checkpoint = str(path)
        found = self.state.best_model_checkpoint
        return Path(found) if found is not None else None

    def _tell_saved(self, path: Path) -> None:  # noqa: ARG002 - for those that do more with it
        self.call_hook("on_save")

    def _somebody_reads_checkpoints(self) -> bool:
        return any(
            getattr(each, "reads_checkpoint", True)
            for each in self.callback_handler.overriding("on_save")
        )

    def _make_checkpoints(self) -> Checkpoints:
        args = self.args
        return Checkpoints(
            self.output_dir,
            limit=args.save_total_limit if args.should_save else None,
            asynchronous=args.asynchronous_checkpoints,
            complete=self._checkpoint_is_complete,
            failed=self._checkpoint_failed,
            spoilt_from=self._nonfinite_from,
        )

    def _make_rank_states(self) -> RankStates | None:
        """How states of other processes come into checkpoints; every process calls it."""
        group = self._group
        if group.alone:
            return None
        writers = sum(group.collected(self.args.should_save))
        rank, size = group.world.rank, group.world.size
        return RankStates(
            group.store(),
            rank,
            size,
            writers=writers,
            patience=min(PATIENCE, self.args.ddp_timeout),
        )

    def _checkpoint_is_complete(self, saved: SavedCheckpoint) -> None:
        """Tell the bus; on the thread that wrote it."""
        best = self.state.best_model_checkpoint
        aliases = ("best",) if best is not None and Path(best) == saved.path else ()
        measured = {"bytes": saved.size, "held_seconds": saved.held, "seconds": saved.seconds}
        self.run.publish(CheckpointSaved(step=saved.step, path=str(saved.path), metrics=measured))
        self.run.artifact(saved.path, kind="checkpoint", aliases=aliases, step=saved.step)

    def _checkpoint_failed(self, path: Path, error: Exception) -> None:
        log.error("%s could not be saved; training goes on without it: %s", path, error)
        self.run.alert("checkpoint not saved", f"{path}: {error}")


def read_state(checkpoint: LoadedCheckpoint) -> TrainerState:
    """A checkpoint's state; a best checkpoint that is gone is named and forgotten.

    Raises:
        CheckpointError: It has none.
    """
    path = checkpoint.path / TRAINER_STATE_NAME
    if not path.is_file():
        raise CheckpointNotFoundError(
            checkpoint.path,
            f"without {TRAINER_STATE_NAME} training cannot go on from it; load its weights into "
            "the model yourself, and train without resuming",
        )
    state = TrainerState.load_from_json(path)
    if state.global_step < 0:
        why = f"says that {state.global_step} steps were taken"
        raise DamagedCheckpointError(checkpoint.path, TRAINER_STATE_NAME, why)
    best = state.best_model_checkpoint
    if best is not None and not Path(best).is_dir():
        log.warning("the best checkpoint so far, %s, is gone; it is forgotten", best)
        state.best_model_checkpoint = None
    return state
