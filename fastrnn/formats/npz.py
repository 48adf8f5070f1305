"""The .npz archives of numpy.savez and numpy.savez_compressed, whose records are .npy arrays."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from fastrnn.formats import arrays, npy
from fastrnn.formats.archives.ziparchive import ZipArchive
from fastrnn.formats.inventory import Contents, Stored, Weights, naming


def is_npz(archive: ZipArchive) -> bool:
    """Whether the archive has records, and all of them are .npy arrays."""
    return bool(archive.records) and all(name.endswith(".npy") for name in archive.records)


def contents(archive: ZipArchive) -> Contents:
    """Every array of numbers in the archive; FormatError where it is damaged.

    Arrays of objects, text or structures are skipped.
    """
    found = Contents("npz", Weights(archive.source.budget))
    for record in archive.records:
        name = record.removesuffix(".npy")
        with naming(name):
            stored = _stored(archive, name, record)
        found.add(name, stored)
    return found


def write(file: BinaryIO, weights: dict[str, np.ndarray]) -> None:
    """Write `weights` as numpy.savez does, with the same bytes for the same weights."""
    import zipfile  # slow to import, and needed for nothing else

    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in weights.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(entry, "w", force_zip64=True) as record:
                np.lib.format.write_array(record, array, allow_pickle=False)


def _stored(archive: ZipArchive, name: str, record: str) -> Stored | str:
    found = npy.described(archive.start_of(record, npy.LONGEST))
    if found is None:
        return "is not an array of numbers"
    byte_order, view, start = found

    def make() -> np.ndarray:
        data = npy.Behind(archive.blob(record), start)
        return arrays.build(view, data, archive.source.budget, byte_order=byte_order)

    return Stored(name, arrays.made_dtype(view.dtype), view.shape, make)
