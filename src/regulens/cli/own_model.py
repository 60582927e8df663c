"""`regulens models check`: which adapter does ``MODULE:OBJECT``, ``FILE.py:OBJECT`` or ``family:FOLDER`` mean?"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regulens.errors import ModelError, ParameterError, nearest

if TYPE_CHECKING:
    from regulens.models.base import AbstractAdapter


def build_adapter(target: str, folder: Path | None = None) -> AbstractAdapter:
    """Adapter that `target` names.

    Parameters
    ----------
    target
        ``MODULE:OBJECT`` (looked for in the working folder, too) or ``FILE.py:OBJECT``, where OBJECT is an adapter, a
        class or function that makes one when called without arguments, or a `Family`; else what
        `regulens.models.load` takes.
    folder
        Where a family loads from.

    Raises
    ------
    ModelError
        When there is no such module or object, it fails, or what it makes is no adapter.
    ParameterError
        For a family without a folder.
    """
    from regulens.models import FAMILIES, AbstractAdapter, load
    from regulens.models.loading import Family

    head, colon, name = target.rpartition(":")
    known = target.partition(":")[0]
    if not colon or known == "bundled" or (known in FAMILIES and not head.endswith(".py")):
        return _adapter(load(target), target)
    found = _object(_module(head), name, where=target)
    try:
        if isinstance(found, Family):
            if folder is None:
                message = f"Expected a folder to load {target} from, got none. Add --folder."
                raise ParameterError(message)
            found = found.load(folder, name=folder.name, spec=f"{found.name}:{folder}")
        elif inspect.isclass(found) or not isinstance(found, AbstractAdapter):
            found = found()
    except (ModelError, ParameterError):
        raise
    except Exception as error:
        message = f"Expected {target} to make an adapter without arguments, got {type(error).__name__}: {error}."
        raise ModelError(f"{message} Give a class or a function that needs none, or a Family with --folder.") from error
    return _adapter(found, target)


def _adapter(found: Any, target: str) -> AbstractAdapter:
    from regulens.models import AbstractAdapter

    if not isinstance(found, AbstractAdapter):
        message = f"Expected {target} to make a regulens.models.AbstractAdapter, got {type(found).__name__}."
        raise ModelError(f"{message} The suite is for models with attention: subclass AbstractAdapter.")
    return found


def _module(name: str) -> Any:
    path = Path(name)
    try:
        if path.suffix == ".py":
            if not path.is_file():
                message = f"Expected a Python file at {path}, found none. Check the path."
                raise ModelError(message)
            spec = importlib.util.spec_from_file_location(path.stem, path)
            module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
            sys.modules[path.stem] = module
            spec.loader.exec_module(module)  # type: ignore[union-attr]
            return module
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(name)
    except ModelError:
        raise
    except Exception as error:
        message = f"Expected an importable module '{name}', got {type(error).__name__}: {error}."
        raise ModelError(f"{message} Give MODULE:OBJECT, FILE.py:OBJECT or family:FOLDER.") from error


def _object(module: Any, name: str, *, where: str) -> Any:
    if not hasattr(module, name):
        known = [n for n in vars(module) if not n.startswith("_")]
        message = f"Expected an adapter, a class, a function or a family named '{name}' in {where}, found none."
        raise ModelError(f"{message} Check the name behind the colon.{nearest(name, known)}")
    return getattr(module, name)
