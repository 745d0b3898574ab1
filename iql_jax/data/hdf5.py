"""HDF5 files that a stranger may have written: what they name outside of themselves is not read."""

import os
import pathlib

import h5py

from iql_jax.utils.errors import UserError


def check_place(stored: h5py.h5d.DatasetID, allowed: pathlib.Path) -> None:
    """Refuses numbers that lie in another file, but for HDF5 files in the ``allowed`` folder.

    Links lead to other HDF5 files; external storage leads to any file, whose bytes become numbers.
    """
    plist = stored.get_create_plist()
    place = pathlib.Path(os.fsdecode(h5py.h5f.get_name(stored))).resolve()
    is_elsewhere = plist.get_external_count() or plist.get_layout() == h5py.h5d.VIRTUAL
    if is_elsewhere or not place.is_relative_to(allowed):
        name = os.fsdecode(h5py.h5i.get_name(stored))
        raise UserError(
            f"{name!r} lies in another file, outside of {allowed}: only copied there it is read"
        )
