"""Read a printed Python value without running it: numbers, strings, True/False/None, tuples and plain arithmetic."""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable
from typing import Any

_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
MAX_LENGTH = 300  # ours: a longer printed value is text


def parsed_expression(written: str) -> ast.Expression:
    """The syntax tree of an expression, without the warnings that Python has for odd text such as `1or 2`.

    Raises:
        SyntaxError: it is none, and what else `ast.parse` raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        return ast.parse(written, mode="eval")


def literal_value(written: str) -> Any:
    """`5 * 8` -> 40, `'gpt2'` -> "gpt2", `1e-1 # comment` -> 0.1.

    Raises:
        ValueError: it is neither a literal nor arithmetic of numbers.
    """
    if len(written) > MAX_LENGTH:
        raise ValueError("too long for a value")
    try:
        return _value(parsed_expression(written).body)
    except (SyntaxError, RecursionError, MemoryError, ZeroDivisionError, OverflowError, TypeError) as error:
        raise ValueError(f"not a literal: {written}") from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
        return node.value
    if isinstance(node, ast.Tuple | ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _number(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_number(node.left), _number(node.right))
    raise ValueError(f"{type(node).__name__} is not a literal")


def _number(node: ast.expr) -> int | float:
    value = _value(node)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("arithmetic of something other than numbers")
    return value
