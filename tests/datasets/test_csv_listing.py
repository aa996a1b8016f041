"""Reader of a table of images."""

import codecs
import csv
import itertools
import os
import sys
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from datasets.own.csv_listing import read_csv
from datasets.own.listing import SPLITS
from datasets.own.suspects import find_suspects, is_camera
from deep_reid.errors import DataError, MissingPathError
from deep_reid.system.name_patterns import NamePattern


@pytest.fixture
def table(tmp_path):
    """Write people.csv; its images a.jpg .. d.jpg exist."""
    for name in "abcd":
        (tmp_path / f"{name}.jpg").touch()
    path = tmp_path / "people.csv"

    def write(content):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def entries(listing):
    """File names without folders, identities, cameras, splits."""
    names = [os.path.basename(name) for name in listing.filenames]
    return names, listing.identities, listing.cameras, listing.splits


def error_of(path, error_type=DataError):
    with pytest.raises(error_type) as error:
        read_csv(path)
    assert type(error.value) is error_type
    message = str(error.value)
    assert "\n" not in message
    return message


class TestColumns:
    def test_path_and_identity(self, table, tmp_path):
        listing = read_csv(table("a.jpg,Ann\nb.jpg,Bob\n"))
        assert listing.filenames == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
        assert listing.identities == ["Ann", "Bob"]
        assert listing.cameras is None
        assert listing.splits == ["train", "train"]
        assert [*listing.places] == [f"{tmp_path}/people.csv, line {line}" for line in (1, 2)]

    def test_a_row_of_four_cells_has_camera_and_split(self, table):
        listing = read_csv(table("a.jpg,Ann,left,query\nb.jpg,Ann,right,gallery"))
        assert listing.cameras == ["left", "right"]
        assert listing.splits == ["query", "gallery"]

    @pytest.mark.parametrize("cells", [["query", "gallery"], ["query", ""], ["Query", "GALLERY"]])
    def test_a_third_column_of_split_names_is_the_split(self, table, cells):
        listing = read_csv(table(f"a.jpg,Ann,{cells[0]}\nb.jpg,Bob,{cells[1]}\n"))
        assert listing.cameras is None
        assert listing.splits == [cell.lower() or "train" for cell in cells]

    @pytest.mark.parametrize("cells", [["train", "1"], ["1", "2"], ["query", "querier"]])
    def test_any_other_third_column_is_the_camera(self, table, cells):
        listing = read_csv(table(f"a.jpg,Ann,{cells[0]}\nb.jpg,Bob,{cells[1]}\n"))
        assert listing.cameras == cells
        assert listing.splits == ["train", "train"]

    @pytest.mark.parametrize("header", ["path,identity,camera", " PATH , Identity,CAMERA"])
    def test_a_header_names_the_third_column(self, table, header):
        listing = read_csv(table(f"{header}\na.jpg,Ann,train\n"))
        assert listing.cameras == ["train"]
        assert listing.places[0].endswith("line 2")

    def test_columns_in_any_order_and_unknown_ones(self, table):
        text = "split,age,identity,path,\nquery,7,Ann,a.jpg,\ngallery,,Bob,b.jpg,x\n"
        assert entries(read_csv(table(text))) == (
            ["a.jpg", "b.jpg"],
            ["Ann", "Bob"],
            None,
            ["query", "gallery"],
        )

    def test_an_empty_split_is_train(self, table):
        listing = read_csv(table("path,identity,split\na.jpg,Ann,\nb.jpg,Bob,query\n"))
        assert listing.splits == ["train", "query"]

    @pytest.mark.parametrize("text", ["a.jpg,Ann,,\nb.jpg,Bob,,\n", "a.jpg,Ann,\nb.jpg,Bob,\n"])
    def test_cameras_that_are_all_empty_are_not_known(self, table, text):
        listing = read_csv(table(text))
        assert listing.cameras is None
        assert listing.splits == ["train", "train"]


