"""`hotloop report`; what is in a report is tested with `runtime.report`."""

import pytest

from bus import MetricsLogged


@pytest.fixture
def written(folder):
    """A run with one point."""
    folder.attempt(1, outcome="finished")
    folder.write(MetricsLogged(step=1, metrics={"loss": 1.0}))
    return folder


class TestReport:
    def test_writes_into_the_run_and_prints_where(self, written, invoke):
        """The path printed can be pasted into a browser from any folder."""
        result = invoke("report", "gpt")
        assert (result.exit_code, result.stdout) == (0, f"{written.path / 'report.html'}\n")
        assert (written.path / "report.html").read_text().startswith("<!")

    @pytest.mark.usefixtures("written")
    def test_writes_where_it_is_told(self, invoke, tmp_path):
        """Relative to the current folder, as any command."""
        result = invoke("report", "gpt", "--out", "gpt.html")
        assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'gpt.html'}\n")
        assert (tmp_path / "gpt.html").exists()

    @pytest.mark.usefixtures("written")
    def test_says_why_it_cannot_write(self, invoke):
        """The message names the file and the reason."""
        result = invoke("report", "gpt", "--out", "no/where.html")
        assert result.exit_code == 2
        assert "no/where.html: No such file or directory" in result.stderr

    @pytest.mark.usefixtures("written")
    @pytest.mark.parametrize(("browser", "code"), [("true", 0), ("false", 1)])
    def test_opens_it(self, start, tmp_path, browser, code):
        """`--open` hands the file to the desktop, and says so when there is none."""
        opener = tmp_path / "browser"
        opener.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/opened\n{browser}\n')
        opener.chmod(0o755)
        path = tmp_path / "runs" / "gpt" / "report.html"
        process = start(["report", "gpt", "--open"], BROWSER=str(opener))
        assert process.wait(15) == code
        assert (tmp_path / "opened").read_text().strip() == path.as_uri()
