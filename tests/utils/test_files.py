"""Folders and files that are whole or not there."""

from pathlib import Path

import pytest

from mmmaskfree.utils.files import whole_file, whole_folder


def write(path, text, *, fail=False, replace=False):
    with whole_folder(path, replace=replace) as folder:
        (folder / 'file').write_text(text)
        if fail:
            raise RuntimeError('the disk is full')


def test_a_folder_is_whole_or_not_there(tmp_path):
    out = tmp_path / 'new/out'
    with pytest.raises(RuntimeError):
        write(out, 'first', fail=True)
    assert list(out.parent.iterdir()) == []
    out.mkdir()  # an empty one is none
    write(out, 'first')
    with pytest.raises(FileExistsError, match='Remove it'):
        write(out, 'second')
    with pytest.raises(RuntimeError):
        write(out, 'second', fail=True, replace=True)
    assert (out / 'file').read_text() == 'first'
    (out / 'mine').touch()
    write(out, 'second', replace=True)
    assert [path.name for path in out.iterdir()] == ['file']
    assert (out / 'file').read_text() == 'second'
    assert list(out.parent.iterdir()) == [out]


def test_a_folder_that_cannot_take_its_name_leaves_the_old_one(tmp_path, monkeypatch):
    out = tmp_path / 'out'
    write(out, 'first')
    rename = Path.rename

    def refuse(self, target):
        if Path(target) == out and not self.name.endswith('.old'):
            raise PermissionError(target)
        return rename(self, target)

    monkeypatch.setattr(Path, 'rename', refuse)
    with pytest.raises(PermissionError):
        write(out, 'second', replace=True)
    assert (out / 'file').read_text() == 'first'
    assert list(tmp_path.iterdir()) == [out]


def test_files_and_folders_are_not_taken_for_each_other(tmp_path):
    file, folder = tmp_path / 'file', tmp_path / 'folder.json'
    file.touch()
    folder.mkdir()
    with pytest.raises(FileExistsError, match='Remove it'):
        write(file, 'text', replace=True)
    with pytest.raises(IsADirectoryError, match='Name a file'), whole_file(folder):
        pytest.fail('it was not looked at before the work')
