"""Small files as users have them, and damage to them, drawn from a generator."""

import contextlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
from minari.serialization import serialize_space

from iql_jax.envs.specs import registered_spec

Random = np.random.Generator

WEIRD: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**63, -(2**64), 10**400, 0.5, -0.0, 1e-320, 1e308),
    *(float("nan"), float("inf"), "", " ", "\0", "\ud800", "\x1b[31m\x9b", "é\u202e", "nan", "2"),
    *("a" * 100_000, "/etc/passwd", "../..", "os:system", "{", "[1]", [], {}, [[]], [None]),
    *({"": None}, [1, [2]], {"type": "Box"}, [float("nan")], [10**400], ["\ud800"], {"a": "b"}),
]  # fmt: skip
TYPES = ["f2", "f4", "f8", "g", "i1", "i8", "u8", "?", "c8", "S3", "V5", "c16", "O"]
BYTES = ("cut", "zero", "noise", "insert", "append", "gone", "folder", "loop")
NUMBERS = (np.nan, np.inf, -np.inf, 1e300, 1e30, 1e-320, 2, -1, 0.5)
CELLS = ("", "nan", "-1", "1e999", "1_0", "٣", '"', "1.5", "\ud83d", "\0", " 7", "9" * 5000)


def pick(rng: Random, options: Any) -> Any:
    """Draws one of some options."""
    return list(options)[rng.integers(len(options))]


def damage_bytes(rng: Random, path: Path) -> str:
    """Damages a file without a look at what it holds, or puts something else in its place."""
    content = bytearray(path.read_bytes())
    kind = pick(rng, [*["flip"] * 5, *BYTES])
    start = int(rng.integers(len(content) + 1))
    middle = content[start : start + int(2 ** rng.uniform(0, 12))]
    if kind in ("gone", "folder", "loop"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path.name)
        return f"{path.name} is {kind}"
    if kind == "flip":
        for place in rng.integers(len(content), size=rng.integers(1, 20)) if content else ():
            content[place] ^= 1 << int(rng.integers(8))
    else:
        new = {"cut": b"", "zero": bytes(len(middle))}.get(kind, rng.bytes(len(middle)))
        end = {"cut": len(content), "insert": start}.get(kind, start + len(middle))
        content[start:end] = new
    path.write_bytes(content)
    return f"{path.name}: {kind} at byte {start} of {len(content)}"


def damage_json(rng: Random, path: Path) -> str:
    """Damages a JSON file: its bytes, or a value at any depth, also of the JSON in a text."""
    kind = pick(rng, ("bytes", "whole", "deep", *["value"] * 7))
    if kind == "bytes":
        return damage_bytes(rng, path)
    content = json.loads(path.read_text())
    if kind == "value":
        kind = _damage_value(rng, content)
    elif kind == "whole":
        content = pick(rng, WEIRD)
    text = pick(rng, ("[", '{"a":')) * 200_000 if kind == "deep" else json.dumps(content)
    path.write_text(text)
    return f"{path.name}: {kind} {text[:20] if kind == 'whole' else ''}"


def _damage_value(rng: Random, content: Any) -> str:
    places, waiting = [], [content]
    for node in waiting:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            waiting += [node[key]] if isinstance(node[key], dict | list) else []
    if not places:
        return "nothing"
    node, key = pick(rng, places)
    value = node[key]
    if isinstance(value, str) and value.startswith("{") and rng.random() < 0.8:
        what = _damage_value(rng, inner := json.loads(value))
        node[key] = json.dumps(inner)
        return f"{key}/{what}"
    kind = pick(rng, ("replace", "replace", "replace", "gone", "rename", "wrap"))
    if kind in ("gone", "rename"):
        del node[key]
        if kind == "rename" and isinstance(node, dict):
            node[pick(rng, ("", "\0", f"{key}s", "\ud800"))] = value
    else:
        wrapped = ([value], {"a": value}, str(value), [value] * 3, json.loads("[" * 99 + "]" * 99))
        node[key] = value = pick(rng, WEIRD if kind == "replace" else wrapped)
    return f"{kind} {key!r} {str(value)[:30]!r}"


