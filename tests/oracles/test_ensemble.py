"""The ensemble: members at their own temperatures, means of logits or probabilities, and how far they disagree."""

import numpy as np
import pytest
from scipy.special import expit

from fairplay.errors import DataError, SettingsError
from fairplay.oracles.ensemble import EnsembleOracle, mean_of_probabilities
from fairplay.oracles.kinds.pair_model import PairModelSettings
from fairplay.oracles.kinds.recorded import RecordedSettings
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.oracles.settings import EnsembleSettings
from fairplay.oracles.table import build_oracle, oracle_identity
from fairplay.preferences.audit import audit_preferences
from fairplay.records import PreferenceGroup
from oracles.tiny import group_of, save_pair_model

GROUP = group_of("a", "b", "c")


class Fixed:
    """An oracle that says what it is told to."""

    def __init__(self, logits, *, temperature=1.0, truncated=(False,) * 3, anchors=()):
        self.name, self.temperature = "fixed", temperature
        self.logits, self.truncated, self.anchors = logits, truncated, anchors

    def pair_logits(self, groups):
        return [PreferenceGroup(group, self.logits, self.truncated, anchors=self.anchors) for group in groups]


ONE = ((0.0, 1.0, 2.0), (-0.5, 0.0, 4.0), (-2.0, -4.0, 0.0))
OTHER = ((0.0, 6.0, -2.0), (2.0, 0.0, 0.0), (2.0, 0.0, 0.0))


def combined(*members, combine="logits", temperature=1.0):
    (judged,) = EnsembleOracle(members, combine=combine, temperature=temperature).pair_logits([GROUP])
    return judged


def test_logits_are_averaged_at_each_members_own_temperature():
    judged = combined(Fixed(ONE), Fixed(OTHER, temperature=2.0))
    np.testing.assert_allclose(judged.pair_logits, (np.asarray(ONE) + np.asarray(OTHER) / 2) / 2, rtol=1e-15)


def test_probabilities_are_averaged_in_each_order():
    judged = combined(Fixed(ONE), Fixed(OTHER, temperature=2.0), combine="probs")
    expected = (expit(np.asarray(ONE)) + expit(np.asarray(OTHER) / 2)) / 2
    np.testing.assert_allclose(expit(np.asarray(judged.pair_logits)), expected, rtol=1e-12)


def test_the_mean_of_sure_probabilities_is_a_finite_logit():
    logits = mean_of_probabilities(np.asarray([[[0.0, 900.0], [-900.0, 0.0]], [[0.0, 800.0], [-800.0, 0.0]]]))
    assert logits[0, 1] == pytest.approx(800 + np.log(2))
    np.testing.assert_array_equal(logits, -logits.T)


def test_the_disagreement_is_the_deviation_of_the_members_probabilities_and_is_audited():
    judged = combined(Fixed(ONE), Fixed(OTHER, temperature=2.0))
    probs = expit(np.asarray([(1.0 + 0.5) / 2, (6.0 - 2.0) / 2 / 2]))
    assert judged.disagreement[0][1] == pytest.approx(probs.std())
    assert judged.disagreement[1][0] == pytest.approx(probs.std())
    assert judged.disagreement[0][0] == 0.0
    audit = audit_preferences([judged], temperature=1.0)
    assert audit["member_disagreement"] == pytest.approx(
        np.mean([judged.disagreement[i][j] for i, j in ((0, 1), (0, 2), (1, 2))])
    )
    assert combined(Fixed(ONE), Fixed(ONE)).disagreement == ((0.0,) * 3,) * 3
    assert "member_disagreement" not in audit_preferences([Fixed(ONE).pair_logits([GROUP])[0]], temperature=1.0)


def test_a_pair_has_the_orders_that_all_members_read():
    half = ((0.0, 6.0, None), (None, 0.0, 0.0), (2.0, 0.0, 0.0))
    judged = combined(Fixed(ONE), Fixed(half))
    assert judged.pair_logits == ((0.0, 3.5, None), (None, 0.0, 2.0), (0.0, -2.0, 0.0))
    assert judged.disagreement[0][1] == pytest.approx(expit(np.asarray([0.75, 6.0])).std())


def test_a_pair_that_one_member_did_not_compare_has_no_verdict():
    anchored = ((0.0, 6.0, 1.0), (2.0, 0.0, None), (2.0, None, 0.0))
    judged = combined(Fixed(ONE), Fixed(anchored, anchors=(0,)))
    assert (judged.pair_logits[1][2], judged.pair_logits[2][1]) == (None, None)
    assert judged.disagreement[1][2] is None
    assert judged.anchors == (0,)


def test_what_one_member_read_only_in_part_is_flagged():
    assert combined(Fixed(ONE, truncated=(False, True, False)), Fixed(OTHER)).truncated == (False, True, False)


def test_members_are_built_by_their_settings_and_named(tmp_path):
    members = (
        PairModelSettings(model=str(save_pair_model(tmp_path / "pair")), temperature=2.0),
        RuleSettings(function="oracles.tiny:length_rule"),
    )
    oracle = build_oracle(EnsembleSettings(members=members, combine="probs", temperature=1.5))
    assert oracle.name.startswith("ensemble:probs(pair_model:pair@")
    assert oracle.name.endswith(", rule:oracles.tiny:length_rule)")
    assert oracle.temperature == 1.5
    (judged,) = oracle.pair_logits([group_of("red", "green cat")])
    first, second = (member.build().pair_logits([group_of("red", "green cat")])[0] for member in members)
    p = (expit(first.pair_logits[0][1] / 2.0) + expit(second.pair_logits[0][1])) / 2
    assert expit(judged.pair_logits[0][1]) == pytest.approx(p, rel=1e-6)


def test_the_place_of_a_member_does_not_identify_the_ensemble_but_its_content_does(tmp_path):
    rule = RuleSettings(function="oracles.tiny:length_rule")
    ensembles = []
    for name in ("one", "two"):
        (tmp_path / name).write_text("{}")
        ensembles.append(EnsembleSettings(members=(RecordedSettings(records=str(tmp_path / name)), rule)))
    found = [oracle_identity(one) for one in ensembles]
    assert found[0][0] == found[1][0]
    assert [source.digest() for source in found[0][1].values()] == [source.digest() for source in found[1][1].values()]
    assert sorted(found[0][1]) == ["members.0.records", "members.1.code"]


def test_as_a_judge_every_member_reads_every_pair_in_both_orders():
    pair = PairModelSettings(model="m", orders="one", num_anchors=2)
    ensemble = EnsembleSettings(members=(pair, RuleSettings(function="a:b")))
    assert dict(ensemble.economies()) == {"members.0.orders": "one", "members.0.num_anchors": 2}
    assert not ensemble.as_judge().economies()


def test_settings_that_can_not_be_met_are_refused():
    rule = RuleSettings(function="a:b")
    with pytest.raises(SettingsError, match="members: an ensemble has two or more, not 1"):
        EnsembleSettings(members=(rule,))
    with pytest.raises(SettingsError, match="did you mean `logits`"):
        EnsembleSettings(members=(rule, rule), combine="logit")


def test_a_member_that_fails_is_an_error_that_names_the_prompt():
    rules = tuple(RuleSettings(function=f"oracles.tiny:{name}") for name in ("length_rule", "broken_rule"))
    with pytest.raises(DataError, match="prompt p: the score of response 0 is nan"):
        build_oracle(EnsembleSettings(members=rules)).pair_logits([group_of("cat", "b")])
