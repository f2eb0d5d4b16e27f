"""Finding a run from what the user typed."""

from pathlib import Path

import pytest

from runtime.cli._runs import RunNotFoundError, find_run_dir


class TestFindRunDir:
    @pytest.mark.parametrize(
        "given", ["gpt", "runs/gpt", "./runs/gpt/", "runs/gpt/run.json", "runs/gpt/journal"]
    )
    def test_accepts_a_bare_name_a_path_and_a_file_inside(self, folder, given):
        """Whatever a user is likely to type or to complete with Tab means the run."""
        assert find_run_dir(given).resolve() == folder.path

    def test_accepts_a_home_directory(self, folder, monkeypatch):
        """A tilde that the shell left alone is expanded."""
        monkeypatch.setenv("HOME", str(folder.path.parent))
        assert find_run_dir("~/gpt") == folder.path

    def test_accepts_a_journal_without_an_identity(self, folder):
        """A run whose run.json is gone can still be looked at."""
        (folder.path / "run.json").unlink()
        assert find_run_dir("gpt").resolve() == folder.path

    @pytest.mark.usefixtures("folder")
    def test_names_what_it_looked_for_and_the_runs_nearby(self):
        """A typing error costs one look at the message."""
        with pytest.raises(RunNotFoundError) as caught:
            find_run_dir("gtp")
        assert caught.value.searched == [Path("gtp"), Path("runs/gtp")]
        assert [path.name for path in caught.value.nearby] == ["gpt"]
        assert "run.json" in str(caught.value)
        assert "runs/gpt" in str(caught.value)

    def test_lists_the_runs_in_a_folder_of_runs(self, folder):
        """Pointing one level too high shows what lies below."""
        with pytest.raises(RunNotFoundError, match="runs/gpt"):
            find_run_dir(str(folder.path.parent))

    def test_says_when_there_are_none(self, tmp_path, monkeypatch):
        """Without any run the message names the command that makes one."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(RunNotFoundError, match="hotloop demo"):
            find_run_dir("gpt")
