"""Values of any type that travels: one with all of its fields, one with as few as may be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import inspect

DEPTH_MAX = 6


def sample(kind: Any, is_full: bool) -> Any:
    """A value of the type."""
    return _value(inspect.type_info(kind), is_full, 0)


def _value(info: Any, is_full: bool, depth: int) -> Any:
    match info:
        case inspect.StructType():
            return _struct(info, is_full, depth)
        case inspect.UnionType():
            return _union(info, is_full, depth)
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType():
            items = [_value(info.item_type, is_full, depth + 1)] if is_full else []
            return {inspect.VarTupleType: tuple, inspect.SetType: set}.get(type(info), list)(items)
        case inspect.FrozenSetType():
            return frozenset([_value(info.item_type, is_full, depth + 1)] if is_full else [])
        case inspect.TupleType():
            return tuple(_value(one, is_full, depth + 1) for one in info.item_types)
        case inspect.DictType():
            if not is_full:
                return {}
            return {_value(info.key_type, True, depth): _value(info.value_type, True, depth + 1)}
        case inspect.EnumType():
            return next(iter(info.cls))
        case inspect.LiteralType():
            return info.values[0]
        case inspect.CustomType():
            raise TypeError(f"{info.cls} has no form in JSON")
    return _plain(info)


def _plain(info: Any) -> Any:
    match info:
        case inspect.StrType():
            return "tëxt"
        case inspect.IntType():
            return 7
        case inspect.FloatType():
            return 1.0
        case inspect.BoolType():
            return True
        case inspect.DateTimeType():
            return datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
        case inspect.RawType():
            return msgspec.Raw(b'{"a":1}')
        case inspect.AnyType():
            return {"a": [1, None]}
        case inspect.BytesType():
            return b"abc"
        case inspect.NoneType():
            return None
    raise TypeError(f"no sample of {info}")


def _struct(info: Any, is_full: bool, depth: int) -> Any:
    values = {
        field.name: _value(field.type, is_full and depth < DEPTH_MAX, depth + 1)
        for field in info.fields
        if field.required or (is_full and depth < DEPTH_MAX)
    }
    return info.cls(**values)


def _union(info: Any, is_full: bool, depth: int) -> Any:
    parts = [one for one in info.types if not isinstance(one, inspect.NoneType)]
    named = [one for one in parts if not _is_unset(one)]
    if not is_full and len(named) < len(info.types) and not any(map(_is_unset, parts)):
        return None
    return _value(named[0] if is_full else named[-1], is_full, depth)


def _is_unset(info: Any) -> bool:
    return isinstance(info, inspect.CustomType) and info.cls is msgspec.UnsetType
