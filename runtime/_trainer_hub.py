"""What a trainer pushes to a model hub: checkpoints behind training's back, and the finished model.

    training thread │ save ─► pin the checkpoint ─► hook: push_begin ─► go on
    ────────────────┼────────────────────────────────────────────────────────────────────
    upload thread   │ wait until it is on the disk ─► upload ─► unpin

One upload goes on at a time. What fails there is logged and alerted; training goes on.
"""

import logging
import os
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bus import PushBegan
from runtime._checkpoint_files import (
    LOOP,
    MANIFEST,
    OPTIMIZER,
    RNG,
    SCALER,
    SCHEDULER,
    STATE,
)
from runtime._checkpoint_run import RUN_IDENTITY, RUN_PATH
from runtime._checkpoint_thread import JobThread
from runtime._choices import HubStrategy, SaveStrategy
from runtime._hub import HubClient, PushError
from runtime._model_card import Names, model_card, write_card
from runtime._trainer_saving import Saving

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

log = logging.getLogger("runtime")

PATIENCE: Final = 600.0
"""Seconds the end of training waits for an upload."""

_NOT_THE_MODEL: Final = (
    OPTIMIZER,
    SCHEDULER,
    SCALER,
    RNG,
    LOOP,
    STATE,
    MANIFEST,
    RUN_PATH,
    RUN_IDENTITY,
)
"""Files of a checkpoint that only resuming needs."""

_STAYS_HERE: Final = ("_*", "checkpoint-*", ".checkpoint-*", ".*.tmp", "runs/*")
"""In the output directory: unfinished files, and journals, which may be growing."""

_NAMED: Final = (
    "learning_rate",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "optim",
    "lr_scheduler_type",
    "warmup_steps",
    "seed",
)
"""Arguments that a model card names."""

_TAG: Final = "generated_from_trainer"
"""By which hubs find what upstream's trainer and this one made."""


