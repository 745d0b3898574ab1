"""Results of workers as files: a dataclass of arrays in one uncompressed npz file."""

import dataclasses
import os
import pathlib
from typing import Any, TypeVar

import numpy as np

from iql_jax.generation.storage import no_room_as_user_error
from iql_jax.utils.console import logger
from iql_jax.utils.files import is_damage

Kind = TypeVar("Kind")


def write_part(path: pathlib.Path, part: Any) -> None:
    """Write a dataclass of arrays, such that the file is there in full or not at all.

    Raises:
        UserError: if the disk is full.
    """
    arrays = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    temporary = path.with_suffix(f".{os.getpid()}")
    with no_room_as_user_error(sum(array.nbytes for array in arrays.values())):
        try:
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_part(path: pathlib.Path, kind: type[Kind]) -> Kind:
    """Read what ``write_part`` wrote of a dataclass of this kind.

    Raises:
        Exception: of many kinds, if the file is damaged; the archive's checksums tell.
    """
    # A type variable cannot be bound to dataclasses, which have no common base.
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(kind)  # type: ignore[arg-type]
    # Opened here, for np.load leaves a damaged file open.
    with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return kind(**{field.name: archive[field.name] for field in fields})


def is_sound(path: pathlib.Path, kind: type[Any]) -> bool:
    """Whether a part is there and can be read; a damaged one is removed, and that is said.

    Raises:
        OSError: if the system does not let it be read.
    """
    if not path.exists():
        return False
    try:
        read_part(path, kind)
    except Exception as error:
        if not is_damage(error):
            raise
        reason = " ".join(str(error).split())
        logger.info(f"the part {path} is damaged ({reason}); making it again")
        path.unlink()
        return False
    return True
