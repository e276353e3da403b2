"""The user's own source files behind a class, function or object, found without importing anything.

A file belongs to the user unless it is part of Python, of hpo, or of an installed package. ``modulefinder`` of the
standard library is not used: it does not know packages without ``__init__.py``, and stops at the first syntax error.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_HPO = Path(__file__).resolve().parent.parent
_STANDARD = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")})
_INSTALLED = {"site-packages", "dist-packages"}


@dataclass
class SourceCode:
    """The source code behind some objects.

    Args:
        digests: digest of every file of the user's own, by module name.
        libraries: import names of the installed packages that define the objects, or that these files import.
    """

    digests: dict[str, str] = field(default_factory=dict)
    libraries: set[str] = field(default_factory=set)


def read_source_code(objects: Iterable[Any]) -> SourceCode:
    """The files of the user's own that define ``objects``, and those that these import, directly or not.

    Imports by a computed name (``importlib.import_module``) are not seen.

    Args:
        objects: classes, functions, modules, partials of these, or instances, which stand for their class.
    """
    code = SourceCode()
    waiting = [file for each in objects for file in _files_of(each, code.libraries)]
    while waiting:
        module = waiting.pop()
        if module.name not in code.digests:
            content = module.path.read_bytes()
            code.digests[module.name] = hashlib.blake2b(content, digest_size=16).hexdigest()
            for name in module.imported_names(content):
                found = _search(name, code.libraries)
                waiting.extend(found)
    code.digests = dict(sorted(code.digests.items()))
    return code


@dataclass(frozen=True)
class _Module:
    name: str
    path: Path

    def imported_names(self, content: bytes) -> Iterator[str]:
        """Absolute names of all modules that it may import; a name from a module may be a module itself."""
        if self.path.suffix != ".py":
            return
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError):  # Python says so when it is imported
            return
        package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                try:
                    module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                except ImportError:
                    continue
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names if alias.name != "*")


def _files_of(found: Any, libraries: set[str]) -> Iterator[_Module]:
    """The user's own modules that define an object; installed packages that define it are added to ``libraries``."""
    if isinstance(found, functools.partial):
        for part in (found.func, *found.args, *found.keywords.values()):
            yield from _files_of(part, libraries)
        return
    if inspect.ismethod(found):
        yield from _files_of(found.__self__, libraries)
    if isinstance(found, ModuleType):
        names = [found.__name__]
    elif inspect.isroutine(found):
        names = [each.__module__ for each in (found, inspect.unwrap(found)) if each.__module__]
    else:
        names = [base.__module__ for base in (found if isinstance(found, type) else type(found)).__mro__]
    for name in dict.fromkeys(names):
        path = getattr(sys.modules.get(name), "__file__", None)
        if path is not None and is_own_file(Path(path)):
            yield _Module(name, Path(path))
        elif path is not None and _is_library(top := name.partition(".")[0]):
            libraries.add(top)


def _search(name: str, libraries: set[str]) -> Iterator[_Module]:
    """The user's own modules that importing ``name`` runs: its packages and itself; a library is added to the set."""
    top, *rest = name.split(".")
    if not top or top in sys.stdlib_module_names:
        return
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # a module without a spec, such as __main__
        return
    if spec is None or spec.origin in ("built-in", "frozen"):
        return
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not is_own_file(Path(spec.origin) if spec.origin else (folders or [_HPO])[0]):
        if _is_library(top):
            libraries.add(top)
        return
    yield from _of(spec)
    for place in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            return
        spec = PathFinder.find_spec(".".join([top, *rest[: place + 1]]), spec.submodule_search_locations)
        yield from _of(spec)


def _is_library(top: str) -> bool:
    """Whether a top-level module that is not the user's own has a version besides those of Python and hpo."""
    return top != "hpo" and top not in sys.stdlib_module_names


def _of(spec: ModuleSpec | None) -> Iterator[_Module]:
    if spec is not None and spec.origin and Path(spec.origin).is_file():
        yield _Module(spec.name, Path(spec.origin))


def is_own_file(path: Path) -> bool:
    """Whether a file is the user's own: not part of Python, of hpo, or of an installed package."""
    resolved = path.resolve()
    if _INSTALLED & set(resolved.parts) or _INSTALLED & set(path.parts):
        return False
    return not any(resolved.is_relative_to(folder) for folder in (_HPO, *_STANDARD))
