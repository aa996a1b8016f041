"""Reader of one folder per identity."""

import os

import pytest

from datasets.own.folders import read_folders
from deep_reid.errors import DataError, MissingPathError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def read(root):
    """Entries of a folder's listing as (path in the folder, identity, split)."""
    listing = read_folders(root)
    assert listing.cameras is None
    names = [os.path.relpath(name, root).replace(os.sep, "/") for name in listing.filenames]
    return list(zip(names, listing.identities, listing.splits, strict=True))


def error_of(root, error_type=DataError):
    with pytest.raises(error_type) as error:
        read_folders(root)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestIdentities:
    def test_all_images_are_to_train_with_in_sorted_order(self, tmp_path):
        touch(tmp_path, "2/b.jpg", "2/a.jpg", "10/c.jpg")
        assert read(tmp_path) == [
            ("10/c.jpg", "10", "train"),
            ("2/a.jpg", "2", "train"),
            ("2/b.jpg", "2", "train"),
        ]

    def test_paths_begin_with_the_folder_as_it_was_given(self, tmp_path, monkeypatch):
        touch(tmp_path, "data/Ann/1.jpg")
        monkeypatch.chdir(tmp_path)
        assert read_folders("data").filenames == [os.path.join("data", "Ann", "1.jpg")]

    def test_order_does_not_depend_on_the_file_system(self, tmp_path, monkeypatch):
        touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg")
        expected = read(tmp_path)
        scandir = os.scandir

        class Reversed:
            def __init__(self, path):
                self.entries = sorted(scandir(path), key=lambda entry: entry.name, reverse=True)

            def __enter__(self):
                return iter(self.entries)

            def __exit__(self, *_):
                pass

        monkeypatch.setattr(os, "scandir", Reversed)
        assert read(tmp_path) == expected

    def test_endings_in_any_case(self, tmp_path, caplog):
        names = ["a.JPG", "b.jpeg", "c.PnG", "d.bmp"]
        touch(tmp_path, *(f"Ann/{name}" for name in names))
        assert [name for name, _, _ in read(tmp_path)] == [f"Ann/{name}" for name in names]
        assert not caplog.records

    def test_names_with_spaces_and_of_all_alphabets(self, tmp_path):
        touch(tmp_path, "Zoë Müller/bild 1.jpg", "李雷/照片.png")
        assert read(tmp_path) == [
            ("Zoë Müller/bild 1.jpg", "Zoë Müller", "train"),
            ("李雷/照片.png", "李雷", "train"),
        ]

    def test_links_are_followed(self, tmp_path):
        touch(tmp_path, "store/1.jpg", "store/2.jpg")
        (tmp_path / "data" / "Bob").mkdir(parents=True)
        (tmp_path / "data" / "Ann").symlink_to(tmp_path / "store", target_is_directory=True)
        (tmp_path / "data" / "Bob" / "3.jpg").symlink_to(tmp_path / "store" / "1.jpg")
        assert [name for name, _, _ in read(tmp_path / "data")] == [
            "Ann/1.jpg",
            "Ann/2.jpg",
            "Bob/3.jpg",
        ]


class TestLeftOut:
    def test_hidden_files_without_a_word(self, tmp_path, caplog):
        touch(tmp_path, "Ann/1.jpg", "Ann/._1.jpg", ".cache/2.jpg", ".DS_Store", "Ann/.x/3.jpg")
        assert read(tmp_path) == [("Ann/1.jpg", "Ann", "train")]
        assert not caplog.records

    def test_all_else_with_one_warning(self, tmp_path, caplog):
        touch(tmp_path, "Ann/1.jpg", "Ann/Thumbs.db", "Ann/deep/2.jpg", "loose.jpg", "notes.txt")
        assert read(tmp_path) == [("Ann/1.jpg", "Ann", "train")]
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert record.getMessage().startswith("4 files and folders")
        assert f"such as {tmp_path}" in record.getMessage()

    def test_a_broken_link_is_no_image(self, tmp_path, caplog):
        touch(tmp_path, "Ann/1.jpg")
        (tmp_path / "Ann" / "2.jpg").symlink_to(tmp_path / "nowhere.jpg")
        assert read(tmp_path) == [("Ann/1.jpg", "Ann", "train")]
        assert "Ann/2.jpg" in caplog.text

    def test_an_identity_without_images(self, tmp_path, caplog):
        touch(tmp_path, "Ann/1.jpg")
        (tmp_path / "Bob").mkdir()
        assert read(tmp_path) == [("Ann/1.jpg", "Ann", "train")]
        (record,) = caplog.records
        assert record.getMessage().startswith("1 identities without images")
        assert str(tmp_path / "Bob") in record.getMessage()


