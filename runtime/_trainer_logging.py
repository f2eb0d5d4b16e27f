"""What a trainer logs: training, evaluation and the summary, to callbacks, history and bus."""

from typing import cast

import torch

from runtime._boxes import is_distributed, replicated_part
from runtime._device import HostValues
from runtime._flops import FlopCounter
from runtime._logs import Logs
from runtime._losses import LossSum
from runtime._outputs import speed_metrics
from runtime._token_count import SEEN, TokenCount
from runtime._trainer_base import Batch, TrainerBase
from runtime._training_plan import TrainingPlan

_ORDER = ("loss", "grad_norm", "learning_rate")


class Logging(TrainerBase):
    """The methods that turn what training has done into numbers by name."""

    _last_logged: int
    _flos: float
    _flos_before: float
    _losses: LossSum
    _total: LossSum
    _step_losses: list[torch.Tensor]
    _carried: torch.Tensor | None
    _tokens: TokenCount
    _grad_norm: torch.Tensor | None
    _learning_rate: float | None
    _flop_counter: FlopCounter

    @property
    def has_news(self) -> bool:
        """Whether an optimizer step was made since the last entry."""
        return self.state.global_step > self._last_logged

    def account(self, inputs: Batch, loss: torch.Tensor) -> None:
        """Remember a micro-batch's loss, operations and tokens."""
        self._losses.add(loss, self.state.global_step - self._last_logged)
        if self.run.active_guard is not None:
            self._step_losses.append(loss)
        self._flos += self.floating_point_ops(inputs)
        self._tokens.add(inputs)

    def count_tokens(self, inputs: Batch) -> int:
        """Tokens of a micro-batch, padding included; 0 for a model without tokens."""
        return self._tokens.in_batch(inputs)

    def floating_point_ops(self, inputs: Batch) -> float:
        """Operations of one forward and backward pass; override it for a model of your own.

        Counted as 6 for each token and parameter outside the embeddings, for models that can
        count their parameters; else 0.
        """
        return self._flop_counter.of_batch(inputs)

    def store_flos(self) -> None:
        """Move the operations counted since the last time into the state.

        Where several processes train, the state has those of all when training ends, and in its
        checkpoints; adding them up at any other moment would hold up the training.
        """
        if self._group.alone:
            self.state.total_flos += self._flos
            self._flos = 0.0

    def _flos_of_all(self) -> torch.Tensor:
        """The operations of all processes, on the device; every process calls it."""
        own = torch.tensor(self._flos, dtype=torch.float64)
        return self._group.sum(own) + self._flos_before

    def _add_up_tokens(self) -> None:
        """Make the token count that of all processes, on the device; every process calls it."""
        if self._tokens.counts and not self._group.alone:
            self._tokens.add_up(self._group.sum)

    def note_step(self, grad_norm: torch.Tensor | None, learning_rate: float | None) -> None:
        """Remember an optimizer step's gradient norm, still on the device, and its rate."""
        self._grad_norm, self._learning_rate = grad_norm, learning_rate
        guard = self.run.active_guard
        if guard is None:
            return
        # What an epoch that was left has of an unfinished step is in front.
        losses = self._step_losses[-self.current_gradient_accumulation_steps :]
        self._step_losses = []
        if not losses:  # the guard came in the middle of the step
            return
        total = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        # fp16 gradients overflow as a matter of course, which is what their scaler is for.
        norm = grad_norm if self._precision.scaler is None else None
        guard.check(total, step=self.state.global_step + 1, grad_norm=norm)

    def log_training(self, started: float) -> None:
        """Log the mean loss since the last entry, the last step's gradient norm and rate."""
        steps = self.state.global_step - self._last_logged
        self._last_logged = self.state.global_step
        rate, grad_norm = self._learning_rate, self._grad_norm
        host = {} if rate is None else {"learning_rate": rate}
        self._add_up_tokens()
        device = self._tokens.on_device(started)
        total = self._losses.take()
        if total is not None:
            total = self._group.mean(total)
            self._total.add(total, 0)
            device["loss"] = total / steps if steps > 1 else total
        if grad_norm is not None:
            device["grad_norm"] = grad_norm
        self.store_flos()
        late = self.run.take(device)
        if late is None or isinstance(late, HostValues):
            known = host if late is None else host | late.values()
            ordered = (name for name in (*_ORDER, *known) if name in known)
            self.log({name: known[name] for name in ordered}, started)
        else:
            names = [name for name in (*_ORDER, *device) if name in device or name in host]
            self.log(Logs(host, device=late, order=dict.fromkeys(names)), started)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log numbers by name to callbacks, to `state.log_history` and to the bus.

        Values may still be on their way from the device (then `logs` is a `Logs`); looking at one
        waits for it.

        Args:
            logs: Numbers by name; `epoch` is added, and token counts if they are kept.
            start_time: When training began, in Unix seconds, for the tokens per second.
        """
        # Plain where nothing is late: a tenth of the cost, and nothing for the collector.
        entry = logs if isinstance(logs, Logs) else self._without_parts(dict(logs))
        entry["epoch"] = self.state.epoch
        if self._tokens.counts and SEEN not in entry:
            late = self._tokens.on_device(start_time)
            if late:
                entry = Logs(entry, device=self.run.take(late), order=(*entry, *late))
            entry.update(self._tokens.on_host(start_time))
        kept = entry.copy()
        kept["step"] = self.state.global_step
        self.state.log_history.append(kept)
        self._publish(entry)
        self.call_hook("on_log", logs=entry)

    def _without_parts(self, entry: dict[str, float]) -> dict[str, float]:
        """Numbers that looking at takes no other process; the run says why others are left out."""
        parts = {
            name: replicated_part(each) for name, each in entry.items() if is_distributed(each)
        }
        refused = {name: each for name, each in parts.items() if is_distributed(each)}
        if refused:
            self.run.log(refused, step=self.state.global_step)
        known = {name: value for name, value in (entry | parts).items() if name not in refused}
        return cast("dict[str, float]", known)

    def _publish(self, entry: dict[str, float]) -> None:
        step = self.state.global_step
        if isinstance(entry, Logs) and (device := entry.late) is not None:
            self.run.log_late(entry.known(), device, entry, step)
        else:
            self.run.log(dict(entry), step=step)

    def log_summary(self, plan: TrainingPlan, first_step: int, started: float) -> dict[str, float]:
        """Log what this call of `train` has done; waits for the last loss."""
        steps = self.state.global_step - first_step
        metrics = speed_metrics(
            "train",
            started,
            num_samples=plan.samples * steps / max(plan.max_steps, 1),
            num_steps=steps,
        )
        self.store_flos()
        if not self._group.alone:
            self.state.total_flos = float(self._flos_of_all())
        metrics["total_flos"] = self.state.total_flos
        metrics["train_loss"] = self._sum_of_losses() / max(steps, 0.001)
        self._add_up_tokens()
        self.state.num_input_tokens_seen = self._tokens.total()
        self.log(metrics)
        logged = dict(self.state.log_history[-1])
        del logged["step"]
        return logged

    def _sum_of_losses(self) -> float:
        logged, rest = self._total.peek(), self._losses.peek()
        found = 0.0 if logged is None else float(logged)
        found += 0.0 if rest is None else float(self._group.mean(rest))
        # What was restored from a checkpoint belongs to the call of `train` that wrote it.
        return found - (0.0 if self._carried is None else float(self._group.mean(self._carried)))