def damage_array(rng: Random, array: Any) -> tuple[str, Any]:
    """Returns a description and the array after damage to its type, shape, numbers or rows."""
    kind, rows = pick(rng, ("type", "shape", "number", "rows")), len(array)
    if kind == "type":
        name = pick(rng, TYPES)
        if name == "O":
            return name, np.array([str(x) for x in array.flat], h5py.string_dtype())
        return name, np.zeros(array.shape, name) if name in TYPES[10:] else array.astype(name)
    if kind == "number":
        array = np.array(array)
        number = np.array(pick(rng, NUMBERS)).astype(array.dtype)
        array.flat[rng.integers(array.size)] = number
        return f"number {number}", array
    if kind == "rows":
        return kind, array[np.sort(rng.integers(rows, size=rng.integers(1, 2 * rows)))]
    flat = array.reshape(rows, -1)
    shapes = [array[:0], flat[:, :0], array[:1], array[:-1], np.concatenate([array, array[:1]])]
    shapes += [array.reshape(-1), array[None], array[..., None], array.flat[0], array.T]
    changed = pick(rng, [*shapes, np.repeat(flat, 2, axis=1)])
    return f"shape {np.shape(changed)}", changed


def damage_hdf5(rng: Random, path: Path, outside: Path) -> str:
    """Damages an HDF5 file: its bytes, an array, a group or a link to a file ``outside``."""
    if rng.random() < 0.35:
        return damage_bytes(rng, path)
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = pick(rng, names)
        array: Any = file[name][()] if isinstance(file[name], h5py.Dataset) else None
        others = [other for other in names if not other.startswith(name)]
        kinds = ["link", "nowhere", "loop", "outside", "beside", "group", "gone"]
        kind = pick(rng, kinds if array is None else [*kinds, "huge", "external", *["array"] * 8])
        if kind == "array":
            kind, array = damage_array(rng, array)
        links = {"link": f"/{pick(rng, others)}" if others else "/", "nowhere": "/x", "loop": name}
        del file[name]
        if kind in links:
            file[name] = h5py.SoftLink(links[kind])
        elif kind in ("outside", "beside"):
            folder = outside if kind == "outside" else path.parent
            with h5py.File(folder / "beside.h5", "w") as target:
                target["x"] = np.zeros(3) if array is None else array * (kind == "beside")
            file[name] = h5py.ExternalLink(str(folder / "beside.h5"), "x")
        elif kind == "group":
            file.create_group(name)
        elif kind == "huge":
            file.create_dataset(name, (10**10, *array.shape[1:]), array.dtype, chunks=True)
        elif kind == "external":
            (outside / "bytes").write_bytes(bytes(array.nbytes))
            place = [(str(outside / "bytes"), 0, array.nbytes)]
            file.create_dataset(name, array.shape, array.dtype, external=place)
        elif kind != "gone":
            file[name] = array
    return f"{kind}: {name}"


def damage_npz(rng: Random, path: Path) -> str:
    """Damages an .npz file: its bytes, an array, a member."""
    if rng.random() < 0.3:
        return damage_bytes(rng, path)
    arrays = dict(np.load(path))
    members = {f"{name}.npy": _npy(array) for name, array in arrays.items()}
    name = pick(rng, members)
    content, array = members.pop(name), arrays[name[:-4]]
    kind = pick(rng, ("gone", "empty", "cut", "header", "rename", *["array"] * 6))
    if kind == "array":
        kind, array = damage_array(rng, array)
        members[name] = _npy(array)
    elif kind == "header":  # More rows than follow.
        rows = pick(rng, (10**12, 10**5, 10**400))
        members[name] = content.replace(f"({len(array)},".encode(), f"({rows},".encode())
    elif kind in ("empty", "cut"):
        members[name] = content[: 0 if kind == "empty" else rng.integers(len(content))]
    elif kind == "rename":
        members[pick(rng, ("\x1b[1m", "x", name[:-4]))] = content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member, content in members.items():
            file.writestr(member, content)
    return f"{kind}: {name}"


def _npy(array: Any) -> bytes:
    np.save(buffer := io.BytesIO(), array, allow_pickle=True)
    return buffer.getvalue()


def damage_csv(rng: Random, path: Path) -> str:
    """Damages a table: its bytes, a cell, a row, a column, its line ends."""
    kind = pick(rng, ("bytes", "cell", "cell", "row", "column", "header", "ends"))
    if kind == "bytes":
        return damage_bytes(rng, path)
    rows = [line.split(",") for line in path.read_text().splitlines()]
    row = rows[int(rng.integers(1, len(rows)))]
    if kind == "cell":
        row[rng.integers(len(row))] = pick(rng, CELLS)
    elif kind == "row":
        rows.insert(int(rng.integers(1, len(rows))), pick(rng, ([], [*row], rows[0], ["x"])))
    elif kind == "column":
        row[:] = pick(rng, (row[1:], row[:-1], [*row, "1"], [*row, ""]))
    elif kind == "header":
        rows[0][rng.integers(len(rows[0]))] = pick(rng, ("", "x", "update", "\udcff", "\0"))
    end = pick(rng, ("\r\n", "\r", "\n\n", "\0")) if kind == "ends" else "\n"
    text = end.join([*map(",".join, rows), ""])
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return f"{path.name}: {kind}, {','.join(row)[:60]!r}"


