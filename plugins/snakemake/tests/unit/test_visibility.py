"""Which files the executors see, through links."""

from __future__ import annotations

from pathlib import Path

import pytest
from snakemake_executor_plugin_swarm_runner.visibility import Visibility

from swarm_runner import Pool


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """The pool's volume, which this host reaches through a link, beside a hidden directory."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "hidden").mkdir()
    volume = tmp_path / "volume"
    volume.symlink_to("disk")
    (volume / "file").touch()
    (volume / "directory").mkdir()
    return volume


def _hidden_target(volume: Path, name: str) -> str | None:
    pool = Pool.model_validate({"volumes": [str(volume)]})
    target = Visibility(pool).hidden_target(f"{volume}/{name}")
    return target and str(Path(target).relative_to(volume.parent))


@pytest.mark.parametrize(
    ("target", "hidden"),
    [
        ("file", None),
        ("missing", None),
        ("directory/../file", None),
        ("../hidden/x", "hidden/x"),
        ("/VOLUME/file", None),
        ("/ROOT/hidden", "hidden"),
        # The same file on this host, but not by a path that executors have.
        ("/ROOT/disk/file", "disk/file"),
        ("..", ""),
    ],
)
def test_a_link_is_visible_if_its_target_is(volume: Path, target: str, hidden: str | None) -> None:
    path = target.replace("/VOLUME", str(volume)).replace("/ROOT", str(volume.parent))
    (volume / "link").symlink_to(path)
    (volume / "second").symlink_to("link")
    expected = "." if hidden == "" else hidden
    assert _hidden_target(volume, "link") == expected
    assert _hidden_target(volume, "second") == expected


def test_links_in_the_middle_of_a_path(volume: Path) -> None:
    (volume / "directory" / "up").symlink_to("..")
    (volume / "directory" / "out").symlink_to("../../hidden")
    assert _hidden_target(volume, "directory/up/directory/up/file") is None
    assert _hidden_target(volume, "directory/up/directory/out/a/b") == "hidden"


def test_links_in_a_circle_lead_nowhere(volume: Path) -> None:
    (volume / "one").symlink_to("two")
    (volume / "two").symlink_to("one")
    assert _hidden_target(volume, "one") is not None


def test_a_path_beside_the_volume_is_hidden(volume: Path) -> None:
    assert _hidden_target(volume, "../hidden/x") == "hidden/x"
    assert _hidden_target(volume, "directory/../file") is None
