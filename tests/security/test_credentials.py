"""Credentials in URLs: found wherever they stand, given back to who connects, and nowhere else."""

import os
import pickle
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from data_pipeline import (
    CorpusConfig,
    DataError,
    PrepareConfig,
    Problem,
    Source,
    hide_credentials,
    remember_environment,
    take_credentials,
    where_to_keep,
    with_credentials,
    without_credentials,
)
from data_pipeline.credentials import CREDENTIALS_VARIABLE, fields_with_tokens, url_below, user_and_password

HUB_TOKEN = "hf_" + "aB3" * 12


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.delenv(CREDENTIALS_VARIABLE, raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://host/a.txt", "https://host/a.txt"),
        ("https://host:8080/a@b/c?page=2&lang=en#top", "https://host:8080/a@b/c?page=2&lang=en#top"),
        ("http://me:pw@host:5000", "http://host:5000"),
        ("https://token-alone@host/x", "https://host/x"),
        ("https://me:p@ss@host/x", "https://host/x"),
        ("https://me:p/w#d?e@host/x", "https://host/x"),
        ("https://host/f?X-Amz-Algorithm=a&X-Amz-Credential=b&X-Amz-Signature=c&X-Amz-Expires=9", "https://host/f"),
        ("https://host/f?path=a/b.txt&token=abc", "https://host/f?path=a/b.txt"),
        ("https://host/f?access_token=a&api_key=b&apikey=c&auth=d&password=e&sig=f&secret=g", "https://host/f"),
        ("https://host/f?key=abc&Signature=x&Expires=1&Key-Pair-Id=2&Policy=3", "https://host/f"),
        ("https://acc.blob.core.windows.net/c/f?sv=2024&st=1&se=2&sr=c&sp=r&sig=x", "https://acc.blob.core.windows.net/c/f"),
        ("https://host/f?t=9f8E7d6C5b4A39281706f5e4", "https://host/f"),
        ("https://host/f?file=shard-00001-of-00100&rev=0123456789abcdef0123456789abcdef01234567",) * 2,
        ("https://host/f#access_token=abc", "https://host/f"),
        ("s3://KEY:SECRET@bucket/a/*.parquet", "s3://bucket/a/*.parquet"),
        ("hf://:hf_x@datasets/me/corpus", "hf://datasets/me/corpus"),
        (f"https://host/{HUB_TOKEN}/x", "https://host//x"),
        ("abfs://container@account.dfs.core.windows.net/x",) * 2,
        ("sftp://me@host/x",) * 2,
        ("postgresql+psycopg2://me:pw@db:5432/acn?sslmode=require&password=x",
         "postgresql+psycopg2://db:5432/acn?sslmode=require"),
        ("mssql+pyodbc://db/acn?odbc_connect=DRIVER%3Dx%3BPWD%3Dsecret", "mssql+pyodbc://db/acn"),
        ("sqlite:////runs/mlruns.db",) * 2,
        ("simplecache::https://me:pw@host/x?token=y", "simplecache::https://host/x"),
        ("http://me:pw@[::1]:5000/x?token=y", "http://[::1]:5000/x"),
        ("zip://a.txt::https://me:pw@host/x.zip", "zip://a.txt::https://host/x.zip"),
        ("runs/tokens",) * 2,
    ],
)  # fmt: skip
def test_a_url_is_written_without_what_opens_it(url, clean):
    assert without_credentials(url) == clean
    assert without_credentials(clean) == clean
    assert take_credentials(url) == clean
    assert with_credentials(clean) == url


@given(
    user=st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8),
    password=st.text(st.characters(codec="ascii", exclude_characters=' "<>\x7f', min_codepoint=33), min_size=1),
    path=st.sampled_from(["", "/", "/a/b.txt", "/a?page=2"]),
)
@example(user="u", password="a:b", path="")
def test_no_password_is_left_however_it_is_spelled(user, password, path):
    # nobody could tell such a user and password from a host with a port, or from a user at a host with a path
    assume(not re.match(r"\d*[/?#]|.*@.*[/?#]", password))
    clean = without_credentials(f"https://{user}:{password}@host.example{path}")
    assert clean == f"https://host.example{path}"


@dataclass
class _Inner:
    uri: str | None = None


@dataclass
class _Options:
    data: str
    many: list[Any] = field(default_factory=list)
    free: dict[str, Any] = field(default_factory=dict)
    inner: _Inner = field(default_factory=_Inner)


