"""Files are written whole or not at all."""

import os
import stat
import threading
from pathlib import Path

import pytest

from deep_reid.system import files


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def umask():
    """Set the process's umask for the time of a test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


class TestReplacing:
    def test_errors_name_the_file_and_not_the_temporary_one(self, tmp_path, monkeypatch):
        (tmp_path / "folder").mkdir()
        with pytest.raises(IsADirectoryError) as caught:
            files.write_text(tmp_path / "folder", "text")
        assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "folder"), None)

        def refuse(path, *_):
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(PermissionError) as caught:
            files.write_text(tmp_path / "a.txt", "text")
        assert caught.value.filename == str(tmp_path / "a.txt")
        assert names_in(tmp_path) == ["folder"]

    def test_the_file_appears_when_the_block_ends(self, tmp_path):
        path = tmp_path / "result.bin"
        with files.replacing(path) as temporary:
            assert not path.exists()
            with open(temporary, "wb") as file:
                file.write(b"\x00whole")
            assert not path.exists()
        assert path.read_bytes() == b"\x00whole"
        assert names_in(tmp_path) == ["result.bin"]

    def test_a_file_that_exists_is_seen_old_or_new_and_never_in_between(self, tmp_path):
        path = tmp_path / "result.txt"
        path.write_text("old")
        with files.replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.write("n")
            file.flush()
            assert path.read_text() == "old"
            file.write("ew")
        assert path.read_text() == "new"

    @pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
    def test_when_the_block_raises_the_old_content_stays(self, tmp_path, exception):
        path = tmp_path / "result.txt"
        path.write_text("old")
        with pytest.raises(exception), files.replacing(path) as temporary:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write("half")
            raise exception
        assert path.read_text() == "old"
        assert names_in(tmp_path) == ["result.txt"]

    def test_when_the_block_raises_no_new_file_is_left(self, tmp_path):
        with pytest.raises(RuntimeError), files.replacing(tmp_path / "result.txt"):
            raise RuntimeError
        assert names_in(tmp_path) == []

    def test_no_temporary_file_is_left_where_the_path_cannot_be_replaced(self, tmp_path):
        (tmp_path / "folder" / "content").mkdir(parents=True)
        with pytest.raises(OSError), files.replacing(tmp_path / "folder"):
            pass
        assert names_in(tmp_path) == ["folder"]
        assert names_in(tmp_path / "folder") == ["content"]

    def test_a_writer_that_removes_the_temporary_file_is_no_quiet_success(self, tmp_path):
        path = tmp_path / "result.txt"
        path.write_text("old")
        with pytest.raises(FileNotFoundError), files.replacing(path) as temporary:
            os.unlink(temporary)
        assert path.read_text() == "old"

    def test_the_temporary_name_has_the_folder_and_the_ending_of_the_path(self, tmp_path):
        path = tmp_path / "result.v1.mat"
        with files.replacing(path) as temporary:
            assert isinstance(temporary, str)
            assert os.path.dirname(temporary) == str(tmp_path)
            assert temporary.endswith(".mat")
            assert temporary != str(path)

    def test_two_writers_do_not_share_a_temporary_file(self, tmp_path):
        path = tmp_path / "result.txt"
        with files.replacing(path) as first, files.replacing(path) as second:
            assert first != second

    @pytest.mark.parametrize(
        "mask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0, 0o666)]
    )
    def test_the_mode_is_that_of_any_new_file_under_the_umask(self, tmp_path, umask, mask, mode):
        umask(mask)
        files.write_text(tmp_path / "result.txt", "x")
        assert stat.S_IMODE((tmp_path / "result.txt").stat().st_mode) == mode

    def test_the_umask_stays_as_it_was(self, tmp_path, umask):
        umask(0o027)
        files.write_text(tmp_path / "result.txt", "x")
        assert umask(0o027) == 0o027

    @pytest.mark.parametrize("convert", [str, lambda path: path], ids=["str", "Path"])
    def test_missing_parent_folders_are_made(self, tmp_path, convert):
        path = tmp_path / "a" / "b" / "result.txt"
        files.write_text(convert(path), "x")
        assert path.read_text() == "x"

    def test_a_plain_name_is_written_to_the_working_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        files.write_text("result.txt", "x")
        assert names_in(tmp_path) == ["result.txt"]

    def test_the_umask_is_not_touched_even_for_a_moment(self, tmp_path, monkeypatch):
        # The umask belongs to the process: what other threads make meanwhile would be open to all.
        monkeypatch.setattr(os, "umask", None)
        files.write_text(tmp_path / "result.txt", "x")

    def test_a_link_is_replaced(self, tmp_path):
        (tmp_path / "other.txt").write_text("precious")
        (tmp_path / "result.txt").symlink_to("other.txt")
        files.write_text(tmp_path / "result.txt", "new")
        assert (tmp_path / "other.txt").read_text() == "precious"
        assert not (tmp_path / "result.txt").is_symlink()

    def test_a_name_of_the_greatest_length_is_written(self, tmp_path):
        path = tmp_path / ("ü" * 125 + ".txt")
        files.write_text(path, "x")
        assert path.read_text() == "x"


def test_text_is_written_as_utf_8(tmp_path):
    files.write_text(tmp_path / "names.txt", "Zürich 人\n")
    assert (tmp_path / "names.txt").read_bytes() == "Zürich 人\n".encode()


class TestWriting:
    """Files that the user names."""

    def write(self, path, text="new"):
        with files.writing(path) as temporary:
            Path(temporary).write_text(text)

    @pytest.mark.parametrize("target", ["old.txt", "new.txt", "folder/new.txt"])
    def test_links_are_followed(self, tmp_path, target):
        (tmp_path / "folder").mkdir()
        (tmp_path / "old.txt").write_text("old")
        (tmp_path / "first").symlink_to("second")
        (tmp_path / "second").symlink_to(tmp_path / target)
        self.write(tmp_path / "first")
        assert (tmp_path / target).read_text() == "new"
        assert (tmp_path / "first").is_symlink() and (tmp_path / "second").is_symlink()

    def test_a_device_stays_a_device(self):
        self.write(os.devnull)
        assert stat.S_ISCHR(os.stat(os.devnull).st_mode)

    def test_pipes_get_all_of_it(self, tmp_path):
        path, got = tmp_path / "pipe", []
        os.mkfifo(path)
        reader = threading.Thread(target=lambda: got.append(path.read_text()))
        reader.start()
        self.write(path, "a line\n" * 100_000)
        reader.join()
        assert got == ["a line\n" * 100_000]
        assert stat.S_ISFIFO(path.stat().st_mode)
        assert names_in(tmp_path) == ["pipe"]

    def test_what_fails_reaches_no_pipe(self, tmp_path):
        path = tmp_path / "pipe"
        os.mkfifo(path)
        with pytest.raises(RuntimeError), files.writing(path):  # would wait for a reader
            raise RuntimeError

    @pytest.mark.parametrize("is_link", [True, False])
    def test_folders_are_refused(self, tmp_path, is_link):
        (tmp_path / "folder").mkdir()
        (tmp_path / "link").symlink_to("folder")
        path = tmp_path / ("link" if is_link else "folder")
        with pytest.raises(IsADirectoryError) as caught:
            self.write(path)
        assert caught.value.filename == str(path)
        assert names_in(tmp_path) == ["folder", "link"]

    def test_a_link_that_leads_to_itself_is_an_error(self, tmp_path):
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(OSError):
            self.write(tmp_path / "loop")


class TestCheckOutput:
    """What can be told before the work for an output."""

    @pytest.mark.parametrize("path", ["new", "a/b/new", "old", "dangling", "linked/new", "pipe"])
    def test_what_can_be_written_is_let_through(self, tmp_path, path):
        (tmp_path / "old").write_text("old")
        (tmp_path / "dangling").symlink_to("store/new")
        (tmp_path / "folder").mkdir()
        (tmp_path / "linked").symlink_to("folder")
        os.mkfifo(tmp_path / "pipe")
        before = names_in(tmp_path)
        files.check_output(tmp_path / path)
        files.check_output(os.devnull)
        assert names_in(tmp_path) == before

    def test_a_new_name_with_a_separator_at_its_end_is_a_folder_s(self, tmp_path):
        path = str(tmp_path / "new") + os.sep
        with pytest.raises(IsADirectoryError) as caught:
            files.check_output(path)
        assert caught.value.filename == path
        with pytest.raises(IsADirectoryError):
            files.write_output(path, "content")
        assert not any(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "path", [".", "folder", "linked", "file/x", "file/x/y", "way/x", "null/x"]
    )
    def test_what_cannot_is_refused(self, tmp_path, path):
        (tmp_path / "file").write_text("content")
        (tmp_path / "way").symlink_to("file")
        (tmp_path / "null").symlink_to(os.devnull)
        (tmp_path / "folder").mkdir()
        (tmp_path / "linked").symlink_to("folder")
        with pytest.raises((IsADirectoryError, NotADirectoryError)) as caught:
            files.check_output(tmp_path / path)
        assert caught.value.filename
        with pytest.raises(OSError), files.writing(tmp_path / path):
            pytest.fail("the block must not begin")


class TestOpenOwn:
    @pytest.mark.parametrize("target", ["precious.txt", "missing", os.devnull, "loop"])
    def test_links_are_refused(self, tmp_path, target):
        (tmp_path / "precious.txt").write_text("precious")
        (tmp_path / "loop").symlink_to(target)
        with pytest.raises(OSError) as caught:
            files.open_own(tmp_path / "loop", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        assert caught.value.filename == str(tmp_path / "loop")
        assert (tmp_path / "precious.txt").read_text() == "precious"
        assert names_in(tmp_path) == ["loop", "precious.txt"]

    @pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY])
    def test_what_is_no_regular_file_is_refused_and_not_waited_for(self, tmp_path, flags):
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", os.devnull, tmp_path):
            with pytest.raises(OSError, match="is not a regular file"):
                files.open_own(path, flags)


class TestText:
    def test_lines_end_with_a_line_feed(self, tmp_path):
        (tmp_path / "file").write_bytes("a\r\nü\rc\n".encode())
        assert files.read_text(tmp_path / "file") == "a\nü\nc\n"

    def test_devices_and_pipes_are_not_read(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", "/dev/zero"):
            with pytest.raises(OSError, match="is not a regular file"):
                files.read_text(path)


class TestCheckWithin:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "real" / "sub").mkdir(parents=True)
        (tmp_path / "folder").symlink_to("real")
        return tmp_path / "folder"

    @pytest.mark.parametrize(
        "target", ["../victim", "..", ".", "../missing", "sub/../../x", "/dev/null"]
    )
    def test_a_link_that_leads_out_is_refused(self, folder, target):
        (folder / "link").symlink_to(target)
        with pytest.raises(OSError, match="link that leads out of") as caught:
            files.check_within(folder, folder / "file", folder / "link")
        assert caught.value.filename == str(folder / "link")

    @pytest.mark.parametrize("target", ["file", "sub", "sub/new", "../real/file", "../folder/file"])
    def test_others_are_let_through(self, folder, target):
        (folder / "link").symlink_to(target)
        files.check_within(folder, folder / "link", folder / "missing", folder / "sub")


class TestJson:
    @pytest.mark.parametrize(
        "text",
        ["", "{", "[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "\x00", '"\\ud800', "NaN,"],
        ids=["empty", "open", "deep list", "deep object", "long number", "NUL", "torn", "NaN"],
    )
    def test_what_cannot_be_read_is_a_value_error(self, tmp_path, text):
        (tmp_path / "file.json").write_text(text)
        with pytest.raises(ValueError):
            files.read_json(tmp_path / "file.json")

    def test_a_pipe_is_an_error_and_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "file.json")
        with pytest.raises(OSError):
            files.read_json(tmp_path / "file.json")

    def test_what_is_no_text_is_a_value_error(self, tmp_path):
        (tmp_path / "file.json").write_bytes(b"\xff\xfe{}")
        with pytest.raises(ValueError):
            files.read_json(tmp_path / "file.json")
