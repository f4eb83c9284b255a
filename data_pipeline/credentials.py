"""Credentials in URLs: taken out where they come in, kept for this process and those it starts, and written nowhere.

`take_credentials` stands at the doors: whatever comes after it, a configuration that is saved, a message, a card, a
script, knows the URL without user, password, token or signature. `with_credentials` gives them back to who connects.
They travel in an environment variable, so that ranks and workers have them too, and are gone with the process: a later
one is told them again, or finds them where the programs of the trade look (`where_to_keep`).
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar
from urllib.parse import unquote

T = TypeVar("T")

CREDENTIALS_VARIABLE = "ACN_CREDENTIALS"
"""JSON: URLs without credentials -> with them."""
_OTHERS = "MLFLOW_TRACKING_URI"  # a variable of the trade that may hold a URL with its credentials

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s\"<>]+")
_CHAIN = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")  # between chained URLs, not in an IPv6 address
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}")  # of the Hub
_HIDDEN = "***"
_SHORTEST = 6  # shorter ones would be found in any text

# A user without a password is no secret for databases and ssh, and Azure writes CONTAINER@ACCOUNT. Of these it is one.
_USER_IS_TOKEN = {"http", "https", "hf", "s3", "s3a", "gs", "gcs"}
_SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|passwd|^pwd$|^pass$|credential|signature|^sign?$|^q-|auth|session|bearer|jwt|cookie"
    r"|(api|access|account|private|shared|subscription|secret|client)[-_.]?key|^key$|key-?pair-?id|^key-?name$"
    r"|access-?key-?id|accessid|^x-amz-|^x-goog-|^x-ms-|^x-oss-|^policy$|^expires?$|^hmac$|^sas$|^code$|^uid$"
    r"|^hdn|odbc_connect",
    re.IGNORECASE,
)
_AZURE = {"sv", "ss", "srt", "sp", "se", "st", "spr", "sig", "sr", "sip", "si", "skoid", "sktid", "skt", "ske", "sks",
          "skv", "sdd", "scid", "saoid", "suoid", "ses"}  # fmt: skip
_NO_SECRET = re.compile(r"revision|^rev$|^ref$|commit|version|etag|checksum|^sha\d*$|^md5$|^id$|generation", re.I)


def without_credentials(url: str) -> str:
    """A URL without user and password, and without the parameters that are, or look like, tokens and signatures.

    Everything else stays as it was written. Chained URLs (`simplecache::https://...`) are taken link by link.
    """
    if _CHAIN.search(url):
        return "::".join(without_credentials(part) if "://" in part else part for part in _CHAIN.split(url))
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    place, tail = _split_authority(rest)
    userinfo, at, host = place.rpartition("@")
    if at and ":" not in userinfo and scheme.lower().rpartition("+")[2] not in _USER_IS_TOKEN:
        host = place
    path, mark, fragment = tail.partition("#")
    path, question, query = path.partition("?")
    query, fragment = _without_secrets(query), _without_secrets(fragment) if "=" in fragment else fragment
    return _TOKEN.sub(
        "", f"{scheme}://{host}{path}{question if query else ''}{query}{mark if fragment else ''}{fragment}"
    )


def _split_authority(rest: str) -> tuple[str, str]:
    """What follows "://" as user, host and port, and the rest; also where a password holds an unescaped / ? or #."""
    end = next((place for place, character in enumerate(rest) if character in "/?#"), len(rest))
    _, colon, port = rest[:end].rpartition(":")
    if colon and "@" not in rest[:end] and "@" in rest[end:] and not port.isdigit():
        at = rest.rindex("@")
        end = next((place for place in range(at, len(rest)) if rest[place] in "/?#"), len(rest))
    return rest[:end], rest[end:]


def _without_secrets(query: str) -> str:
    parameters = query.split("&")
    names = [unquote(parameter.partition("=")[0]) for parameter in parameters]
    is_azure = "sig" in names
    kept = [
        parameter
        for name, parameter in zip(names, parameters, strict=True)
        if not (
            _SECRET_NAME.search(name)
            or (is_azure and name in _AZURE)
            or (not _NO_SECRET.search(name) and _looks_random(unquote(parameter.partition("=")[2] or name)))
        )
    ]
    return "&".join(kept)


def _looks_random(value: str) -> bool:
    """Whether a value is more like a key than like a word, a name or a number: its kinds of characters alternate."""
    if len(value) < 16 or not re.fullmatch(r"[A-Za-z0-9+=_~-]+", value):
        return False
    kinds = ["d" if c.isdigit() else "u" if c.isupper() else "l" for c in value if c.isalnum()]
    return sum(before != after for before, after in pairwise(kinds)) >= 6


def take_credentials(value: T, say: Callable[[str, str], None] | None = None) -> T:
    """`value` with every URL in it, however deep, freed of credentials, which `with_credentials` gives back.

    Args:
        value: a dataclass, list, dictionary or text; the same object where there is nothing to take.
        say: told each URL that had credentials (without them), and the dotted name of the field it stands in.
    """
    return _taken(value, "", say or (lambda url, field: None))


def fields_with_tokens(value: Any, field: str = "") -> list[str]:
    """The dotted names of the fields that hold a token of the Hub itself, and no URL that it could be taken out of."""
    if isinstance(value, str):
        return [field] if _TOKEN.search(value) else []
    if is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, Mapping):
        inside = [(f"{field}.{key}" if field else str(key), inner) for key, inner in value.items()]
    else:
        inside = [(field, inner) for inner in value] if isinstance(value, list | tuple) else []
    return [name for key, inner in inside for name in fields_with_tokens(inner, key)]