class TestSplits:
    def test_folders_of_splits(self, tmp_path, caplog):
        touch(tmp_path, "gallery/C/3.jpg", "gallery/-1/4.jpg", "query/C/2.jpg", "train/A/1.jpg")
        assert read(tmp_path) == [
            ("train/A/1.jpg", "A", "train"),
            ("query/C/2.jpg", "C", "query"),
            ("gallery/-1/4.jpg", "-1", "gallery"),
            ("gallery/C/3.jpg", "C", "gallery"),
        ]
        assert not caplog.records

    def test_one_split_is_enough(self, tmp_path):
        touch(tmp_path, "gallery/C/3.jpg")
        assert read(tmp_path) == [("gallery/C/3.jpg", "C", "gallery")]

    def test_other_folders_are_left_out_with_one_warning(self, tmp_path, caplog):
        touch(tmp_path, "train/A/1.jpg", "extra/B/2.jpg", "more/3.jpg")
        assert read(tmp_path) == [("train/A/1.jpg", "A", "train")]
        (record,) = caplog.records
        assert "2 other folders are left out, such as extra" in record.getMessage()

    def test_files_beside_the_splits_are_left_out_with_a_warning(self, tmp_path, caplog):
        touch(tmp_path, "train/A/1.jpg", "train/loose.jpg", "loose.jpg")
        assert read(tmp_path) == [("train/A/1.jpg", "A", "train")]
        assert caplog.records[0].getMessage().startswith("2 files and folders")

    @pytest.mark.parametrize("name", ["train", "query", "gallery"])
    def test_an_identity_can_have_the_name_of_a_split(self, tmp_path, name):
        touch(tmp_path, f"{name}/1.jpg", "A/2.jpg", f"{name}/.hidden/3.jpg")
        assert read(tmp_path) == [("A/2.jpg", "A", "train"), (f"{name}/1.jpg", name, "train")]

    def test_a_split_with_images_alone_is_refused(self, tmp_path):
        touch(tmp_path, "train/A/1.jpg", "query/2.jpg")
        assert error_of(tmp_path).startswith(f"{tmp_path}/query holds images but no folders")


class TestErrors:
    def test_a_missing_folder_is_named(self, tmp_path):
        message = error_of(tmp_path / "nowhere", MissingPathError)
        assert message.startswith(f"{tmp_path}/nowhere does not exist")

    def test_a_file_in_place_of_the_folder_is_refused(self, tmp_path):
        touch(tmp_path, "people.txt")
        assert "is a file, not a folder" in error_of(tmp_path / "people.txt", MissingPathError)

    def test_images_but_no_folders(self, tmp_path):
        touch(tmp_path, "1.jpg", "2.jpg")
        message = error_of(tmp_path)
        assert "holds images but no folders" in message
        assert "one folder per identity" in message

    @pytest.mark.parametrize("names", [[], ["notes.txt"], ["Ann/notes.txt"], ["a/b/1.jpg"]])
    def test_a_folder_without_images_is_refused(self, tmp_path, names):
        touch(tmp_path, *names)
        assert f"{tmp_path} holds no images" in error_of(tmp_path)

    def test_an_identity_in_training_and_test(self, tmp_path):
        touch(tmp_path, "train/A/1.jpg", "query/A/2.jpg")
        message = error_of(tmp_path)
        assert "trained on" in message
        assert "train/A/1.jpg" in message
        assert "query/A/2.jpg" in message

    def test_junk_to_train_on(self, tmp_path):
        touch(tmp_path, "A/1.jpg", "-1/2.jpg")
        assert "-1/2.jpg has the identity -1, which means junk" in error_of(tmp_path)


