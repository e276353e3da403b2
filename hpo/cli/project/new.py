"""Create a project folder with a model, data and a test from the templates in ``template/``."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from hpo.errors import ConfigError

TEMPLATE = Path(__file__).resolve().parent / "template"
SUFFIX = ".jinja"


def write(folder: Path) -> list[Path]:
    """Write the project files into ``folder``, which is created if it does not exist.

    Returns:
        Paths of the written files, relative to ``folder``.

    Raises:
        ConfigError: if the name is not a valid package name, the folder is not empty, or it cannot be written to.
    """
    name = folder.resolve().name
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or keyword.iskeyword(name):
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
        valid = plain if re.match(r"[A-Za-z]", plain) and not keyword.iskeyword(plain) else f"my_{plain or 'project'}"
        expected = "letters, digits and '_', starting with a letter, and not a Python keyword"
        raise ConfigError("new", name, expected, f"python -m hpo new {folder.parent / valid}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("new", folder, "a new or empty folder", "choose another name")

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
