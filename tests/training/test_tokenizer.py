from evenreel.training.mini import tokenizer
from evenreel.world import captions, random_scene
from evenreel.world.captions import vocabulary


def test_every_word_of_a_caption_is_one_token() -> None:
    built = tokenizer.build()
    for seed in range(30):
        for text in captions(random_scene(seed)):
            words = text.replace(",", " ,").split()
            assert len(built(text).input_ids) == len(words) + 2, text


def test_other_words_survive_as_bytes() -> None:
    built = tokenizer.build()
    assert (
        built.decode(built("a zebra naïve 7", add_special_tokens=False).input_ids).strip()
        == "a zebra naïve 7"
    )


def test_building_it_again_gives_the_same() -> None:
    assert tokenizer.build().get_vocab() == tokenizer.build().get_vocab()
    assert len(vocabulary()) > 70
