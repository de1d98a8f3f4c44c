"""The seeds of samples: consecutive within a prompt, so that one request can draw them, and apart between prompts."""

from fairplay.seeds import consecutive_runs, sample_seeds


def test_a_prompts_seeds_follow_each_other_and_more_of_them_keep_the_first():
    five = sample_seeds(5, 0, "responses", 1, "p")
    assert five == list(range(five[0], five[0] + 5))
    assert sample_seeds(3, 0, "responses", 1, "p") == five[:3]
    assert 0 <= five[0] <= five[-1] < 2**63


def test_no_two_prompts_share_a_seed():
    """As they would if a prompt's seeds began one after the last prompt's: there, sample 2 is the next one's first."""
    seeds = [seed for i in range(20_000) for seed in sample_seeds(5, 0, "responses", 1, f"p{i}")]
    assert len(set(seeds)) == len(seeds)
    assert not set(sample_seeds(5, 0, "responses", 2, "p0")) & set(seeds)
    assert not set(sample_seeds(5, 1, "responses", 1, "p0")) & set(seeds)


def test_seeds_are_cut_where_they_do_not_follow_each_other_or_the_run_is_full():
    def cut(seeds, longest=9):
        return [list(run) for run in consecutive_runs(seeds, longest=longest)]

    assert cut([4, 5, 6]) == [[4, 5, 6]]
    assert cut([4, 6, 7, 3, 3]) == [[4], [6, 7], [3], [3]]
    assert cut([4, 5, 6, 7, 8], longest=2) == [[4, 5], [6, 7], [8]]
    assert cut([]) == []
