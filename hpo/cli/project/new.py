"""A working folder for models and data of one's own, written from the templates in ``hpo/template``."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from hpo.errors import ConfigError

TEMPLATE = Path(__file__).resolve().parent / "template"
SUFFIX = ".jinja"


def write(folder: Path) -> list[Path]:
    """Write the files into ``folder``, which is made where it is not there.

    Returns:
        What was written, relative to ``folder``.

    Raises:
        ConfigError: when the name cannot be one of a Python package, or something is there already.
    """
    name = folder.resolve().name
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or keyword.iskeyword(name):
        words = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
        close = words if re.match(r"[A-Za-z]", words) and not keyword.iskeyword(words) else f"my_{words or 'project'}"
        expected = "letters, digits and '_', beginning with a letter, and no word of Python's own"
        raise ConfigError("new", name, expected, f"python -m hpo new {folder.parent / close}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("new", folder, "a folder that is not there yet, or an empty one", "choose another name")

    import jinja2

    made = []
    for template in sorted(TEMPLATE.rglob(f"*{SUFFIX}")):
        written = template.relative_to(TEMPLATE).with_suffix("")
        text = jinja2.Template(
            template.read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
        ).render(name=name)
        try:
            (folder / written).parent.mkdir(parents=True, exist_ok=True)
            (folder / written).write_text(text, encoding="utf-8")
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError("new", folder, f"a folder that can be written to ({reason})", "choose another") from error
        made.append(written)
    return made
