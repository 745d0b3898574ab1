"""HDF5 files that a stranger may have written: what they name outside of themselves is not read."""

import os
import pathlib

import h5py

from iql_jax.utils.errors import UserError


def check_place(stored: h5py.h5d.DatasetID, file: bytes, allowed: pathlib.Path) -> bool:
    """Refuses numbers that are not in ``file``, nor in an HDF5 file in the ``allowed`` folder.

    Returns whether they lie in ``file``. Links lead to other HDF5 files; external storage leads to
    any file, whose bytes become numbers.
    """
    place = h5py.h5f.get_name(stored)
    try:
        stored.get_chunk_info(0)  # Which is always in the file, and faster to ask for.
        if place == file:
            return True
    except (RuntimeError, ValueError):
        pass
    plist = stored.get_create_plist()
    is_elsewhere = plist.get_external_count() or plist.get_layout() == h5py.h5d.VIRTUAL
    if is_elsewhere or not pathlib.Path(os.fsdecode(place)).resolve().is_relative_to(allowed):
        name = os.fsdecode(h5py.h5i.get_name(stored))
        raise UserError(
            f"{name!r} lies in another file, outside of {allowed}: only copied there it is read"
        )
    return place == file
