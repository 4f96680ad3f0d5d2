"""Where programs come from, and what is said when they are not to be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.peers import binaries
from bench.peers.binaries import HERE, MissingError, first_version, go_server, load_generator, required_version
from bench.peers.clusters import kafka, redis


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with nothing on its PATH; the folder is on it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(binaries, "_GO_OF_A_TARBALL", str(tmp_path / "nothing"))
    return tmp_path


def program(path: Path, says: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


def silent(_: str) -> None:
    pass


def test_without_go_there_are_no_load_generators_and_it_is_said(bare: Path) -> None:
    with pytest.raises(MissingError, match="no go on the PATH"):
        load_generator(silent)


def test_without_maven_and_redis_it_is_said_who_has_them(bare: Path) -> None:
    with pytest.raises(MissingError, match="no mvn on the PATH"):
        kafka.program(silent)
    with pytest.raises(MissingError, match="Debian's package redis-server"):
        redis.program()


def test_where_a_server_cannot_be_built_the_one_on_the_path_is_taken(bare: Path) -> None:
    with pytest.raises(MissingError, match="and there is no etcd on the PATH"):
        go_server("etcd", "etcd", "go.etcd.io/etcd/server/v3", ".", silent)
    program(bare / "etcd", "etcd Version: 3.4.23")
    found = go_server("etcd", "etcd", "go.etcd.io/etcd/server/v3", ".", silent)
    assert (found.path, found.version) == (str(bare / "etcd"), "3.4.23 from the PATH")


def test_what_is_built_is_kept_and_built_again_when_a_source_changes(bare: Path) -> None:
    source = bare / "source"
    source.write_text("one")
    built: list[str] = []

    def build(directory: str) -> None:
        built.append(directory)
        Path(directory, "program").touch()

    def kept() -> str:
        return binaries._kept("thing", [str(source)], ["Go 1"], build, silent)

    first = kept()
    assert os.path.exists(os.path.join(first, "program"))
    assert kept() == first
    source.write_text("two")
    assert kept() != first
    assert len(built) == 2


def test_a_build_that_fails_leaves_nothing_behind(bare: Path) -> None:
    def build(_: str) -> None:
        raise MissingError("no network")

    with pytest.raises(MissingError, match="no network"):
        binaries._kept("thing", [], [], build, silent)
    assert os.listdir(binaries.cache_directory()) == []


def test_versions_are_those_of_the_modules() -> None:
    for name, module, version in (
        ("etcd", "go.etcd.io/etcd/server/v3", "3.6."),
        ("nats", "github.com/nats-io/nats-server/v2", "2.12."),
    ):
        assert required_version(os.path.join(HERE, "go_servers", name, "go.mod"), module).startswith(version)


def test_a_version_is_found_in_what_a_program_says() -> None:
    assert first_version("Redis server v=7.0.15 sha=0") == "7.0.15"
    assert first_version("nothing") == "of unknown version"
