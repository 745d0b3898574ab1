"""The README and docs/ say what exists: links, files, commands, keys, names."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

import iql_jax.algorithm
from iql_jax.training.config import Config, FinetuneConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def text_of(page):
    return page.read_text(encoding="utf-8")


def blocks_of(page, language=None):
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL)
    return [block for of, block in blocks if language in (None, of)]


def commands_of(page):
    """Return the words of each command that starts Python, of blocks and of `code in a line`."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks_of(page) for line in block.splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [shlex.split(part, comments=True) for part in parts if part.startswith("python ")]


def anchors_of(page):
    """Return the anchors of a page's headings, as GitHub and mkdocs make them."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@each_page
def test_links_lead_somewhere(page):
    for link in re.findall(r"(?:\]\(|src=\")([^)\s\"]+)", text_of(page)):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


@each_page
def test_files_and_keys_that_are_named_exist(page):
    named = r"`((?:iql_jax|configs|benchmarks|scripts|tests|docs)/[\w/.\-]+)`"
    for name in re.findall(named, text_of(page)):
        assert (ROOT / name).exists(), name
    known = {field.name for field in dataclasses.fields(FinetuneConfig)}
    assert set(re.findall(r"--config\.(\w+)", text_of(page))) <= known


@each_page
def test_commands_use_what_exists(page):
    for words in commands_of(page):
        module = words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]
        script = ROOT / module
        assert script.exists(), words
        source = text_of(script)
        for module in re.findall(r"^import (\w+)$", source, re.MULTILINE):  # Shared flags.
            helper = script.parent / f"{module}.py"
            source += text_of(helper) if helper.exists() else ""
        keys = {field.name for field in dataclasses.fields(Config)}
        for word in words[2:]:
            flag, _, value = word.partition("=")
            if flag.startswith("--config."):
                assert script.name == "train_finetune.py" or flag[9:] in keys, word
            elif flag in ("--config", "--sweep"):
                assert (ROOT / value).exists(), word
            elif flag.startswith("--"):
                assert re.search(rf'"(--)?{re.escape(flag[2:])}"', source), (word, script)
        if script.name == "datasets.py" and len(words) > 3:
            assert f'"{words[3]}"' in source, words


def test_the_readmes_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    tiny = {"1000": "20", "256": "4", "Config(": "Config(hidden_dims=(8,), ", "2000": "20"}
    tiny |= {"eval_interval": "hidden_dims=(8,), eval_interval"}
    for example in blocks_of(ROOT / "README.md", "python"):
        for size, smaller in tiny.items():
            example = example.replace(size, smaller)
        exec(example, names)
    assert int(names["state"].step) == 20
    assert capsys.readouterr().out.startswith("20 [")
    assert (tmp_path / "runs" / "mine" / "summary.json").exists()


@each_page
def test_imports_of_examples_work(page):
    for block in blocks_of(page, "python"):
        exec("\n".join(re.findall(r"^(?:import|from) .+$", block, re.MULTILINE)), {})


def test_the_readme_shows_the_packages_folders():
    (tree,) = [block for block in blocks_of(ROOT / "README.md") if "train_offline.py  " in block]
    rooms = [path.name for path in (ROOT / "iql_jax").iterdir() if (path / "__init__.py").exists()]
    rooms += [path.name for path in (ROOT / "iql_jax").glob("[!_]*.py")]
    assert [room for room in rooms if not re.search(rf"^  {room}/? ", tree, re.MULTILINE)] == []


def test_the_reference_lists_every_public_name():
    reference = text_of(ROOT / "docs" / "api.md")
    assert [name for name in iql_jax.algorithm.__all__ if f"`{name}`" not in reference] == []
