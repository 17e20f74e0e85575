import random

import pytest

import search_spaces
from search_spaces import Space, SpaceError, load, presets

NAMES = ["all-linear", "attention", "attention-mlp", "attention-qv", "quick", "rank-grid"]


def test_presets_are_named_and_described():
    assert list(presets()) == NAMES
    for name, preset in presets().items():
        assert preset.name == name
        assert preset.description.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_validates_and_samples(name, tmp_path):
    space = load(name, tmp_path)
    sample = space.sample(random.Random(0))
    assert sample["alpha"] == 2 * sample["rank"]
    assert Space.parse(space.to_dict()) == space


def test_rank_grid_fits_the_default_number_of_trials(tmp_path):
    assert len(load("rank-grid", tmp_path).grid()) == 15


def test_an_unknown_name_lists_the_presets(tmp_path):
    with pytest.raises(SpaceError) as error:
        load("atention", tmp_path)
    assert str(error.value) == (
        "space: must be a preset, a YAML file, or the space itself, got 'atention'. "
        "Did you mean 'attention'? Presets: all-linear, attention, attention-mlp, attention-qv, quick, rank-grid."
    )


def test_a_file_is_found_relative_to_the_base(tmp_path):
    (tmp_path / "mine.yaml").write_text("rank: [2, 4]\n")
    (tmp_path / "copied.yaml").write_text("description: A copy.\nspace: {rank: [2, 4]}\n")
    (tmp_path / "empty.yaml").write_text("")
    assert load("mine.yaml", tmp_path) == load("copied.yaml", tmp_path) == Space.parse({"rank": [2, 4]})
    assert load("empty.yaml", tmp_path) == Space.parse({})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"rank: 0", "space (mine.yaml).rank: must be a whole number of at least 1, got 0"),
        (b"rank: [", "space (mine.yaml): line 1, column 8: must be valid YAML"),
        (b"\xff\xfe", "space (mine.yaml): must be text in UTF-8"),
    ],
)
def test_errors_in_a_file_name_it(tmp_path, content, message):
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(SpaceError) as error:
        load("mine.yaml", tmp_path)
    assert str(error.value).startswith(message)


def test_a_missing_file(tmp_path):
    with pytest.raises(SpaceError, match=r"^space: file must exist, got .*gone\.yaml'\. Or name a preset: all-linear"):
        load("gone.yaml", tmp_path)


def test_what_is_no_space(tmp_path):
    with pytest.raises(SpaceError, match=r"^space: must be a preset, a YAML file, or the space itself, got 3$"):
        load(3, tmp_path)


def test_public_names():
    assert search_spaces.__all__ == sorted(search_spaces.__all__)
    assert all(hasattr(search_spaces, name) for name in search_spaces.__all__)
