"""What is typed after --runs: which database, where the files go, and a password that is shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.store import runs_root
from pipeline.store.shared.url import SharedUrl, parse_url


@pytest.mark.parametrize("text", ["runs", "/data/runs", "a:b/runs", Path("runs")])
def test_what_is_no_url_is_a_folder(text: str | Path) -> None:
    assert runs_root(text) == Path(text)


def test_a_url_names_the_database_the_files_and_the_lease() -> None:
    url = parse_url("postgresql://lab@db:5433/runs?sslmode=require&blobs=s3://lab/blobs&lease=1m")
    assert url.database == "postgresql+psycopg://lab@db:5433/runs?sslmode=require"
    assert (url.blobs, url.lease_s) == ("s3://lab/blobs", 60.0)
    assert runs_root(url) is url


@pytest.mark.parametrize("file", ["/runs.sqlite", "//data/runs.sqlite"])
def test_a_file_of_sqlite_may_be_named_from_here_or_from_the_root(file: str) -> None:
    assert parse_url(f"sqlite://{file}?blobs=b").database == f"sqlite://{file}"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://lab:s3cret@db/runs?blobs=sftp://nas:s3cret@host/blobs",
        "postgresql://lab:s3cret@db/runs?blobs=b&password=s3cret&sslpassword=s3cret",
        "postgres://lab:s3%40cret@db/runs?blobs=b",
    ],
)
def test_a_password_is_given_to_the_database_and_shown_nowhere(text: str) -> None:
    url = parse_url(text)
    assert "cret" in url.database
    assert "cret" not in f"{url} {url!r}"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://lab:s3cret/@db/runs?blobs=b",
        "postgresql://lab:7?7s3cret@db/runs?blobs=b",
        "postgresql://lab:7#s3cret@db/runs?blobs=b",
        "postgresql://lab:7/s3cret@db/runs?blobs=b",
        "postgresql://lab:s3cret@[db/runs?blobs=b",
        "postgresql://lab:s3cret@db/runs",
        "mysql://lab:s3cret@db/runs?blobs=b",
        "postgresql://lab:s3cret@db/runs?blobs=b&lease=soon",
        "postgresql://lab:s3cret@db/runs?blobs=b&lease=1s",
    ],
)
def test_what_cannot_be_used_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        runs_root(text)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("postgresql://db/runs", r"where do the files go\? .*blobs=s3://BUCKET/pipeline"),
        ("postgresq://db/runs?blobs=b", r"postgresq:// holds no runs \(did you mean 'postgresql'\?\)"),
        ("postgresql://lab:a/b@db/runs?blobs=b", "write @ : / .* of a password as %40 %3A"),
        ("sqlite:///x?blobs=b&lease=1s", "a lease should be of 2 s at least, found 1s"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_url(text)


def test_urls_that_say_the_same_are_equal() -> None:
    text = "sqlite:///runs.sqlite?blobs=b"
    assert {parse_url(text), parse_url(text)} == {SharedUrl(text, "sqlite:///runs.sqlite", "b")}
