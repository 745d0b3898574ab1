"""What a dataset asks to be installed, against what is."""

import importlib.metadata
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement


def unmet_requirements(metadata: dict[str, Any]) -> list[str]:
    """One line for each of a dataset's requirements that the installed packages do not meet."""
    lines = (_unmet(str(item)) for item in metadata.get("requirements") or ())
    return [line for line in lines if line is not None]


def installed_version(name: str) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unmet(item: str) -> str | None:
    try:
        requirement = Requirement(item)
    except InvalidRequirement:
        return f"the requirement {item!r} cannot be read"
    version = installed_version(requirement.name)
    if version is None:
        return f"{item} is asked for, {requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{item} is asked for, {version} is installed: results may differ"
    return None
