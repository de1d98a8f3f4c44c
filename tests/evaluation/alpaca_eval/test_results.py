from dataclasses import replace
from math import isnan

import numpy as np
import pytest

from fairplay.errors import DataError, ServiceError, SettingsError
from fairplay.evaluation.alpaca_eval.difficulty_fit import fit_difficulties
from fairplay.evaluation.alpaca_eval.documents import LEADERBOARD, leaderboard_rows, result_document
from fairplay.evaluation.alpaca_eval.inputs import LcInputs, load_inputs, write_difficulties
from fairplay.evaluation.alpaca_eval.intervals import lc_interval
from fairplay.evaluation.alpaca_eval.length_model import fit
from fairplay.evaluation.alpaca_eval.predicted import predicted_intervals, predicted_win_rates, read_weights
from fairplay.evaluation.alpaca_eval.reading import read_annotations
from fairplay.evaluation.alpaca_eval.results import evaluate_models, model_rows
from fairplay.evaluation.alpaca_eval.rows import ModelRows, length_models
from fairplay.evaluation.alpaca_eval.settings import VARIANTS, AlpacaEvalSettings

from .worlds import official_rows, write

MINIMAL = AlpacaEvalSettings("minimal", num_bootstrap=200)
NOTHING = LcInputs({}, None, "", "")


def results_of(tmp_path, rows, settings=MINIMAL, inputs=NOTHING):
    return evaluate_models(read_annotations([write(tmp_path / "a.json", rows)]), inputs, settings)


def lc_of(result):
    return result.length_control.lc_win_rate


@pytest.mark.parametrize("cost", [0.0, 10.0])
@pytest.mark.parametrize(
    ("preferences", "low", "high"),
    [([2.0] * 6, 50, 100), ([1.0] * 6, 0, 50), ([1.5] * 6, 50, 50), ([2.0], 50, 100), ([1.5], 50, 50)],
    ids=["all wins", "all losses", "all ties", "one win", "one tie"],
)
def test_extreme_verdicts_have_a_defined_answer(preferences, low, high, cost, tmp_path):
    rows = official_rows("one", len(preferences), preferences=preferences)
    (result,) = results_of(tmp_path, rows, AlpacaEvalSettings("minimal", cost, num_bootstrap=200))
    assert low <= lc_of(result) <= high
    interval = result.length_control.interval
    assert 0 <= interval.low <= lc_of(result) <= interval.high <= 100
    assert interval.high > interval.low
    assert "Only " in result.notes[-1]


def test_equal_lengths_leave_the_win_rate_and_say_so(tmp_path):
    rows = [{**row, "output_1": "same size", "output_2": "samesize!"} for row in official_rows("one", 40)]
    (result,) = results_of(tmp_path, rows, AlpacaEvalSettings("minimal", 1e4, num_bootstrap=0))
    assert lc_of(result) == pytest.approx(result.raw.win_rate, abs=1e-2)
    assert "no effect of length" in " ".join(result.notes)
    assert not result.is_partial


def test_a_penalty_that_leaves_nothing_and_an_interval_at_another_c_are_told(tmp_path):
    rows = official_rows("one", 20, preferences=[2.0] * 13 + [1.0] * 7)

    def told(cost, num_bootstrap=200):
        settings = AlpacaEvalSettings("minimal", cost, num_bootstrap=num_bootstrap)
        (result,) = results_of(tmp_path, rows, settings)
        return result_document(result, NOTHING, settings, {}, {}), " ".join(result.notes)

    document, notes = told(1e-4)
    assert document["lc_win_rate"] == 50
    assert (document["C"], document["C_of_interval"]) == (1e-4, pytest.approx(2.7826, abs=1e-4))
    assert "at C = 0.0001 takes all coefficients to 0" in notes
    assert "whose win rate is 65.00" in notes
    assert "its interval at C = 2.783" in notes
    assert "its interval at" not in told(1e-4, num_bootstrap=0)[1]
    document, notes = told(10.0)
    assert document["C_of_interval"] == document["C"]
    assert "C =" not in notes


