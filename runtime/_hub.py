"""The one place that speaks to a model hub, through the hub's own client, loaded when needed.

RuntimeError
└── PushError    a hub could not be reached, or refused; raised by `HubClient`
"""

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

INSTALL: Final = "pip install 'hotloop[hub]'"
MASK: Final = "<HUB_TOKEN>"


class PushError(RuntimeError):
    """A hub could not be reached or refused what it was sent.

    Attributes:
        target: The repository.
    """

    def __init__(self, target: str, why: str) -> None:
        super().__init__(
            f"{target} could not be pushed to: {why}; see that the hub can be reached, that the "
            "token may write there, and that hub_model_id and hub_revision name what you mean"
        )
        self.target = target


class HubClient:
    """Makes repositories and uploads folders, with one account's token.

    Args:
        token: Of an account that may write; by default the one in the environment variable
            `HF_TOKEN` or the one that `hf auth login` has stored.

    Raises:
        ImportError: The hub's client is not installed.
        ValueError: There is no token, or it cannot be one.
    """

    def __init__(self, token: str | None) -> None:
        try:
            from huggingface_hub import HfApi, get_token  # noqa: PLC0415 - an extra, and slow
        except ImportError as error:
            raise ImportError(
                f"pushing to a hub needs the package huggingface_hub ({error}); {INSTALL}"
            ) from error
        found = token or get_token()
        if found is None:
            raise ValueError(
                "there is no token to push to the hub with; set hub_token=..., or the environment "
                "variable HF_TOKEN, or log in with `hf auth login`"
            )
        if not (found.isascii() and found.isprintable()) or " " in found:
            raise ValueError(
                f"hub_token={MASK} holds a space, a line break or a character that no token has; "
                "pass it as the hub shows it"
            )
        self._token: Final = found
        self._api = HfApi(token=found)

    def make_repo(self, name: str, *, private: bool | None) -> str:
        """Make a repository unless it is there, and return its name with its owner's.

        Raises:
            PushError: The hub could not be reached or refused.
        """
        with self._translated(name):
            return self._api.create_repo(name, private=private, exist_ok=True).repo_id

    def upload(
        self,
        folder: Path,
        repo: str,
        *,
        message: str | None,
        revision: str | None,
        place: str | None = None,
        ignore: Sequence[str] = (),
    ) -> "CommitInfo":
        """Commit a folder's files to a repository.

        Args:
            folder: What to upload; its files must not change meanwhile.
            repo: The repository, with its owner.
            message: The commit's.
            revision: The branch; the repository's main one by default.
            place: A folder in the repository; its root by default.
            ignore: Patterns of files, relative to the folder, that stay here.

        Raises:
            PushError: The hub could not be reached or refused; nothing was committed.
        """
        with self._translated(repo), _quiet():
            return self._api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                path_in_repo=place,
                commit_message=message,
                revision=revision,
                ignore_patterns=list(ignore),
            )

    @contextlib.contextmanager
    def _translated(self, target: str) -> Generator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the client's, its transport's and the file system's
            text = " ".join(str(error).split()) or type(error).__name__
            clean = text.replace(self._token, MASK)
            # A cause that quotes the token would be shown with the traceback.
            raise PushError(target, clean) from (error if clean == text else None)


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Without the client's progress bars, which would tear the training's own."""
    from huggingface_hub.utils.tqdm import (  # noqa: PLC0415 - an extra, and slow
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
