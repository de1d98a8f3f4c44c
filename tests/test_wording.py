from fairplay.wording import plural


def test_one_is_singular_and_all_else_plural():
    assert [plural(count, "prompt") for count in (0, 1, 2, 1200)] == [
        "0 prompts",
        "1 prompt",
        "2 prompts",
        "1,200 prompts",
    ]