def _taken(value: Any, field: str, say: Callable[[str, str], None]) -> Any:
    if isinstance(value, str):
        text = _URL.sub(lambda match: _take(match[0], field, say), value) if "://" in value else value
        return value if text == value else text
    if is_dataclass(value) and not isinstance(value, type):
        values = {one.name: getattr(value, one.name) for one in fields(value) if one.init}
        taken = _taken(values, field, say)
        return value if taken is values else replace(value, **taken)
    if isinstance(value, Mapping):
        new = {key: _taken(inner, f"{field}.{key}" if field else str(key), say) for key, inner in value.items()}
        return value if all(new[key] is inner for key, inner in value.items()) else new
    if isinstance(value, list | tuple):
        items = [_taken(inner, field, say) for inner in value]
        same = all(item is inner for item, inner in zip(items, value, strict=True))
        return value if same else type(value)(items)
    return value


def _take(url: str, field: str, say: Callable[[str, str], None]) -> str:
    clean = without_credentials(url)
    if clean != url:
        for part in _CHAIN.split(url):
            remember(part)
        say(clean, field)
    return clean


def remember(url: str) -> None:
    """Keep the credentials of a URL for `with_credentials`, here and in processes that are started from now on."""
    if (clean := without_credentials(url)) != url:
        os.environ[CREDENTIALS_VARIABLE] = json.dumps({**_known(), _key(clean): url})


def remember_environment(prefix: str) -> None:
    """Keep those of URLs in environment variables of this prefix: an option's may be there for its credentials only."""
    for name, value in list(os.environ.items()):
        if name.startswith(prefix) and name != CREDENTIALS_VARIABLE and "://" in value:
            take_credentials(value)


def _key(url: str) -> str:
    return url.rstrip("/")


def _known() -> dict[str, str]:
    try:
        return dict(json.loads(os.environ.get(CREDENTIALS_VARIABLE, "{}")))
    except (ValueError, TypeError):
        return {}


def with_credentials(url: str) -> str:
    """`url` with its credentials, as far as they are known: those of this URL, of a folder above it, or of its host."""
    if _CHAIN.search(url):
        return "::".join(with_credentials(part) if "://" in part else part for part in _CHAIN.split(url))
    known = _known()
    if (other := os.environ.get(_OTHERS, "")) and without_credentials(other) != other:
        known.setdefault(_key(without_credentials(other)), other)
    if not known or without_credentials(url) != url:
        return url
    if (full := known.get(_key(url))) is not None:
        return full
    above = [clean for clean in known if url.startswith(f"{clean}/")]
    if above:
        clean = max(above, key=len)
        return url_below(known[clean], url.removeprefix(f"{clean}/"))
    scheme, _, rest = url.partition("://")
    place, _ = _split_authority(rest)
    for clean, full in known.items():
        user, at, _ = _split_authority(full.partition("://")[2])[0].rpartition("@")
        if at and clean.startswith(f"{scheme}://") and _split_authority(clean.partition("://")[2])[0] == place:
            return f"{scheme}://{user}@{rest}"
    return url


def url_below(url: str, name: str) -> str:
    """The URL of `name` in the folder `url`, whose query stays at the end."""
    end = next((place for place, character in enumerate(url) if character in "?#"), len(url))
    if not url.startswith(("http://", "https://")):
        end = len(url)
    return f"{url[:end].rstrip('/')}/{name}{url[end:]}"


def user_and_password(url: str) -> tuple[str, str] | None:
    """The user and password in a URL, unescaped; None where it has none."""
    userinfo, at, _ = _split_authority(url.partition("://")[2])[0].rpartition("@")
    if not at:
        return None
    user, _, password = userinfo.partition(":")
    return unquote(user), unquote(password)


def hide_credentials(text: str) -> str:
    """A text for people, or a file: without the credentials of URLs in it, and without those known to this process."""
    known = _known() if CREDENTIALS_VARIABLE in os.environ else {}
    for clean, full in known.items():
        text = text.replace(full, clean)
    if "://" in text:
        text = _URL.sub(lambda match: without_credentials(match[0]), text)
    for full in known.values():
        for secret in _secrets(full):
            text = text.replace(secret, _HIDDEN)
    return _TOKEN.sub(f"hf_{_HIDDEN}", text) if "hf_" in text else text


def _secrets(url: str) -> set[str]:
    """The pieces of a URL that are credentials, as they stand there and unescaped."""
    found: set[str] = set()
    if (pair := user_and_password(url)) is not None:
        userinfo = _split_authority(url.partition("://")[2])[0].rpartition("@")[0]
        # next to a password the user is no secret, alone it is a token
        found |= {pair[1], userinfo.partition(":")[2]} if pair[1] else {pair[0], userinfo}
    kept = set(re.split(r"[?&#]", without_credentials(url)))
    for parameter in re.split(r"[?&#]", url)[1:]:
        if parameter not in kept:
            value = parameter.partition("=")[2]
            found |= {value, unquote(value)}
    return {secret for secret in found if len(secret) >= _SHORTEST and not secret.isdigit()}


def where_to_keep(url: str, field: str = "") -> str:
    """Where the credentials of a URL can be for a later command, in words."""
    scheme = url.partition("://")[0].lower().partition("+")[0]
    if "mlflow" in field and scheme not in ("http", "https"):
        return f"have the whole URL in {_OTHERS}, or the password where the database's driver looks"
    if "mlflow" in field:
        return "have them in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN or ~/.netrc"
    if scheme in ("s3", "s3a"):
        return "have them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or ~/.aws/credentials"
    if scheme == "hf" or "://huggingface.co/" in url:
        return "have the token in HF_TOKEN, or log in: hf auth login"
    return "give the URL with them again, or have user and password in ~/.netrc"
