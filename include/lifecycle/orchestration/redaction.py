"""Exceptions without values (hard case 25).

Airflow logs what a task raises. Messages of drivers hold what they worked on: PostgreSQL's DETAIL names the key of a
row, botocore's endpoint errors name the object's key, pydantic shows its input. The class, the place and the error code
stay; the text goes.
"""

from __future__ import annotations

import traceback

from lifecycle.errors import LifecycleError

# Their messages name pieces of code only.
_ABOUT_CODE = (ImportError, AttributeError, NameError)
_WITHHELD = "message withheld, it may hold values of records"


class UnexpectedError(LifecycleError):
    """Something that this project does not raise on purpose; named by class and place only."""


def withhold_values(error: BaseException) -> BaseException:
    """The error to log instead: ours as it is, a driver's with its code only, anything else by class and place."""
    if isinstance(error, (LifecycleError, *_ABOUT_CODE)) or type(error).__module__.startswith("airflow."):
        return _unchained(error)
    code = _driver_code(error)
    if code is not None:
        error.args = (f"{type(error).__name__} ({code}): {_WITHHELD}",)  # keeps the class, which retry rules match
        return _unchained(error)
    return _unchained(
        UnexpectedError(f"{_dotted(error)} at {_place(error)}: {_WITHHELD}").with_traceback(error.__traceback__)
    )


def _driver_code(error: BaseException) -> str | None:
    """SQLSTATE, S3 error code, or another name free of values; None for classes that are not of a known driver."""
    package = type(error).__module__.partition(".")[0]
    if package == "psycopg":
        return f"SQLSTATE {getattr(error, 'sqlstate', None) or 'none'} at {_place(error)}"
    if package in ("botocore", "boto3", "s3transfer"):
        response = getattr(error, "response", None)
        code = response.get("Error", {}).get("Code", "none") if isinstance(response, dict) else "none"
        return f"S3 code {code} at {_place(error)}"
    return None


def _unchained(error: BaseException) -> BaseException:
    """Without causes and contexts: they are logged too, with their messages."""
    error.__cause__ = None
    error.__context__ = None
    error.__suppress_context__ = True
    return error


def _place(error: BaseException) -> str:
    """function:line of the innermost frame of this project, else of the innermost frame."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "lifecycle" in frame.filename and "site-packages" not in frame.filename]
    found = ours or list(frames)
    return f"{found[-1].name}:{found[-1].lineno}" if found else "unknown place"


def _dotted(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"