def test_the_baseline_against_itself_is_half_by_definition(tmp_path):
    rows = [{**row, "generator_2": row["generator_1"]} for row in official_rows("one", 40)]
    (result,) = results_of(tmp_path, rows)
    control = result.length_control
    assert (control.lc_win_rate, control.coefficients, control.prediction_spread) == (50, (0, 0, 0), 0)
    assert isnan(control.cost)


def test_failures_missing_instructions_and_missing_lengths_are_marked_partial(tmp_path):
    rows = official_rows("one", 40)
    rows[3]["preference"] = None
    cut = [{**row, "output_2": None} for row in official_rows("cut", 30)]
    whole, failed = results_of(tmp_path, [*official_rows("whole", 40), *rows])
    assert (whole.is_partial, failed.is_partial) == (False, True)
    assert failed.notes[0] == "The judge failed on 1 of 40 instructions."
    whole, partial = results_of(tmp_path, [*official_rows("whole", 40), *cut])
    assert not whole.is_partial
    assert partial.length_control is None
    assert "10 of 40 instructions" in partial.notes[0]
    assert "30 rows without a length, the first in" in partial.notes[1]
    (nothing,) = results_of(tmp_path, official_rows("none", 3, preferences=[None] * 3))
    assert nothing.is_partial
    assert nothing.length_control is None
    document = result_document(nothing, NOTHING, MINIMAL, {}, {})
    assert (document["win_rate"], document["lc_win_rate"], document["n_failed"]) == (None, None, 3)


def test_instructions_that_only_the_difficulties_know_are_missing(tmp_path):
    inputs = LcInputs({f"What is {n}?": np.sin(n) for n in range(44)}, None, "sines", "")
    settings = AlpacaEvalSettings("noreg", 10.0, num_bootstrap=0)
    (cut,) = results_of(tmp_path, official_rows("one", 40), settings, inputs)
    assert cut.is_partial
    assert cut.notes[0] == "4 of 44 instructions have no annotation of this model."
    assert result_document(cut, inputs, settings, {}, {})["n_missing"] == 4
    (whole,) = results_of(tmp_path, official_rows("one", 44), settings, inputs)
    assert not whole.is_partial


def test_another_judge_s_verdicts_with_the_official_gamed_rows_are_told(tmp_path, official_inputs):
    rows = [
        {"model": "m", "index": n, "judge": judge, "preference": 1 + n % 2, "len_model": 90 + n, "len_baseline": 100}
        for judge in ("weighted_alpaca_eval_gpt4_turbo", "other")
        for n in range(40)
    ]

    def told(variant):
        settings = AlpacaEvalSettings(variant, 10.0, num_bootstrap=0)
        return ["are other's" in " ".join(one.notes) for one in results_of(tmp_path, rows, settings, inputs[variant])]

    inputs = official_inputs
    assert told("v1") == [False, True]
    assert told("minimal") == [False, False]


def test_the_average_length_is_that_of_the_responses_whose_length_is_known(tmp_path):
    rows = official_rows("one", 40)
    rows[0]["output_2"] = None
    (cut,) = results_of(tmp_path, rows)
    assert cut.average_length == np.mean([len(row["output_2"]) for row in rows[1:]])
    assert "1 row without a length, the first in" in cut.notes[0]
    (none,) = results_of(tmp_path, [{**row, "output_2": None} for row in rows])
    assert isnan(none.average_length)


def test_an_instruction_without_a_difficulty_is_named(tmp_path):
    inputs = LcInputs({"What is 0?": 0.5, "What is 1?": 0.1}, None, "difficulties.csv", "")
    with pytest.raises(DataError, match=r"one: difficulties.csv has no difficulty of instruction 'What is 2"):
        results_of(tmp_path, official_rows("one", 4), AlpacaEvalSettings("noreg"), inputs)


def test_one_s_own_prompts_work_with_difficulties_fitted_to_them(tmp_path):
    rows = [row for seed in range(6) for row in official_rows(f"m{'x' * seed}", 40, seed=seed)]
    path = write(tmp_path / "a.json", rows)
    fitted = fit_difficulties(read_annotations([path]), cost=20.0)
    write_difficulties(tmp_path / "d.csv", fitted)
    inputs = load_inputs(VARIANTS["noreg"], difficulty=tmp_path / "d.csv")
    assert inputs.difficulties == fitted
    # What decides these worlds besides length is a sine of the number.
    truth = [np.sin(int(key.split()[2][:-1])) for key in fitted]
    assert np.corrcoef(truth, list(fitted.values()))[0, 1] > 0.75
    results = evaluate_models(read_annotations([path]), inputs, AlpacaEvalSettings("noreg", num_bootstrap=0))
    assert all(result.length_control.coefficients[1] > 0 for result in results)


