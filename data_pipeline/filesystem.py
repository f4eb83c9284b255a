"""Paths and URLs: what goes through fsspec, and how it is opened."""

from typing import Any

from .errors import DataError
from .problems import Problem


def is_url(path: str) -> bool:
    """Whether a path goes through fsspec rather than to the local file system."""
    return "://" in path


def open_filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it. Raises DataError when the protocol is not installed."""
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        protocol = url.split("://")[0]
        fix = 'install acn-lm with its extra "s3"' if protocol == "s3" else f"install fsspec's driver for {protocol}"
        raise DataError(Problem(repr(url), wrong=f"cannot be opened ({error})", fix=fix)) from error
    return filesystem, str(path)
