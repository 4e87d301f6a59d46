"""Records to Arrow and back, driven by the dataclasses' own type hints.

A field of type `Json` is a canonical JSON string column; tuples are lists; nested records are structs.
One source of truth: change a record and its schema follows.
"""

import functools
import json
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import pyarrow as pa

from pixelis_pipeline.records import Json, canonical

R = TypeVar("R")
Convert = Callable[[Any], Any]
_PRIMITIVES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def arrow_type(hint: Any) -> pa.DataType:
    """The Arrow type of a record field's hint. TypeError for a hint that records do not use."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PRIMITIVES:
        return _PRIMITIVES[hint]
    if hint == Json:
        return pa.string()
    if is_dataclass(hint):
        return pa.struct(list(schema(hint)))
    if origin is typing.Literal:
        return pa.string()
    if origin is tuple:
        return pa.list_(arrow_type(arguments[0]))
    if origin in (types.UnionType, typing.Union):
        (inner,) = [a for a in arguments if a is not type(None)]
        return arrow_type(inner)
    raise TypeError(f"no Arrow type for {hint!r}")


@functools.cache
def _hints(record: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(record)
    return {f.name: hints[f.name] for f in fields(record)}


def schema(record: Any) -> pa.Schema:
    """The Arrow schema of a record class."""
    return _schema(record)


@functools.cache
def _schema(record: type) -> pa.Schema:
    return pa.schema([pa.field(name, arrow_type(hint)) for name, hint in _hints(record).items()])


@functools.cache
def _down(hint: Any) -> Convert:
    """How a value of a hint is written. Found once a hint: a row has dozens of values, a plan many rows."""
    if hint == Json:
        return lambda value: None if value is None else canonical(value).decode()
    if is_dataclass(hint):
        return lambda value: None if value is None else to_row(value)
    if typing.get_origin(hint) is tuple:
        inner = _down(typing.get_args(hint)[0])
        return lambda value: None if value is None else list(map(inner, value))
    return lambda value: value


@functools.cache
def _up(hint: Any) -> Convert:
    """How a value of a hint is read."""
    if hint == Json:
        return lambda value: None if value is None else json.loads(value)
    if is_dataclass(hint):
        return lambda value: None if value is None else from_row(typing.cast(type, hint), value)
    if typing.get_origin(hint) is tuple:
        inner = _up(typing.get_args(hint)[0])
        return lambda value: None if value is None else tuple(map(inner, value))
    return lambda value: value


@functools.cache
def _columns(record: Any) -> tuple[tuple[str, Convert, Convert], ...]:
    """(name, how it is written, how it is read) of each field of a record class."""
    return tuple((name, _down(hint), _up(hint)) for name, hint in _hints(record).items())


def to_row(record: Any) -> dict[str, Any]:
    """One record as a row of plain values that matches `schema(type(record))`."""
    return {name: down(getattr(record, name)) for name, down, _ in _columns(typing.cast(Any, type(record)))}


def from_row(record: type[R], row: dict[str, Any]) -> R:
    """The record that `to_row` made this row from."""
    return record(**{name: up(row[name]) for name, _, up in _columns(typing.cast(Any, record))})


def to_table(record: type, records: Iterable[Any]) -> pa.Table:
    """Records as one Arrow table, in the order given."""
    return pa.Table.from_pylist([to_row(r) for r in records], schema=schema(record))


def from_table(record: type[R], table: pa.Table) -> list[R]:
    """The records of a table that `to_table` made."""
    return [from_row(record, row) for row in table.to_pylist()]
