"""JSON files: whole or not at all, and damage told in one sentence."""

import json

import pytest

from imgcls_jax.errors import UserError
from imgcls_jax.record.json_files import read_json, read_json_lines, write_json


def test_what_was_written_is_read(tmp_path):
    document = {"a": [1, 2.5, None], "b": "größe"}
    write_json(tmp_path / "x.json", document)
    assert read_json(tmp_path / "x.json") == document
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", object())
    assert read_json(tmp_path / "x.json") == 1


def test_lines_and_one_that_is_being_written(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert read_json_lines(path) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n{"a"\n{"a": 3}\n')
    with pytest.raises(UserError, match=r"x\.jsonl, line 2 is damaged: it is not JSON"):
        read_json_lines(path)


@pytest.mark.parametrize("content", [b"", b'{"a": ', json.dumps("\u00fc").encode("utf-16")])
def test_damage_is_one_sentence(content, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.json is damaged: it is not JSON"):
        read_json(path)
    with pytest.raises(UserError, match="^there is no file .*y.json$"):
        read_json(tmp_path / "y.json")
