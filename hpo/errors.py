"""Every error that hpo raises on purpose.

::

    Exception
    └── HpoError
        ├── InputError          something the user gave cannot be used; exit code 2, before any training
        │   ├── ConfigError     an override, a YAML file or a combination of settings
        │   ├── DatasetError    data that is missing, corrupt or not what the study needs
        │   └── TrackingError   a store or folder that cannot be written to or read from
        └── StudyFailed         a running study cannot go on; what was recorded stays; exit code 1
    BaseException
    └── SearchStopped           ends a search from inside a library; never a failure

A failing *trial* raises none of these: it becomes a trial in state FAIL, and the search goes on.
"""

from __future__ import annotations

import re


def redact(text: str) -> str:
    """``text`` without the passwords of the addresses in it, in user:password@ or in ?password=."""
    text = re.sub(r"(://[^\s/:@]*):[^\s]*@", r"\1:***@", text)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|token|secret)=)[^&\s'\"]*", r"\1***", text)


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


class StudyFailed(HpoError):
    """A running study cannot go on. Everything recorded so far is kept."""


class SearchStopped(BaseException):
    """Raised by ``evaluate`` once the study is over, to leave a library that owns its loop.

    Not an ``Exception``: libraries turn those into failed trials and go on.
    """
