"""Files of Keras 2 and 3: .keras, whole .h5 models, and weights alone (.weights.h5, .h5).

Recurrent layers come under their names with torch's parameters, so that they load as torch's do;
what their config says beside the weights is in Weights.said. A layer that the file describes as
computing something else is among those skipped, by name and with the reason. Arrays of other layers
come as Keras has them ("dense.kernel", or "dense.vars.0"), the optimizer's not at all.

    config.py   the model's config: what each recurrent layer says of itself
    stacks.py   which arrays are which layer's
    cells.py    from Keras's kernels to torch's parameters
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastrnn.errors import FormatError
from fastrnn.formats import arrays, hdf5, jsontext
from fastrnn.formats.archives.ziparchive import ZipArchive
from fastrnn.formats.hdf5 import MAGIC, Array, Tree
from fastrnn.formats.inventory import Contents, Stored, Weights
from fastrnn.formats.keras import config, stacks
from fastrnn.formats.keras.cells import Cell
from fastrnn.formats.keras.config import Layer
from fastrnn.formats.keras.stacks import Cells
from fastrnn.formats.said import Said
from fastrnn.formats.source import Budget, Source, shown

__all__ = ["MAGIC", "contents", "contents_of_archive", "is_archive", "said_by_caller"]

_UNSAID = (
    "is in a file of weights alone, which does not say how it computes: load the whole model, or "
    'say it, as keras_config={"activation": "tanh", "recurrent_activation": "sigmoid"} of load'
)
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_OF_TRAINING = ("optimizer/", "_optimizer/", "optimizer_weights/", "metrics/")


def is_archive(archive: ZipArchive) -> bool:
    """Whether a zip archive is a .keras file."""
    return {_CONFIG, _WEIGHTS} <= archive.records.keys()


def contents_of_archive(archive: ZipArchive) -> Contents:
    """What a .keras file holds; raises as `contents` does."""
    budget = archive.source.budget
    model = jsontext.parse(archive.read(_CONFIG), budget, f"its {_CONFIG}")
    tree = hdf5.read(archive.member(_WEIGHTS))
    # Keras 3 writes a layer's name in its group: where it is another, the config is of others.
    layers = {
        layer.group: layer
        for layer in config.layers(model)
        if tree.texts.get((f"{layer.group}/vars", "name"), layer.names[-1]) == layer.names[-1]
    }
    return _File("keras", tree, stacks.in_store(tree), layers, budget).contents()


def contents(source: Source) -> Contents:
    """What an .h5 file of Keras holds, or any HDF5 file of arrays.

    Raises
    ------
    FormatError
        It is damaged.
    """
    tree = hdf5.read(source)
    text = tree.texts.get(("", "model_config"))
    found = stacks.in_store(tree)
    if text is None and found:
        titles = stacks.titles(tree, found)
        return _File("keras weights", tree, found, {}, source.budget, titles).contents()
    tree = stacks.without_root(tree, "model_weights/")
    found = stacks.by_name(tree)
    if text is None:
        return _File(
            "keras weights" if found else "hdf5", tree, found, {}, source.budget
        ).contents()
    model = jsontext.parse(text.encode("utf-8", "replace"), source.budget, "its model_config")
    layers = _by_name(config.layers(model), found)
    return _File("keras h5", tree, found, layers, source.budget).contents()


def said_by_caller(said: Said | None, told: Mapping[str, Any], cell: str) -> Said:
    """What a file of weights alone says of a stack of this cell, with what its caller is `told`.

    Raises
    ------
    ValueError
        It is a file that says so itself, or the caller says too little, or another cell.
    """
    if said is None or not said.unsaid:
        raise ValueError("keras_config is given, and is for Keras's files of weights alone")
    layer = config.of_weights_alone(told, cell)
    if layer.refusal:
        raise ValueError(f"keras_config {layer.refusal}")
    options = {**layer.options, **said.options, "batch_first": layer.options["batch_first"]}
    if cell == "GRU" and "reset_after" not in options:
        raise ValueError("keras_config does not say reset_after, and no bias does")
    if options.get("reset_after") != layer.options.get("reset_after", options.get("reset_after")):
        raise ValueError("keras_config has another reset_after than the bias")
    return Said(options, tuple(layer.notes))


def _by_name(listed: list[Layer], found: dict[str, Cells]) -> dict[str, Layer]:
    """The layers by the names under which their cells were found.

    Of a nested layer the file may leave out the names between the first and the last.
    """
    layers: dict[str, Layer] = {}
    ends: dict[tuple[str, str], list[str]] = {}
    for key in found:
        names = key.split("/")
        ends.setdefault((names[0], names[-1]), []).append(key)
    for layer in listed:
        full = "/".join(layer.names)
        keys = [full] if full in found else ends.get((layer.names[0], layer.names[-1]), [full])
        if len(keys) > 1 or layers.setdefault(keys[0], layer) is not layer:
            raise FormatError(f"has several layers that could be {shown(full)}")
    return layers


@dataclass(frozen=True)
class _File:
    """What was found in a file: the cells of its recurrent layers, and what its config lists, both
    by the group (or names) of the layer.
    """

    format: str
    tree: Tree
    cells: dict[str, Cells]
    layers: dict[str, Layer]
    budget: Budget
    titles: dict[str, str] = field(default_factory=dict)

    def contents(self) -> Contents:
        found = Contents(self.format, Weights(self.budget))
        recurrent = {key for key, layer in self.layers.items() if layer.said}
        for key in dict.fromkeys([*self.layers, *self.cells]):
            if key in recurrent or key in self.cells:
                try:
                    self._add_layer(found, key)
                except FormatError as error:
                    found.add(f"{self._name(key)}.weight_ih_l0", str(error))
        of_cells = set[str]().union(*(cells.paths for cells in self.cells.values()))
        for path, stored in self.tree.arrays.items():
            if not (path.startswith(_OF_TRAINING) or path in of_cells):
                name = self._plain_name(path)
                found.add(name, self._plain(name, stored))
        return found

    def _name(self, key: str) -> str:
        layer = self.layers.get(key)
        return ".".join(layer.names) if layer else self.titles.get(key, key.replace("/", "."))

    def _add_layer(self, found: Contents, key: str) -> None:
        """Add the parameters of a recurrent layer; FormatError where it is refused."""
        layer = self.layers.get(key)
        told = layer.said if layer else None
        if layer and told is None:
            raise FormatError("is recurrent by its weights, and by the config is not")
        if told and told.refusal:
            raise FormatError(told.refusal)
        if key not in self.cells:
            raise FormatError("has no weights in the file")
        cells = stacks.checked(self.cells[key])
        first = next(iter(cells.values()))
        options: dict[str, Any] = dict(told.options) if told else {"batch_first": True}
        if told:
            _check_as_told(told, self.cells[key], first)
        if first.name == "GRU":
            by_shape = first.reset_after
            if options.setdefault("reset_after", by_shape) is None and told:
                raise FormatError("does not say its reset_after")
            if by_shape is not None and options["reset_after"] != by_shape:
                raise FormatError(
                    f"has reset_after={not by_shape}, and its bias is of the other kind"
                )
            if options["reset_after"] is None:
                del options["reset_after"]
        name = self._name(key)
        for suffix, cell in cells.items():
            for part, shape in cell.parameters.items():
                full, make = f"{name}.{part}{suffix}", partial(cell.parameter, part, self.budget)
                found.add(full, Stored(full, arrays.made_dtype(cell.kernel.dtype), shape, make))
        unsaid = "" if told or first.is_cudnns else _UNSAID
        found.weights.said[name] = Said(options, tuple(told.notes) if told else (), unsaid)

    def _plain_name(self, path: str) -> str:
        group = stacks.holder(path, self.layers)
        rest = path.removeprefix(group).strip("/").split("/")
        if group in rest[:-1]:  # a layer's group and its variables' names both begin with its name
            rest = rest[rest.index(group) + 1 :]
        rest[-1] = stacks.variable(rest[-1])
        return ".".join([self._name(group), *rest] if group else rest)

    def _plain(self, name: str, array: Array | str) -> Stored | str:
        if isinstance(array, str):
            return array
        make = partial(array.read, self.budget)
        return Stored(name, arrays.made_dtype(array.dtype), array.shape, make)


def _check_as_told(told: config.LayerConfig, cells: Cells, first: Cell) -> None:
    """FormatError unless the arrays are those of the layer that the config describes."""
    there = {
        "cell": first.name,
        "units": first.units,
        "bidirectional": cells.bidirectional,
        "layers": cells.layers,
    }
    for what, value in there.items():
        if getattr(told, what) != value:
            raise FormatError(
                f"has {what} {shown(getattr(told, what))} by its config, and {shown(value)} by its "
                "weights"
            )