class Hub(Saving):
    """The methods that push.

    Attributes:
        hub_model_id: The repository with its owner, once the hub has named it.
    """

    hub_model_id: str | None = None
    _skipped_pushes: int = 0
    _upload_thread: JobThread | None = None

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository unless it exists, and set `hub_model_id` to its full name.

        Args:
            token: Of an account that may write; `args.hub_token` by default.
            private: Whether a new repository is private; `args.hub_private_repo` by default.

        Raises:
            PushError: The hub could not be reached or refused.
        """
        private = private if private is not None else self.args.hub_private_repo
        self.hub_model_id = self._client(token).make_repo(self._target, private=private)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,  # noqa: ANN401 - they are those of create_model_card
    ) -> "CommitInfo | Future[CommitInfo] | None":
        """Save the model and a model card, and push `output_dir` without checkpoints and runs.

        Waits for the upload before it. A README.md that a person wrote is left as it is.

        Args:
            commit_message: Of the commit.
            blocking: Return when it is uploaded. Otherwise wait for what is returned, or `close`
                the trainer, before the process ends.
            token: Of an account that may write; `args.hub_token` by default.
            revision: The branch; `args.hub_revision` by default.
            private: Whether a new repository is private; `args.hub_private_repo` by default.
            kwargs: For `create_model_card`.

        Returns:
            The commit, or its future; None in every process but the first, which pushes.

        Raises:
            ImportError: The hub's client is not installed.
            ValueError: There is no token.
            PushError: The hub could not be reached or refused.
        """
        self._announce_push()
        if self._sharded is not None:  # which all processes write together
            self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        client = self._client(token)
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        if self._sharded is None:
            self.save_model(_internal_call=True)
        self.create_model_card(**kwargs)
        done: Future[CommitInfo] = Future()
        push = partial(
            client.upload,
            self.output_dir,
            self._target,
            message=commit_message,
            revision=revision if revision is not None else self.args.hub_revision,
            ignore=_STAYS_HERE,
        )

        def job() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(push())
            except PushError as error:
                done.set_exception(error)

        self._uploads.submit(job)
        return done.result() if blocking else done

    def create_model_card(
        self,
        *,
        model_name: str | None = None,
        language: Names = None,
        license: Names = None,  # noqa: A002 - upstream's name
        tags: Names = None,
        finetuned_from: Names = None,
        tasks: Names = None,
        dataset_tags: Names = None,
        dataset: Names = None,
    ) -> None:
        """Write README.md with metadata, the last evaluation's metrics and the main arguments.

        One that a person wrote is left as it is.

        Args:
            model_name: The title; the repository's name by default.
            language: What the model speaks.
            license: Its licence.
            tags: Words to find it by, beside those in the model's own `model_tags`.
            finetuned_from: The model it was made of.
            tasks: What it can do; hubs take the first.
            dataset_tags: The data sets' names on the hub.
            dataset: The data sets' names for people.
        """
        if not self.is_world_process_zero():
            return
        own = _listed(getattr(self.model, "model_tags", None))
        found = dict.fromkeys([*_listed(tags), *own, _TAG])
        metadata: dict[str, Names] = {
            "language": language,
            "license": license,
            "base_model": finetuned_from,
            "pipeline_tag": next(iter(_listed(tasks)), None),
            "datasets": dataset_tags,
            "tags": [*found],
        }
        arguments = self.args.to_dict()
        text = model_card(
            model_name or self._target.split("/")[-1],
            metadata=metadata,
            dataset=dataset,
            metrics=self._last_evaluation(),
            settings={name: arguments[name] for name in _NAMED},
        )
        if not write_card(self.output_dir, text):
            log.info("the README.md in %s is somebody's own and stays as it is", self.output_dir)

    def save_model(
        self,
        output_dir: "str | os.PathLike[str] | None" = None,
        _internal_call: bool = False,
    ) -> None:
        """As `Saving.save_model`; with `args.push_to_hub` it is pushed as well, as "Model save".

        Args:
            output_dir: Where; `args.output_dir` by default, and pushed is what is there.
        """
        super().save_model(output_dir)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def begin_pushes(self) -> None:
        """Make the repository that `args.push_to_hub` asks for; a failure is told, not raised."""
        if self.args.push_to_hub and self.hub_model_id is None and self.is_world_process_zero():
            try:
                self.init_hf_repo()
            except PushError as error:
                self._tell_failure(error)

    def finish_pushes(self, timeout: float = PATIENCE) -> None:
        """Wait for what is being uploaded, and say what was left out.

        Args:
            timeout: Seconds; what takes longer goes on as long as the process lives, and is told.
        """
        if self._upload_thread is not None:
            if not self._upload_thread.close(timeout):
                text = f"{self._target} is still being pushed to after {timeout:g} s"
                log.warning("%s; the upload ends unfinished if the process does", text)
                self.run.alert("push to the hub is late", text)
            self._checkpoints.wait(timeout)  # one kept for its upload is deleted by now
        if self._skipped_pushes:
            log.info(
                "%d checkpoints were not pushed because an upload was under way; save less often, "
                "or set hub_always_push=True",
                self._skipped_pushes,
            )
            self._skipped_pushes = 0

    def _tell_saved(self, path: Path) -> None:
        self._push_checkpoint(path)
        super()._tell_saved(path)

    def _push_checkpoint(self, path: Path) -> None:
        """Upload a checkpoint as soon as it is on the disk, unless an upload is under way."""
        args = self.args
        if not args.push_to_hub or args.hub_strategy == HubStrategy.END:
            return
        if not self.is_world_process_zero():
            return
        if not args.hub_always_push and not self._uploads.wait(0):
            self._skipped_pushes += 1
            return
        self._checkpoints.pin(path)
        self._announce_push()
        done = f"epoch {int(self.state.epoch or 0)}"
        if args.save_strategy == SaveStrategy.STEPS:
            done = f"step {self.state.global_step}"
        self._uploads.submit(partial(self._upload, path, f"Training in progress, {done}"))

    def _upload(self, path: Path, message: str) -> None:
        """The upload thread's work."""
        try:
            if not self._checkpoints.wait(PATIENCE) or not self._checkpoints.reading(path):
                log.warning("%s was not pushed: it is not, or no longer, on the disk", path)
                return
            if self.hub_model_id is None:
                self.init_hf_repo()
            self._upload_folders(path, message)
        except PushError as error:
            self._tell_failure(error)
        finally:
            self._checkpoints.unpin(path)

    def _upload_folders(self, path: Path, message: str) -> None:
        client, args = self._client(None), self.args
        repo, revision = self._target, args.hub_revision
        client.upload(path, repo, message=message, revision=revision, ignore=_NOT_THE_MODEL)
        if args.hub_strategy == HubStrategy.EVERY_SAVE:
            return
        last = args.hub_strategy == HubStrategy.CHECKPOINT
        client.upload(
            path,
            repo,
            message=f"{message}, checkpoint",
            revision=revision,
            place="last-checkpoint" if last else path.name,
        )

    def _announce_push(self) -> None:
        # What this hook does to the flags is upstream's to ignore, so ours as well.
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.announce(PushBegan, {"target": self._target})

    def _tell_failure(self, error: PushError) -> None:
        log.error("%s; training goes on", error)
        self.run.alert("not pushed to the hub", str(error), step=self.state.global_step)

    def _client(self, token: str | None) -> HubClient:
        return HubClient(token if token is not None else self.args.hub_token)

    def _last_evaluation(self) -> dict[str, float]:
        for logged in reversed(self.state.log_history):
            found = {name: value for name, value in logged.items() if name.startswith("eval_")}
            if found:
                return found
        return {}

    @property
    def _target(self) -> str:
        """The repository as far as its name is known."""
        return self.hub_model_id or self.args.hub_model_id or self.output_dir.resolve().name

    @property
    def _uploads(self) -> JobThread:
        if self._upload_thread is None:
            self._upload_thread = JobThread("hub uploads", background=True)
        return self._upload_thread


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())
