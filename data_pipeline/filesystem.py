"""Paths and URLs: what goes through fsspec, and how it is opened."""

from typing import Any

from .errors import DataError


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
        mend = 'install acn-lm with its extra "s3"' if protocol == "s3" else f"install fsspec's driver for {protocol}"
        raise DataError(f"{url!r} cannot be opened ({error}): {mend}") from error
    return filesystem, str(path)