def test_every_place_of_a_configuration_is_looked_into():
    said: list[tuple[str, str]] = []
    given = _Options(
        "https://u:pw1@a/x", ["https://u:pw2@b/x", 3], {"x": {"y": "--to https://u:pw3@c/x --and http://d"}},
        _Inner("http://u:pw4@e"),
    )  # fmt: skip
    taken = take_credentials(given, lambda url, name: said.append((url, name)))
    assert taken == _Options(
        "https://a/x", ["https://b/x", 3], {"x": {"y": "--to https://c/x --and http://d"}}, _Inner("http://e")
    )
    assert said == [("https://a/x", "data"), ("https://b/x", "many"), ("https://c/x", "free.x.y"),
                    ("http://e", "inner.uri")]  # fmt: skip
    harmless = _Options("https://a/x")
    assert take_credentials(harmless) is harmless
    corpus = CorpusConfig(train=[Source("https://u:pw@a/x.txt"), "https://a/y.txt?token=t"])
    assert "pw" not in str(take_credentials(PrepareConfig(corpus=corpus)).settings())


def test_files_below_a_url_and_others_of_its_host_are_opened_with_its_credentials():
    take_credentials("https://me:secret@host/tokens?sig=abc")
    assert with_credentials("https://host/tokens/") == "https://me:secret@host/tokens?sig=abc"
    assert with_credentials("https://host/tokens/train/a") == "https://me:secret@host/tokens/train/a?sig=abc"
    assert with_credentials("https://host/other") == "https://me:secret@host/other"
    assert with_credentials("http://host/other") == "http://host/other"
    assert with_credentials("https://host.evil/tokens") == "https://host.evil/tokens"
    assert url_below("https://host/a?sig=b", "c/d") == "https://host/a/c/d?sig=b"
    assert user_and_password("s3://A%2FB:c%40d@bucket/x") == ("A/B", "c@d")


def test_a_signature_that_was_renewed_is_of_the_same_url():
    assert take_credentials("https://host/a?sig=1") == take_credentials("https://host/a?sig=2")
    assert with_credentials("https://host/a") == "https://host/a?sig=2"


def test_what_is_not_given_again_comes_from_the_environment(monkeypatch):
    assert with_credentials("https://host/tokens") == "https://host/tokens"
    monkeypatch.setenv("ACN_PRETRAIN__DATA", "https://host/tokens?sig=abc")
    remember_environment("ACN_")
    assert with_credentials("https://host/tokens") == "https://host/tokens?sig=abc"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pw@server")
    assert with_credentials("http://server") == "http://me:pw@server"


def test_messages_have_no_credentials_even_of_errors_made_elsewhere():
    error = DataError(Problem("data", wrong="https://me:hunter22@host/x is away", fix="ask https://h?token=abcdef99"))
    for text in (str(error), error.problems[0].seen, str(pickle.loads(pickle.dumps(error)))):
        assert "hunter22" not in text
        assert "abcdef99" not in text
    take_credentials("https://me:hunter22@host/x?token=abcdef99")
    for text in ("401 for token=abcdef99", "user me, password hunter22", f"use {HUB_TOKEN}"):
        assert hide_credentials(text) != text
        assert not any(secret in hide_credentials(text) for secret in ("hunter22", "abcdef99", HUB_TOKEN))


def test_a_token_that_is_no_url_is_found_by_its_form():
    assert fields_with_tokens(_Options(HUB_TOKEN, inner=_Inner(HUB_TOKEN))) == ["data", "inner.uri"]
    assert fields_with_tokens(_Options("hf_datasets_of_mine", ["hf_x"])) == []


def test_a_text_as_long_as_a_page_with_pictures_is_searched_in_a_moment():
    text = "data:image/png;base64," + "A" * 2_000_000 + " https://me:hunter22@host "
    assert "hunter22" not in hide_credentials(text)


@pytest.mark.parametrize(
    ("url", "field", "names"),
    [
        ("https://host/x", "data", ".netrc"),
        ("s3://bucket/x", "corpus.train", "AWS_ACCESS_KEY_ID"),
        ("hf://datasets/a/b", "data", "HF_TOKEN"),
        ("http://server", "tracking.mlflow", "MLFLOW_TRACKING_USERNAME"),
        ("postgresql://db/acn", "tracking.mlflow", "MLFLOW_TRACKING_URI"),
    ],
)
def test_it_is_said_where_a_later_command_finds_them(url, field, names):
    assert names in where_to_keep(url, field)


def test_a_damaged_variable_is_no_credentials(monkeypatch):
    monkeypatch.setenv(CREDENTIALS_VARIABLE, "[1")
    assert with_credentials("https://host/x") == "https://host/x"
    take_credentials("https://u:p@host/x")
    assert with_credentials("https://host/x") == "https://u:p@host/x"
    assert CREDENTIALS_VARIABLE in os.environ
