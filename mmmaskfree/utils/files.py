"""Files and folders that are whole or not there, and parts of pages."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary neighbour of ``path`` that takes its name when all went well.

    Raises:
        IsADirectoryError: ``path`` is a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(f'{path} is a folder. Name a file')
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.stem}.{uuid.uuid4().hex}{path.suffix}')
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty neighbour of ``path`` that takes its name when all went well.

    Args:
        path: Not there yet, or an empty folder.
        replace: It may be a folder with something in it, which goes when the new one
            is whole.

    Raises:
        FileExistsError: There is a file, or something in the folder.
    """
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not replace)):
        raise FileExistsError(f'{path} is there. Remove it, or name another')
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex}')
    temporary.mkdir()
    try:
        yield temporary
        if replace and path.exists():
            old = temporary.with_name(f'{temporary.name}.old')
            path.rename(old)
            try:
                temporary.rename(path)
            except BaseException:
                old.rename(path)
                raise
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_between_marks(path: Path, marks: tuple[str, str], text: str) -> None:
    """Replace what stands between the two marks of a file.

    Raises:
        ValueError: The file lacks them.
    """
    content = path.read_text()
    begin, end = marks
    if begin not in content or end not in content:
        raise ValueError(f'{path} lacks the marks {begin} and {end}')
    before, rest = content.split(begin, 1)
    _, after = rest.split(end, 1)
    path.write_text(f'{before}{begin}\n\n{text}\n\n{end}{after}')
