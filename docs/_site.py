"""Lets pages link to files of the repository outside docs/: each becomes a page of the site.

A hook of mkdocs. On a forge, and in an editor, the same links lead to the files themselves.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)((?:#[^)\s]*)?)\)")
LANGUAGES = {".py": "python", ".sh": "sh", ".toml": "toml", ".yml": "yaml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file that a page links to, and for those that these link to."""
    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        for target in sorted(_outside(_folder(page.src_uri), page.content_string)):
            uri = _uri(target)
            if files.get_file_from_path(uri) is None:
                made = File.generated(config, uri, content=_shown(target))
                files.append(made)
                waiting.append(made)
    return files


def on_page_markdown(markdown: str, *, page: Page, **_more: object) -> str:
    """Lead those links to the pages made for them."""
    here = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        target = _target(_folder(here), link[1])
        if target is None:
            return link[0]
        uri = posixpath.relpath(_uri(target), posixpath.dirname(here) or ".")
        return f"]({uri}{link[2]})"

    return LINK.sub(moved, markdown)


def _folder(uri: str) -> str:
    """Where a page's links start, as a path of the repository."""
    inside = uri.removeprefix("repository/")
    return posixpath.dirname(inside if inside != uri else f"docs/{uri}")


def _outside(folder: str, text: str) -> set[str]:
    return {target for link in LINK.finditer(text) if (target := _target(folder, link[1]))}


def _target(folder: str, link: str) -> str | None:
    """The file of the repository that a link leads to, unless that is below docs/ or nowhere."""
    path = posixpath.normpath(posixpath.join(folder, link))
    if path.startswith(("docs/", "../")) or not (ROOT / path).is_file():
        return None
    return path


def _uri(target: str) -> str:
    return f"repository/{target if target.endswith('.md') else target + '.md'}"


def _shown(target: str) -> str:
    """A page of Markdown as it is, anything else as a block of code below its name."""
    text = (ROOT / target).read_text(encoding="utf-8")
    if target.endswith(".md"):
        return text
    language = LANGUAGES.get(Path(target).suffix, "text")
    return f"# {target}\n\n````{language}\n{text}\n````\n"
