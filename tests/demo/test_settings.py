"""The settings panel: what comes back from its fields, and what of it is refused."""

from __future__ import annotations

import pytest

from mminstruct.demo.settings import read, stop_texts
from mminstruct.errors import ConfigError
from mminstruct.serving.settings import GenerationSettings


def test_values_of_the_fields_become_settings() -> None:
    settings, system = read([20.0, 0.7, 0.9, 40, 0.05, 1.1, " 7 ", "END\n\\n\\n\n", " Be brief. "])
    assert settings == GenerationSettings(
        max_new_tokens=20,
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        repetition_penalty=1.1,
        seed=7,
        stop=("END", "\n\n"),
    )
    assert system == "Be brief."


def test_empty_fields_mean_nothing_special() -> None:
    settings, system = read([512, 0, 1, 0, 0, 1, "", "", " "])
    assert settings == GenerationSettings() and system is None
    assert read([512, 0, 1, 0, 0, 1, None, None, None])[0] == GenerationSettings()


@pytest.mark.parametrize("place", range(6))
def test_a_number_that_is_none_is_told_in_the_words_of_the_page(place: int) -> None:
    values = [20, 0, 1, 0, 0, 1, "", "", ""]
    values[place] = float("nan")
    with pytest.raises(ConfigError, match=r"^the settings: [A-Z]"):
        read(values)


def test_a_backslash_is_written_twice() -> None:
    assert stop_texts("a\\\\n\nb\\tc") == ("a\\n", "b\tc")