def damage_tree(rng: Random, folder: Path) -> str:
    """Damages a folder: a file of it, or a file or folder goes, comes, or has another name."""
    # Checkpoints' files have other names each time, but the same sizes.
    sizes = {path: (path.parent, path.stat().st_size, path) for path in folder.rglob("*")}
    entry = pick(rng, sorted(sizes, key=sizes.__getitem__))
    if entry.is_file() and rng.random() < 0.8:
        return damage_bytes(rng, entry)
    kind = pick(rng, ("gone", "rename", "copy"))
    beside = entry.with_name(pick(rng, ("7", "99999", "007", "x", ".hidden", "4.tmp", "-3")))
    if kind == "gone":
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    elif not beside.exists():
        change = shutil.copytree if entry.is_dir() else shutil.copyfile
        (entry.rename if kind == "rename" else lambda to: change(entry, to))(beside)
    return f"{entry.relative_to(folder)}: {kind} ({beside.name})"


# The files.


def write_minari(folder: Path, env_id: str, rng: Random) -> None:
    """Writes a Minari dataset of four episodes."""
    (folder / "data").mkdir(parents=True)
    spec = registered_spec(env_id)
    actions = spec.make().action_space
    actions.seed(0)
    arrays: dict[str, Any] = {}
    lengths = (3, 1, 50, 7)
    for e, n in enumerate(lengths):
        arrays[f"episode_{e}/actions"] = np.array([actions.sample() for _ in range(n)])
        arrays[f"episode_{e}/observations"] = rng.normal(size=(n + 1, 4))
        arrays[f"episode_{e}/rewards"] = rng.normal(size=n)
        arrays[f"episode_{e}/terminations"] = np.arange(n) == n - 1
        arrays[f"episode_{e}/truncations"] = np.zeros(n, bool)
    write_hdf5(folder / "data" / "main_data.hdf5", arrays)
    metadata = {
        "dataset_id": "/".join(folder.parts[-2:]), "total_episodes": 4, "data_format": "hdf5",
        "total_steps": sum(lengths), "action_space": serialize_space(actions),
        "observation_space": serialize_space(gym.spaces.Box(-np.inf, np.inf, (4,), np.float64)),
        "env_spec": spec.to_json(), "requirements": ["mujoco>2"],
        "ref_min_score": 0.0, "ref_max_score": 100.0,
    }  # fmt: skip
    (folder / "data" / "metadata.json").write_text(json.dumps(metadata))


def write_files(d4rl_file: Path, ogbench_file: Path, rng: Random) -> None:
    """Writes a file of D4RL's format and one of OGBench's."""
    ogbench: dict[str, Any] = {
        "observations": rng.normal(0.0, 0.2, (84, 29)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (84, 8)).astype(np.float32),
        "terminals": np.arange(84) % 21 == 20,
    }
    np.savez_compressed(ogbench_file, **ogbench)
    d4rl = {"observations": ogbench["observations"][:, :11], "actions": ogbench["actions"][:, :3]}
    d4rl |= {"rewards": rng.normal(size=84), "terminals": ogbench["terminals"]}
    d4rl |= {"timeouts": np.arange(84) % 10 == 9}
    d4rl |= {"next_observations": np.roll(d4rl["observations"], -1, axis=0)}
    write_hdf5(d4rl_file, d4rl)


def write_hdf5(path: Path, arrays: dict[str, Any]) -> None:
    """Writes arrays by their names."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def make_plain(file: Path) -> None:
    """Replaces a file by one of plain arrays, as h5py or NumPy read them."""
    arrays: dict[str, Any] = {}
    if file.suffix == ".npz":
        np.savez(file, **dict(np.load(file)))
        return

    def keep(group: h5py.Group, name: str) -> None:
        for key in group:
            with contextlib.suppress(KeyError, OSError, ValueError):  # Nothing reads them.
                if isinstance(group[key], h5py.Group):
                    keep(group[key], f"{name}{key}/")
                else:
                    arrays[name + key] = group[key][()]

    with h5py.File(file) as damaged:
        keep(damaged, "")
    write_hdf5(file, arrays)
