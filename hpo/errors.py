"""Every error that hpo raises on purpose.

::

    Exception
    └── HpoError
        ├── InputError          something the user gave cannot be used; exit code 2, before any training
        │   ├── ConfigError     an override, a YAML file or a combination of settings
        │   ├── DatasetError    data that is missing, corrupt or not what the study needs
        │   └── TrackingError   a store or folder that cannot be written to or read from
        ├── SuggestionRefused   what an objective asks for while it runs cannot be given; its trial fails
        ├── ForkedProcess       a process that a model forked returned from the model; it ends, its trial does not
        └── StudyFailed         a running study cannot continue; what was recorded is kept; exit code 1
    BaseException
    └── SearchStopped           ends a search from inside a library; never a failure

A failing *trial* raises none of the others: it becomes a trial in state FAIL, and the search continues.
"""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_SECRET_NAMES = re.compile(r"(?i)passw|passphrase|secret|token|credential|(api|access|private|auth)_?key")
# Shorter ones would blank out words that are no secrets.
_LEAST_SECRET = 6
_hidden: set[str] = set()

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def hide(value: str) -> None:
    """Have :func:`redact` take ``value`` out of everything from now on, if it is long enough to be a secret."""
    if len(value) >= _LEAST_SECRET:
        _hidden.add(value)


def redact(text: str) -> str:
    """``text`` without secrets.

    Those are the passwords of addresses, in user:password@ or in ?password=, the values of environment variables that
    are named like secrets, and what :func:`hide` was told.
    """
    text = re.sub(r"(://[^\s/:@]*):[^\s]*@", r"\1:***@", text)
    text = re.sub(r"(?i)([?&](?:password|passwd|pwd|token|secret)=)[^&\s'\"]*", r"\1***", text)
    values = [os.environ.get(name, "") for name in os.environ if _is_secret(name)]
    named = {value for value in values if len(value) >= _LEAST_SECRET}
    for secret in sorted(named | _hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def hidden() -> list[str]:
    """What :func:`hide` was told, for another process to hide as well."""
    return sorted(_hidden)


@functools.cache
def _is_secret(name: str) -> bool:
    return bool(_SECRET_NAMES.search(name))


def first_line(error: BaseException, n_characters: int = 200) -> str:
    """The first line of an error's message that is not blank, without secrets; the error's type if there is none."""
    return redact(_first_line(error) or type(error).__name__)[:n_characters]


def one_line(error: BaseException, n_characters: int = 300) -> str:
    """The type of an error and the first line of its message, without secrets."""
    return redact(f"{type(error).__name__}: {_first_line(error) or 'no message'}")[:n_characters]


def _first_line(error: BaseException) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), "")


class HpoError(Exception):
    """Base of all errors that hpo raises on purpose."""


class InputError(HpoError):
    """Something that the user gave cannot be used.

    Args:
        key: the config key, option or path, as the user would write it.
        value: what was given.
        expected: what would have been accepted.
        fix: one thing to do about it, a command-line override where there is one.
    """

    def __init__(self, key: str, value: object, expected: str, fix: str) -> None:
        self.key, self.value, self.expected, self.fix = key, value, expected, fix
        super().__init__(f"{key} = {value}\n  expected: {expected}\n  fix:      {fix}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, object, str, str]]:
        return type(self), (self.key, self.value, self.expected, self.fix)


class ConfigError(InputError):
    """An override, a YAML file or a combination of settings cannot be used."""


class DatasetError(InputError):
    """Data is missing, corrupt or not what the study needs."""


class TrackingError(InputError):
    """A tracking store or folder cannot be reached, written to or read from."""


class SuggestionRefused(HpoError, ValueError):
    """A parameter that an objective asks for does not fit what was asked for before."""


class ForkedProcess(HpoError):
    """The process was forked by a model: it is a copy that must not report, save or record anything."""


class StudyFailed(HpoError):
    """A running study cannot continue. Everything recorded so far is kept."""


class SearchStopped(BaseException):
    """Raised by ``evaluate`` once the study is over, to leave a library that owns its loop.

    Not an ``Exception``: libraries turn those into failed trials and continue.
    """


@contextmanager
def full_disk_ends_the_study() -> Iterator[None]:
    """Writing to a full disk is no failure of a trial.

    Raises:
        StudyFailed: in place of the ``OSError`` that says so.
    """
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise StudyFailed(f"the disk is full ({error}); what was recorded is safe") from error
        raise