class TestHints:
    """Where images are, if they are not where they were looked for."""

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (["Train/A/1.jpg"], "rename Train to train"),
            (["TRAIN/A/1.jpg", "Query/B/1.jpg"], "rename Query, TRAIN to query, train"),
            (["data/A/1.jpg", "data/B/1.jpg"], "name the folder above the identities, such as"),
            (["x/data/A/1.jpg", "x/data/B/1.jpg"], "{}/x/data"),
            (["cam_1/A/1.jpg", "cam_2/A/1.jpg"], "(?P<camera>[^/]+)/(?P<identity>[^/]+)/"),
            (["sequences/cam1/A/1.jpg", "sequences/cam2/A/1.jpg"],
             "name the folder above, such as {}/sequences, and add --name_pattern="),
            (["bbox_test/B/1.jpg", "bbox_train/A/1.jpg"], "or name it: {}/bbox_train"),
            (["mask_test_v2/B/1.jpg", "mask_train_v2/A/1.jpg"], "or name it: {}/mask_train_v2"),
            (["test/A/1.jpg"], "splits are called train, query and gallery"),
            (["Train/A/1.jpg", "query/B/1.jpg", "gallery/B/2.jpg"], "rename Train to train"),
            (["x/train/A/1.jpg", "x/query/B/1.jpg"], "above the identities, such as {}/x"),
            (["x/y/z/A/1.jpg"], "such as {}/x/y/z"),
            (["images.zip"], "images.zip is an archive, not a list of images: unpack it"),
            (["data/images.TAR.BZ2"], "data/images.TAR.BZ2 is an archive"),
            (["cuhk-03.mat"], "cuhk-03.mat is a MATLAB file, not a list of images: write its"),
            (["A/1.heic"], "A/1.heic is an image of another format, not a list of images: convert"),
            (["readme.txt"], "one folder per identity"),
        ],
    )  # fmt: skip
    def test_the_way_out(self, tmp_path, names, words):
        touch(tmp_path, *names)
        message = error_of(tmp_path)
        assert "holds no images" in message or "lower case" in message
        assert words.format(tmp_path) in message

    def test_the_folder_that_is_named_works(self, tmp_path):
        touch(tmp_path, "x/data/A/1.jpg", "x/data/B/1.jpg")
        assert len(read(error_of(tmp_path).rpartition("such as ")[2])) == 2

    @pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found"])
    def test_folders_of_systems_are_no_identities(self, tmp_path, caplog, name):
        touch(tmp_path, "A/1.jpg", f"{name}/1.jpg", f"A/{name}/1.jpg")
        assert read(tmp_path) == [("A/1.jpg", "A", "train")]
        assert not caplog.records


class TestNames:
    """Names that are not UTF-8, or not printable."""

    @pytest.mark.parametrize("name", [b"\xe9/1.jpg", b"A/\xff.jpg", b"train/\x80x/1.jpg"])
    def test_names_that_are_not_utf_8_are_refused(self, tmp_path, name):
        touch(tmp_path, os.fsdecode(name))
        message = error_of(tmp_path)
        assert "is not UTF-8: rename" in message
        message.encode()

    @pytest.mark.parametrize("name", [b"A/\xff.txt", b"\xff/1.txt", b"A/x\n\x1b[31mERROR.txt"])
    def test_a_log_line_is_one_line_of_text(self, tmp_path, caplog, name):
        touch(tmp_path, "A/1.jpg", os.fsdecode(name))
        assert len(read(tmp_path)) == 1
        assert caplog.records
        for record in caplog.records:
            assert record.getMessage().isprintable()
            record.getMessage().encode()
