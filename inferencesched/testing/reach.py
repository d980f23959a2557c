"""How much memory an object leads to."""

from __future__ import annotations

import gc
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType

import numpy as np

__all__ = ["reach"]


def reach(root: object) -> int:
    """Return the bytes of everything that an object leads to, code aside."""
    seen: set[int] = set()
    todo, size = [root], 0
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, type | ModuleType | FunctionType | BuiltinFunctionType):
            continue
        seen.add(id(each))
        size += each.nbytes if isinstance(each, np.ndarray) else sys.getsizeof(each)
        todo.extend(gc.get_referents(each))
    return size