class TestCells:
    @pytest.mark.parametrize("encode", [str.encode, lambda t: codecs.BOM_UTF8 + t.encode()])
    @pytest.mark.parametrize("header", ["", "path,identity\n"])
    def test_utf_8_with_and_without_a_mark(self, table, encode, header):
        assert read_csv(table(encode(header + "a.jpg,Zoë\n"))).identities == ["Zoë"]

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_each_kind_of_line_end_counts_as_one(self, table, end):
        listing = read_csv(table(end.join(["a.jpg,Ann", "", "b.jpg,Bob"])))
        assert listing.identities == ["Ann", "Bob"]
        assert [place.rpartition(" ")[2] for place in listing.places] == ["1", "3"]

    def test_cells_in_quotes_may_hold_commas_quotes_and_line_ends(self, table, tmp_path):
        (tmp_path / 'an, "odd"\nname.jpg').touch()
        text = 'a.jpg, "Ann, Bob"\n"an, ""odd""\nname.jpg",C\nb.jpg,D\n'
        listing = read_csv(table(text))
        assert entries(listing)[0] == ["a.jpg", 'an, "odd"\nname.jpg', "b.jpg"]
        assert listing.identities == ["Ann, Bob", "C", "D"]
        # The place is where a row starts.
        assert [place.rpartition(" ")[2] for place in listing.places] == ["1", "2", "4"]

    def test_space_and_empty_lines_are_passed_over(self, table):
        listing = read_csv(table("\n  \n , \n a.jpg ,\tAnn \n,\n\nb.jpg,Bob\n\n"))
        assert entries(listing)[:2] == (["a.jpg", "b.jpg"], ["Ann", "Bob"])

    def test_absolute_paths_are_kept(self, table, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        image = tmp_path / "elsewhere" / "x.jpg"
        image.touch()
        assert read_csv(table(f"{image},Ann\n")).filenames == [str(image)]

    def test_a_table_named_without_a_folder(self, table, monkeypatch):
        path = table("a.jpg,Ann\n")
        monkeypatch.chdir(path.parent)
        assert read_csv("people.csv").filenames == ["a.jpg"]


def quote(cell, separator):
    return f'"{cell}"' if separator in cell or (separator == " " and " " in cell) else cell


class TestForms:
    """Lists as other programs write them: separators, header names, Windows."""

    ROWS = [("sub/a.jpg", "Ann", "c1"), ("sub/b.jpg", "Bob", "c2"), ("sub/c d.jpg", "C, D", "c1")]

    @pytest.fixture
    def images(self, tmp_path):
        (tmp_path / "sub").mkdir()
        for name, _, _ in self.ROWS:
            (tmp_path / name).touch()

    @pytest.mark.parametrize("separator", [",", ";", "\t", " ", "   ", " \t ", ",  "])
    @pytest.mark.parametrize(
        "header",
        [
            None,
            "path identity camera",
            "image_path person_id camera_id",
            "fid pid camid",
            "Filename PID cam",
            "img-path ID Camera",
            "image vehicleID cameraID",
            "image_name item_id camera",
            "path class_id cam",
        ],
    )
    @pytest.mark.parametrize("start", ["", "\ufeff"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_separators_and_headers(self, table, images, tmp_path, separator, header, start, end):
        lines = [*([header.split()] if header else []), *self.ROWS]
        listing = read_csv(table(start + self.write(lines, separator, end)))
        self.check(listing, tmp_path)

    @pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("mark", ["sep=", "SEP=", "\ufeffsep="])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_the_mark_of_excel(self, table, images, tmp_path, separator, mark, end):
        text = self.write(self.ROWS, separator, end)
        listing = read_csv(table(f"{mark}{separator}{end}{text}"))
        self.check(listing, tmp_path)
        assert listing.places[0].endswith("line 2")

    def write(self, lines, separator, end):
        mark = separator.strip(" ") or " "
        return end.join(separator.join(quote(cell, mark) for cell in line) for line in lines)

    def check(self, listing, directory):
        assert listing.filenames == [str(directory / name) for name, _, _ in self.ROWS]
        assert listing.identities == ["Ann", "Bob", "C, D"]
        assert listing.cameras == ["c1", "c2", "c1"]

    @pytest.mark.parametrize("order", [*itertools.permutations(range(4))])
    @pytest.mark.parametrize("separator", [",", " "])
    def test_the_columns_of_a_header_in_any_order(self, table, order, separator):
        columns = [("fid", "a.jpg"), ("pid", "7"), ("id", "1"), ("split", "query")]
        rows = zip(*(columns[i] for i in order), strict=True)
        listing = read_csv(table("\n".join(separator.join(row) for row in rows)))
        # A person's number is a better identity than a row's.
        assert entries(listing) == (["a.jpg"], ["7"], None, ["query"])

    @pytest.mark.parametrize("separator", [",", ";", " "])
    def test_the_identity_may_come_first_without_a_header(self, table, separator):
        listing = read_csv(table(f"7{separator}a.jpg\n8{separator}b.jpg\n"))
        assert entries(listing)[:2] == (["a.jpg", "b.jpg"], ["7", "8"])

    @pytest.mark.parametrize("header", ["", "path,identity\n"])
    def test_separators_of_windows_are_read(self, table, images, tmp_path, header):
        listing = read_csv(table(f"{header}sub\\a.jpg,1\r\n.\\sub\\b.jpg,2\r\n"))
        assert [os.path.normpath(name) for name in listing.filenames] == [
            str(tmp_path / "sub" / name) for name in ("a.jpg", "b.jpg")
        ]

    def test_a_name_may_have_a_backslash(self, table, tmp_path):
        (tmp_path / "x\\y.jpg").touch()
        assert read_csv(table("x\\y.jpg,1\n")).filenames == [str(tmp_path / "x\\y.jpg")]

    def test_a_third_column_of_other_splits_is_no_camera(self, table):
        message = error_of(table("a.jpg,Ann,train\nb.jpg,Bob,test\n"))
        assert "line 2: the split 'test' is unknown" in message

    def test_one_person_can_be_called_so(self, table):
        assert read_csv(table("a.jpg,Val\n")).identities == ["Val"]

    @pytest.mark.parametrize("identity", ["train", "bounding_box_test"])
    def test_splits_are_no_identities(self, table, identity):
        assert "not identities" in error_of(table(f"a.jpg,{identity}\nb.jpg,query\n"))

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("x.zip", b"PK\3\4", "an archive, not a list of images: unpack it"),
            ("x.csv", b"PK\3\4rest", "an archive"),
            ("x.tar.gz", b"\x1f\x8b", "an archive"),
            ("x.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
            ("x", b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
            ("x.mat", b"MATLAB 5.0 MAT-file", "a MATLAB file"),
            ("x.npz", b"PK\3\4", "an archive"),
            ("x.pkl", b"\x80", "another program"),
            ("x.csv", b"\x89PNG\r\n\x1a\n", "an image"),
            ("a.jpg", b"", "name the folder of the images"),
            ("x.webp", b"", "an image of another format"),
            ("x", b"GIF89a", "convert the images to .jpg"),
            ("x.lmdb", b"", "another program"),
            ("x.mp4", b"\0\0", "a video"),
            ("x.xlsx", b"", "save the table as CSV"),
        ],
    )
    def test_what_is_no_list_is_named(self, tmp_path, name, content, words):
        (tmp_path / name).write_bytes(content)
        message = error_of(tmp_path / name)
        assert message.startswith(str(tmp_path / name))
        assert words in message

    @pytest.mark.parametrize("text", ["Read me first.\n", "This data set\nhas images.\n", "x"])
    def test_a_text_that_is_no_list_has_no_images(self, tmp_path, text):
        (tmp_path / "readme.txt").write_text(text)
        with pytest.raises(DataError, match=r"readme.txt, line [12]: ") as error:
            read_csv(tmp_path / "readme.txt")
        assert "\n" not in str(error.value)


class TestPatterns:
    """What the list has no column for is read from the names."""

    PATTERN = NamePattern(r"(?P<identity>[a-z])\.jpg")

    def test_a_list_of_paths_alone(self, table):
        listing = read_csv(table("a.jpg\nb.jpg\n"), self.PATTERN)
        assert entries(listing)[:2] == (["a.jpg", "b.jpg"], ["a", "b"])

    def test_a_column_comes_first(self, table):
        assert read_csv(table("a.jpg,Ann\n"), self.PATTERN).identities == ["Ann"]

    def test_a_header_without_identities(self, table):
        assert read_csv(table("path,age\na.jpg,3\n"), self.PATTERN).identities == ["a"]

    def test_names_with_spaces(self, table, tmp_path):
        (tmp_path / "x y.jpg").touch()
        pattern = NamePattern(r"x (?P<identity>.)")
        assert read_csv(table("x y.jpg\n"), pattern).identities == ["y"]

    def test_a_name_of_another_form(self, table):
        path = table("a.jpg\nB.jpg\n")
        with pytest.raises(DataError, match="line 2: 'B.jpg' does not match"):
            read_csv(path, self.PATTERN)

    @pytest.mark.parametrize("folder", ["train", "mask_train_v2", "mask_test_v2"])
    def test_cameras_of_msmt17_are_read_from_the_names(self, tmp_path, folder):
        names = [f"0000/0000_000_0{camera}_0303morning_0008_0.jpg" for camera in (1, 4)]
        for name in names:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).touch()
        (tmp_path / "list_train.txt").write_text("".join(f"{name} 0\n" for name in names))
        listing = read_csv(tmp_path / "list_train.txt", NamePattern("msmt17"))
        assert listing.filenames == [str(tmp_path / folder / name) for name in names]
        assert (listing.identities, listing.cameras) == (["0", "0"], ["01", "04"])

    def test_identities_and_cameras_of_veri_are_read_from_the_names(self, tmp_path):
        (tmp_path / "image_query").mkdir()
        (tmp_path / "image_query" / "0002_c002_00030600_0.jpg").touch()
        (tmp_path / "name_query.txt").write_text("0002_c002_00030600_0.jpg\n")
        listing = read_csv(tmp_path / "name_query.txt", NamePattern("veri"))
        assert (listing.identities, listing.cameras) == (["0002"], ["002"])

    def test_images_of_vehicleid_are_found_beside_the_folder_of_the_list(self, tmp_path):
        for folder in ("image", "train_test_split"):
            (tmp_path / folder).mkdir()
        for number in (1, 2):
            (tmp_path / "image" / f"000000{number}.jpg").touch()
        path = tmp_path / "train_test_split" / "train_list.txt"
        path.write_text("0000001 12\n0000002 345\n")
        listing = read_csv(path, NamePattern("vehicleid"))
        assert listing.identities == ["12", "345"]
        assert listing.filenames[1] == str(tmp_path / "image" / "0000002.jpg")


class TestManyRows:
    """A list of a million images is read in little memory, by few calls to the system."""

    NUM_FOLDERS, NUM_FILES = 20, 500

    @pytest.fixture
    def many(self, tmp_path):
        rows = []
        for folder in range(self.NUM_FOLDERS):
            (tmp_path / f"{folder}").mkdir()
            rows += [f"{folder}/{number}.jpg,{folder}" for number in range(self.NUM_FILES)]
        for row in rows:
            (tmp_path / row.partition(",")[0]).touch()
        (tmp_path / "many.csv").write_text("\n".join(rows))
        return tmp_path / "many.csv"

    def test_a_row_takes_less_than_100_bytes_beside_its_name(self, many):
        read_csv(many)  # what is made once
        tracemalloc.start()
        try:
            listing = read_csv(many)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        names = sum(map(sys.getsizeof, listing.filenames))
        assert peak - names < 100 * len(listing)

    def test_files_are_not_asked_for_one_by_one(self, many, monkeypatch):
        calls = []
        isfile = os.path.isfile
        monkeypatch.setattr(os.path, "isfile", lambda path: calls.append(path) or isfile(path))
        assert len(read_csv(many)) == self.NUM_FOLDERS * self.NUM_FILES
        assert len(calls) < 10

    def test_the_one_that_is_missing_is_found(self, many):
        (many.parent / "7" / "77.jpg").unlink()
        (many.parent / "7" / "78.jpg").unlink()
        (many.parent / "7" / "78.jpg").mkdir()
        message = error_of(many, MissingPathError)
        assert f"line {7 * self.NUM_FILES + 78}: " in message
        assert "2 of 10000" in message


class TestErrors:
    @pytest.mark.parametrize(
        "text, line, words",
        [
            ("path,name\na.jpg,Ann\n", 1, ["no column identity", "'path,name'"]),
            ("camera,identity\n1,Ann\n", 1, ["no column path", "'camera,identity'"]),
            ("path,identity,Path\na.jpg,Ann,b\n", 1, ["has path twice"]),
            ("a.jpg,Ann\nb.jpg\n", 2, ["1 cell,", "2 columns"]),
            ("a.jpg,Ann\n\nb.jpg,Bob,1\n", 3, ["3 cells", "2 columns"]),
            ("path,identity\na.jpg,Ann,1\n", 2, ["3 cells", "2 columns"]),
            ("path,identity,camera\na.jpg,Ann\n", 2, ["2 cells", "3 columns"]),
            ("a.jpg,Ann,1,train,x\n", 1, ["5 cells", "path,identity[,camera][,split]"]),
            ("a.jpg\n", 1, ["1 cell,", "path,identity[,camera][,split]"]),
            ("a.jpg,Ann\nb.jpg;Bob\n", 2, ["separated alike", "';'"]),
            ("a.jpg,Ann\nb.jpg\tBob\n", 2, ["separated alike", "'\\t'"]),
            ("a.jpg,Ann\n ,Bob\n", 2, ["path is empty"]),
            ("a.jpg,\n", 1, ["identity is empty"]),
            ("a.jpg,Ann,1,train\nb.jpg,Bob,1,test\n", 2, ["'test'", *SPLITS]),
            ("path,identity,split\na.jpg,Ann,1\n", 2, ["'1'", *SPLITS]),
            ("a.jpg,Ann,1\nb.jpg,Bob,\nc.jpg,C,\n", 2, ["no camera", "line 1 has", "2 rows"]),
            ('a.jpg,Ann\n"b.jpg,Bob\nc.jpg,C\n', 2, ["unexpected end of data", "quotes"]),
            ('a.jpg,Ann\nb.jpg,"B" C\n', 2, ["quotes"]),
            (f"a.jpg,Ann\nb.jpg,{'B' * 200_000}\n", 2, ["field limit"]),
            ("a.jpg,Ann\nb.jpg,B\0b\n", 2, ["NUL"]),
            (b"a.jpg,Ann\r\nb.jpg,Zo\xeb\r\n", 2, ["not UTF-8"]),
            ("a.jpg,Ann\n".encode("utf-16"), 1, ["not UTF-8"]),
            ("a.jpg,Ann\nb.jpg,-1\n", 2, ["junk"]),
        ],
    )
    def test_the_message_names_file_and_line(self, table, text, line, words):
        path = table(text)
        message = error_of(path)
        assert message.startswith(f"{path}, line {line}")
        assert not message.startswith(f"{path}, line {line}0")
        for word in words:
            assert word in message

    @pytest.mark.parametrize("content", ["", "\n\n", codecs.BOM_UTF8, " , \n"])
    def test_an_empty_file(self, table, content):
        path = table(content)
        assert error_of(path).startswith(f"{path} is empty")

    def test_a_header_alone(self, table):
        assert "holds no images" in error_of(table("path,identity\n"))

    def test_images_that_do_not_exist(self, table):
        path = table("a.jpg,Ann\nx.jpg,Ann\nb.jpg,Bob\ny.jpg,Bob\n")
        message = error_of(path, MissingPathError)
        assert message.startswith(f"{path}, line 2")
        assert "x.jpg" in message
        assert "2 of 4 images" in message
        assert "header" not in message

    def test_a_header_with_other_names_is_taken_for_one(self, table):
        message = error_of(table("a_file,a_person\na.jpg,Ann\nb.jpg,Bob\n"), MissingPathError)
        assert message.endswith(
            "if it is a header, call its columns path, identity, camera and split"
        )

    @pytest.mark.parametrize("name", ["x" * 5000, ".", "../" * 3])
    def test_paths_that_are_no_files(self, table, name):
        assert "line 1" in error_of(table(f"{name},Ann\n"), MissingPathError)

    def test_no_such_table(self, tmp_path):
        message = error_of(tmp_path / "people.csv", MissingPathError)
        assert message.startswith(f"{tmp_path}/people.csv does not exist")

    def test_a_folder_in_place_of_the_list_is_refused(self, tmp_path):
        assert "is a folder, not a CSV file" in error_of(tmp_path)

    def test_an_identity_in_training_and_test(self, table):
        message = error_of(table("a.jpg,Ann,train\nb.jpg,Ann,query\n"))
        assert "line 1) and in query" in message
        assert "line 2)" in message

    def test_a_file_of_two_identities(self, table):
        message = error_of(table("a.jpg,Ann\nb.jpg,Bob\n./a.jpg,Bob\n"))
        assert "line 1)" in message
        assert "line 3)" in message


CSV_PIECES = st.sampled_from(
    [",", '"', '""', "\n", "\r", "\r\n", " ", ";", "\0", "\ufeff", "a.jpg", "Ann", "-1", ".."]
    + ["path", "identity", "camera", "split", *SPLITS]
)
RANDOM_FILES = (
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
    | st.lists(CSV_PIECES | st.text(max_size=3), max_size=40).map(
        lambda pieces: "".join(pieces).encode("utf-8", "replace")
    )
)


@settings(max_examples=400)
@given(RANDOM_FILES)
@example(b"train\ta.jpg")  # a single person may have this name, in a list
def test_any_file_gives_a_listing_or_one_clear_line(content):
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "a.jpg").touch()
        path = Path(directory, "people.csv")
        path.write_bytes(content)
        try:
            listing = read_csv(path)
        except DataError as error:
            assert str(path) in str(error)
            assert len(str(error).splitlines()) == 1
        else:
            assert len(listing) == len(listing.check(is_list=True).splits)


# Neither control characters, but for line ends, nor what the file system refuses.
CELLS = (
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from(',"\n\r;'), max_size=12
    )
    .map(str.strip)
    .filter(lambda text: text.lower() not in ("path", "identity", "camera", "split"))
)
NAMES = CELLS.filter(lambda text: text not in ("", "-1"))
IDENTITIES = NAMES.filter(lambda text: not (find_suspects([text]) or is_camera(text)))