def test_difficulties_need_several_models_with_lengths(tmp_path):
    with pytest.raises(DataError, match="can't be fitted on 1 models"):
        fit_difficulties(read_annotations([write(tmp_path / "a.json", official_rows("one", 4))]))
    rows = [row for n in range(5) for row in official_rows("m" + "x" * n, 4)]
    rows[-1]["output_2"] = None
    with pytest.raises(DataError, match=r"mxxxx: no length in .* row 20"):
        fit_difficulties(read_annotations([write(tmp_path / "b.json", rows)]))


def test_without_its_files_the_length_control_is_refused_and_nothing_takes_their_place(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ServiceError, match=r"instruction_difficulty.csv is neither in an installed `alpaca_eval`"):
        load_inputs(VARIANTS["v1"])
    assert load_inputs(VARIANTS["minimal"]).gamed is None


def test_the_authors_own_csv_files_are_read(tmp_path):
    (tmp_path / "d.csv").write_text(",instruction_difficulty\n0,0.0\n1,-1.5\n")
    gamed = ["model,index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline"]
    gamed += [f"{name},{i},0.25,{i - 1},{-1.5 * i},False" for name in ("verbose", "concise") for i in range(2)]
    (tmp_path / "g.csv").write_text("\n".join(gamed) + "\n")
    both = load_inputs(VARIANTS["v1"], difficulty=tmp_path / "d.csv", gamed=tmp_path / "g.csv")
    alone = load_inputs(VARIANTS["v1"], gamed=tmp_path / "g.csv")
    assert both.difficulties == alone.difficulties == {0: 0.0, 1: -1.5}
    assert both.gamed.gaps.tolist() == pytest.approx([np.tanh(-1), 0, np.tanh(-1), 0])
    assert "d.csv (sha256 " in both.difficulty_source
    assert "g.csv (sha256 " in alone.difficulty_source


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("index,instruction_difficulty\n0,x\n", "row 1: `instruction_difficulty` is 'x', not a finite number"),
        ("index,instruction_difficulty\n0,1\n0,2\n", "row 2: this instruction has a difficulty already"),
        ("index,instruction_difficulty\n0.5,1\n", "row 1: index 0.5 is not the number"),
        ("index,instruction_difficulty\n", "there are no difficulties in it"),
    ],
)
def test_a_broken_difficulty_file_is_named(text, told, tmp_path):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(DataError) as error:
        load_inputs(VARIANTS["noreg"], difficulty=tmp_path / "d.csv")
    assert told in error.value.message
    assert "d.csv" in error.value.message


def test_predicted_win_rates_mirror_and_the_baseline_s_is_the_lc_win_rate(tmp_path):
    inputs = LcInputs({f"What is {n}?": np.sin(n) for n in range(40)}, None, "sines", "")
    rows = [*official_rows("one", 40), *official_rows("other", 40, seed=1)]
    results = results_of(tmp_path, rows, AlpacaEvalSettings("noreg", num_bootstrap=0), inputs)
    one, other = predicted_win_rates(results, list(inputs.difficulties.values()), ["one", "other", "base"], {})
    assert one["one"] == other["other"] == pytest.approx(50)
    assert one["other"] + other["one"] == pytest.approx(100)
    assert one["base"] == pytest.approx(lc_of(results[0]))
    with pytest.raises(SettingsError, match="no coefficients of a model `otter`"):
        predicted_win_rates(results, [0.0], ["otter"], {})


