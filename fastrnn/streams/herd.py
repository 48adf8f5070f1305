"""`Herd`: what pools do with one stream or with many: open, close, clone, save, load, evict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from fastrnn.streams.turns import in_turn

Ids = Sequence[int] | npt.NDArray[np.integer[Any]]


class Herd(ABC):
    """Streams known by ids. Where one id goes, a list or array of them does, and gives a list."""

    @abstractmethod
    def __contains__(self, id: int) -> bool:
        """Whether `id` is an open stream."""

    @abstractmethod
    def _open_one(self) -> int: ...

    @abstractmethod
    def _close_one(self, id: int) -> None: ...

    @abstractmethod
    def _clone_one(self, id: int) -> int: ...

    @abstractmethod
    def _save_one(self, id: int) -> bytes: ...

    @abstractmethod
    def _load_one(self, data: bytes) -> int: ...

    @abstractmethod
    def _evict(self, idle_seconds: float) -> list[int]: ...

    @overload
    def open(self) -> int: ...
    @overload
    def open(self, n: int) -> list[int]: ...
    def open(self, n: int | None = None) -> Any:
        """Open a stream where streams begin, and return its id, an int >= 0; or n, all or none.

        Raises
        ------
        PoolFullError
            If there is no room and the pool may not grow.
        ValueError
            If n is no integer >= 0.
        """
        if n is None:
            return self._open_one()
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
            raise ValueError(f"{self._name}: n={n!r}, expected an integer >= 0")
        return self._all(self._open_one for _ in range(n))

    def close(self, id: int | Ids, *, wait: bool = False) -> None:
        """Close a stream, or several; an id will never again be a stream. Waits as `step`.

        Raises
        ------
        LookupError
            If one is no open stream, or there twice; then none is closed.
        TypeError
            If one is no integer.
        BusyError
            If another thread is using one; those before it are closed.
        """
        if not _is_many(id):
            in_turn(wait, self._close_one, id)
            return
        ids, seen = _listed(id), set()
        for one in ids:
            if one in seen or one not in self:
                raise LookupError(
                    f"{self._name}: "
                    + (f"stream {one} is there twice" if one in seen else f"no stream {one}")
                )
            seen.add(one)
        for one in ids:
            in_turn(wait, self._close_one, one)

    @overload
    def clone(self, id: int, *, wait: bool = False) -> int: ...
    @overload
    def clone(self, id: Ids, *, wait: bool = False) -> list[int]: ...
    def clone(self, id: Any, *, wait: bool = False) -> Any:
        """Open a stream in the state of another, and return its id: a beam, a second hypothesis.

        Of ids as many, all or none; one may be there several times. Waits and raises as `step`,
        and as `open`.
        """
        if not _is_many(id):
            return in_turn(wait, self._clone_one, id)
        return self._all(partial(in_turn, wait, self._clone_one, one) for one in _listed(id))

    @overload
    def save(self, id: int, *, wait: bool = False) -> bytes: ...
    @overload
    def save(self, id: Ids, *, wait: bool = False) -> list[bytes]: ...
    def save(self, id: Any, *, wait: bool = False) -> Any:
        """Return the state of stream `id` as bytes that `load` takes, here or on another machine.

        They carry the fingerprint of the model (`layer.fingerprint`) and a checksum, and stay
        loadable in later versions. Of ids a list. Waits and raises as `step`.
        """
        if not _is_many(id):
            return in_turn(wait, self._save_one, id)
        return [in_turn(wait, self._save_one, one) for one in _listed(id)]

    @overload
    def load(self, data: bytes) -> int: ...
    @overload
    def load(self, data: list[bytes] | tuple[bytes, ...]) -> list[int]: ...
    def load(self, data: Any) -> Any:
        """Open a stream in the state that `save` returned, and return its id; of several ids.

        Raises
        ------
        StateError
            If `data` is damaged, or of another model.
        TypeError
            If it is not bytes.
        PoolFullError
            As `open`.
        """
        if not isinstance(data, (list, tuple)):
            return self._load_one(data)
        return self._all(partial(self._load_one, one) for one in data)

    def evict(self, idle_seconds: float) -> list[int]:
        """Close the streams that no call has used for so long, and return their ids.

        A call is any that names them; times are exact to some 10 ms. Those in use stay.

        Raises
        ------
        ValueError
            If idle_seconds is no number >= 0.
        """
        if not 0 <= idle_seconds < 1e9:
            raise ValueError(f"{self._name}: idle_seconds={idle_seconds!r}, expected 0 to 1e9")
        return self._evict(float(idle_seconds))

    _name: str

    def _all(self, openings: Iterable[Callable[[], int]]) -> list[int]:
        """Do each, which opens a stream; if one raises, close those that were opened."""
        made: list[int] = []
        try:
            made.extend(opening() for opening in openings)
        except BaseException:
            for id in made:
                self._close_one(id)
            raise
        return made


def _is_many(id: Any) -> bool:
    return isinstance(id, (list, tuple)) or (isinstance(id, np.ndarray) and id.ndim == 1)


def _listed(ids: Any) -> list[Any]:
    return ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
