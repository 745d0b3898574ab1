"""Takes the files outside docs/ that the pages link to into the site, for mkdocs.yml."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

OUTSIDE = ("benchmarks/results/**/*", "CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add each file below the folder that it has in the repository."""
    root = Path(config.config_file_path).parent
    for path in sorted(path for pattern in OUTSIDE for path in root.glob(pattern)):
        if path.suffix in {".md", ".png", ".gif", ".csv", ".json"}:
            name = path.relative_to(root).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turn links out of docs/, which work in the repository, into links within the site."""
    return re.sub(r"\]\((?:\.\./|docs/)(?=[\w/.\-]+\.\w+)", "](", markdown)