@settings(max_examples=100)
@given(st.data(), st.integers(1, 5), st.booleans(), st.booleans())
def test_written_rows_are_read_back(data, num_rows, has_header, quote_all):
    identities = data.draw(st.lists(IDENTITIES, min_size=num_rows, max_size=num_rows))
    cameras = data.draw(st.lists(NAMES, min_size=num_rows, max_size=num_rows))
    split = st.sampled_from(SPLITS)
    by_identity = {i: data.draw(st.just("train") | split) for i in identities}
    splits = [by_identity[i] for i in identities]
    stems = data.draw(st.lists(NAMES, min_size=num_rows, max_size=num_rows))
    paths = [f"{row}{stem.replace('/', '_')}.jpg" for row, stem in enumerate(stems)]
    # Without a header, a first line that ends within a name does not tell the separator.
    assume(has_header or not set("".join((*paths, *identities, *cameras))) & set("\r\n"))
    rows = list(zip(paths, identities, cameras, splits, strict=True))
    with tempfile.TemporaryDirectory() as directory:
        for name in paths:
            Path(directory, name).touch()
        path = Path(directory, "people.csv")
        with open(path, "w", encoding="utf-8", newline="") as file:
            quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
            csv.writer(file, quoting=quoting).writerows(
                [("path", "identity", "camera", "split")] * has_header + rows
            )
        listing = read_csv(path)
        assert listing.filenames == [os.path.join(directory, name) for name in paths]
    assert (listing.identities, listing.cameras, listing.splits) == (identities, cameras, splits)
