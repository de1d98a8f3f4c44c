from fairplay.headline import MISSING_LIMIT, MISSING_WARNING, headline_document, missing_fault, missing_share

RESULT = {
    "win_rate": 0.6,
    "lc_win_rate": 0.5,
    "num_judgements": 95,
    "dropped": {"refused": 5},
    "statistics": {"lc_extrapolates": False},
    "worst_case": {"low": 0.57, "high": 0.62},
}


def test_up_to_five_in_a_hundred_may_be_missing_and_no_more():
    assert not missing_fault(missing_share(95, {"refused": 3, "cut reply": 2}))
    assert missing_fault(missing_share(94, {"refused": 6})) == ["6.0 % of the pairs have no verdict"]
    assert MISSING_WARNING < MISSING_LIMIT


def test_an_alarm_withholds_the_headline_and_leaves_the_bounds():
    assert headline_document(RESULT, [])["headline"] == {"win_rate": 0.6, "lc_win_rate": 0.5}
    told = headline_document(RESULT, ["It sings."])
    assert (told["headline"], told["headline_withheld"]) == (None, "It sings.")
    assert told["worst_case"] == RESULT["worst_case"]


def test_an_extrapolated_win_rate_is_no_part_of_the_headline():
    told = headline_document({**RESULT, "statistics": {"lc_extrapolates": True}}, [])
    assert told["headline"] == {"win_rate": 0.6, "lc_win_rate": None}


def test_a_result_of_an_older_release_has_no_bounds_and_no_headline():
    assert headline_document({**RESULT, "worst_case": {}}, []) == {}
