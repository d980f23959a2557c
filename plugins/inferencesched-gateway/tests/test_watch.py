"""Files that change while somebody looks at them."""

from pathlib import Path

from inferencesched_gateway.watch import Watch


def test_a_change_counts_when_it_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("one")
    watch = Watch([file])

    file.write_text("")
    looks = [watch.has_changed()]
    file.write_text("two, and more")
    looks += [watch.has_changed(), watch.has_changed(), watch.has_changed()]

    assert looks == [False, False, True, False]


def test_a_folder_is_looked_into_and_a_link_is_followed(tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: a link to a folder, swapped as a whole."""
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text(version)
    mounted = tmp_path / "mounted"
    mounted.symlink_to(tmp_path / "v1")
    watch = Watch([mounted])

    (tmp_path / "next").symlink_to(tmp_path / "v2")
    (tmp_path / "next").replace(mounted)

    assert [watch.has_changed(), watch.has_changed()] == [False, True]


def test_a_file_may_go_and_come_back(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("one")
    watch = Watch([file])

    file.unlink()
    gone = [watch.has_changed(), watch.has_changed()]
    file.write_text("one again")

    assert gone == [False, True]
    assert [watch.has_changed(), watch.has_changed()] == [False, True]