def test_predicted_intervals_mirror_and_against_the_baseline_are_the_lc_interval(tmp_path):
    inputs = LcInputs({f"What is {n}?": np.sin(n) for n in range(60)}, None, "sines", "")
    rows = [*official_rows("one", 60), *official_rows("other", 58, seed=1)]
    settings = AlpacaEvalSettings("noreg", 10.0, num_bootstrap=1000)
    results = results_of(tmp_path, rows, settings, inputs)
    names = ["one", "other", "base"]
    predicted = predicted_win_rates(results, list(inputs.difficulties.values()), names, {})
    one, other = predicted_intervals(results, predicted, inputs, settings)
    assert (set(one), set(other)) == ({"other", "base"}, {"one", "base"})
    assert one["other"].value == pytest.approx(predicted[0]["other"])
    assert one["other"].low == pytest.approx(100 - other["one"].high, abs=2)
    assert one["other"].high == pytest.approx(100 - other["one"].low, abs=2)
    assert one["other"].high - one["other"].low > 5
    assert one["base"] == results[0].length_control.interval


def test_published_coefficients_and_official_rows_have_no_predicted_interval(tmp_path):
    inputs = LcInputs({f"What is {n}?": np.sin(n) for n in range(40)}, None, "sines", "")
    settings = AlpacaEvalSettings("noreg", 10.0, num_bootstrap=200)
    results = results_of(tmp_path, official_rows("one", 40), settings, inputs)
    predicted = predicted_win_rates(results, [0.0], ["far", "base"], {"far": np.ones(3)})
    (found,) = predicted_intervals(results, predicted, inputs, settings)
    assert set(found) == {"base"}
    assert predicted_intervals(results, predicted, inputs, replace(settings, look_up="official-rows")) == [{}]


def test_published_coefficients_of_the_authors_form_are_read(tmp_path):
    path = tmp_path / "w.csv"
    path.write_text(
        ",np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)\nm,-1.0,0.5,0.25\n"
    )
    assert {name: values.tolist() for name, values in read_weights(path).items()} == {"m": [-1.0, 0.5, 0.25]}


def test_the_leaderboard_is_sorted_and_models_without_a_number_come_last(tmp_path):
    rows = [
        *official_rows("cut", 30, preferences=[None] * 30),
        *official_rows("low", 30, preferences=[1.2] * 30),
        *official_rows("high", 30, preferences=[1.8] * 30),
    ]
    documents = [result_document(result, NOTHING, MINIMAL, {}, {}) for result in results_of(tmp_path, rows)]
    table = leaderboard_rows(documents)
    assert [row[1] for row in table] == ["high", "low", "cut"]
    assert all(len(row) == len(LEADERBOARD) for row in table)


def draws_of(y, t, d, *, num_bootstrap, seed, cost=20.0):
    rows = length_models([ModelRows(y, t, d)], None)
    return lc_interval(rows, fit(rows, cost=cost)[0], cost=cost, num_bootstrap=num_bootstrap, seed=seed)


def test_the_interval_is_that_of_refits_one_by_one(annotated, official_inputs):
    model = next(model for model in annotated if model.model == "gpt-3.5-turbo-1106")
    rows = model_rows(model, official_inputs["v1"], "v1", "instruction")
    batch = length_models([rows], official_inputs["v1"].gamed)
    found = lc_interval(batch, fit(batch, cost=2.78)[0], cost=2.78, num_bootstrap=1000, seed=0)
    rng = np.random.default_rng(0)
    refits = []
    for _ in range(200):
        drawn = rng.integers(805, size=805)
        again = ModelRows(rows.win_probs[drawn], rows.gaps[drawn], rows.difficulties[drawn])
        single = length_models([again], official_inputs["v1"].gamed)
        _, psi, theta = fit(single, cost=2.78)[0]
        refits.append(float(np.mean(1 / (1 + np.exp(-(theta + psi * again.difficulties))))))
    # Independently: a bootstrap standard error of 1.54 points; the official standard error says 0.77.
    assert 100 * np.std(refits) == pytest.approx(1.54, abs=0.25)
    assert 100 * (found.high - found.low) / 3.92 == pytest.approx(1.54, abs=0.15)


@pytest.mark.slow
def test_ten_thousand_refits_take_seconds(annotated, official_inputs):
    import time

    inputs = official_inputs["v1"]
    rows = model_rows(annotated[3], inputs, "v1", "instruction")
    batch = length_models([rows], inputs.gamed)
    coefficients = fit(batch, cost=2.78)[0]
    start = time.process_time()
    lc_interval(batch, coefficients, cost=2.78, num_bootstrap=10_000, seed=0)
    assert time.process_time() - start < 20
