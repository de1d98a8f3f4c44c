"""Two files judged by a protocol against a real server: numbers, accounts, resume, and the official files."""

import json
from math import exp
from pathlib import Path

import pytest

from fairplay.errors import DataError, SettingsError
from fairplay.evaluation.alpaca_eval.raw_metrics import raw_metrics
from fairplay.evaluation.alpaca_eval.reading import read_annotations
from fairplay.evaluation.protocols.orders import official_switch
from fairplay.oracles.kinds.llm_judge import LlmJudgeSettings
from fairplay.pipeline.judge_files import JudgeFilesSettings, Task, estimate_files, judge_files
from fairplay.pipeline.judge_sides import read_side, side_name
from fairplay.pipeline.single_stages import rank_file
from fairplay.servers.settings import ServerSettings
from fairplay.storage.settings_file import build_settings
from servers.fault_server import fault_server
from servers.judges import length_judge, parts_of, said

from .schema import check


def settings_of(fault_server, *canaries, **judge):
    own = {"model": "judge-1106", "base_url": fault_server.url, "timeout": 2.0, "max_attempts": 1}
    document = {"server": own | judge.pop("server", {}), **judge}
    chosen = {"judge": document, "num_bootstrap": 200, "canaries": list(canaries)}
    return build_settings(JudgeFilesSettings, chosen, "test")


def outputs(path, texts, generator):
    rows = [{"instruction": f"Say {i}.", "output": text, "generator": generator} for i, text in enumerate(texts)]
    path.write_text(json.dumps(rows))
    return str(path)


@pytest.fixture
def sides(tmp_path):
    ours = outputs(tmp_path / "ours.json", ["word " * (1 + i % 4) for i in range(24)], "our-model")
    theirs = outputs(tmp_path / "theirs.json", ["word " * (1 + i % 3) for i in range(24)], "gpt4_1106_preview")
    return ours, theirs


def sigmoid(logit):
    return 1 / (1 + exp(-logit))


def test_alpaca_eval_writes_what_the_official_numbers_are_made_from(tmp_path, sides):
    with fault_server(length_judge(bias=0.7)) as server:
        document = judge_files(Task("alpaca-eval", *sides), settings_of(server), tmp_path / "out")
    check(document)
    (model,) = read_annotations([tmp_path / "out" / "annotations.json"])
    assert (model.model, model.baseline) == ("our-model", "gpt4_1106_preview")
    rows = json.loads((tmp_path / "out" / "annotations.json").read_text())
    for row in rows:
        gap = (len(row["output_2"]) - len(row["output_1"])) / 10
        first = official_switch(row["instruction"])
        expected = 0.5 if row["output_1"] == row["output_2"] else sigmoid(gap + (0.7 if first else -0.7))
        assert row["preference"] == pytest.approx(1 + expected, abs=1e-12)
    assert document["comparison"]["win_rate"] == pytest.approx(raw_metrics(model.preferences).win_rate / 100)
    body = server.bodies[0]
    assert (body["max_tokens"], body["top_logprobs"], body["temperature"], body["n"]) == (1, 5, 1.0, 1)
    assert document["pairs"]["identical"] == 6
    assert sum(server.asked.values()) == 18 == document["games"]["requested"] == document["games"]["ok"]
    assert document["first_slot"] > 0.1


def test_exchanging_the_sides_gives_one_minus_the_win_rate(tmp_path, sides):
    with fault_server(length_judge(bias=0.7)) as server:
        there = judge_files(Task("pair", *sides), settings_of(server), tmp_path / "there")
        back = judge_files(Task("pair", *reversed(sides)), settings_of(server), tmp_path / "back")
    assert there["comparison"]["win_rate"] + back["comparison"]["win_rate"] == pytest.approx(1)
    assert there["style_control"]["win_rate"] + back["style_control"]["win_rate"] == pytest.approx(1)
    assert there["comparison"]["first_position_bias"] > 0
    check(there)


FAULTS = [
    "<<429>>",
    "<<500>>",
    "<<stall>>",
    "<<html>>",
    "<<cut>>",
    "<<filter>>",
    "<<400>>",
    "<<few>>",
    "<<nologprobs>>",
]


def test_every_fault_is_a_missing_pair_of_its_own_class_and_no_headline_is_given(tmp_path):
    ours = outputs(tmp_path / "ours.json", ["<<500>>"], "ours")
    theirs = outputs(tmp_path / "theirs.json", ["other"] * 11, "theirs")

    def talk(body):
        return said("who knows") if "fine" in body["messages"][-1]["content"] else length_judge()(body)

    with fault_server(talk) as server:
        settings = settings_of(server, log_probs=False, server={"timeout": 1.5})
        with pytest.raises(DataError, match=r"no pair was judged \(1 x [a-z]"):
            judge_files(Task("hh", ours, theirs), settings, tmp_path / "out")
        outputs(tmp_path / "ours.json", [*(f"{fault} {i}" for i, fault in enumerate(FAULTS)), "fine", "good"], "ours")
        document = judge_files(Task("hh", ours, theirs), settings, tmp_path / "out")
    check(document)
    failures = document["games"]["failures"]
    assert failures == {
        "cut reply": 1,
        "malformed reply": 1,
        "no verdict in the reply": 1,
        "rate limited": 1,
        "refused": 2,
        "server error": 1,
        "timed out": 1,
    }  # one choice was asked for, and no log-probs: these two are no faults here
    games, pairs = document["games"], document["pairs"]
    assert games["requested"] == games["ok"] + sum(failures.values()) == 11
    assert pairs["requested"] == 11 == pairs["judged"] + pairs["without_verdict"]
    assert document["headline"] is None
    assert "72.7 %" in document["headline_withheld"]
    wins = document["comparison"]["win_rate"] * 3
    assert document["worst_case"]["low"] == pytest.approx(wins / 11)
    assert document["worst_case"]["high"] == pytest.approx((wins + 8) / 11)


def test_a_few_missing_pairs_leave_the_headline_with_a_warning(tmp_path):
    ours = outputs(tmp_path / "ours.json", ["<<500>>", *(f"text {i}" for i in range(49))], "ours")
    theirs = outputs(tmp_path / "theirs.json", ["other"] * 50, "theirs")
    with fault_server(length_judge()) as server:
        document = judge_files(Task("tldr-c", ours, theirs), settings_of(server), tmp_path / "out")
    assert document["headline"]["win_rate"] == document["comparison"]["win_rate"]
    assert document["missing_warning"]
    assert document["missing_share"] == pytest.approx(0.02)
    rows = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [row["preference"] for row in rows[:1]] == [None]
    assert rows[0]["games"][0]["failure"] == "server error"
    (model,) = read_annotations([tmp_path / "out" / "annotations.json"])
    assert raw_metrics(model.preferences).num_failed == 1


def test_a_reached_cap_marks_the_result_partial_and_the_rest_is_paid_once_later(tmp_path, sides):
    task = Task("pair", *sides)
    with fault_server(length_judge()) as server:
        poor = settings_of(server, server={"max_total_tokens": 700})
        document = judge_files(task, poor, tmp_path / "out")
        assert document["partial"]
        assert 0 < document["games"]["failures"]["cost cap reached"] < 36
        whole = judge_files(task, settings_of(server), tmp_path / "out")
        again = judge_files(task, settings_of(server), tmp_path / "out")
    assert not whole["partial"]
    assert set(server.asked.values()) == {1}
    assert again["account"]["cached"] == again["games"]["requested"]
    assert again["comparison"] == whole["comparison"]


def test_a_dry_run_counts_and_sends_nothing(tmp_path, sides):
    with fault_server(length_judge()) as server:
        told = estimate_files(Task("pair", *sides), settings_of(server), tmp_path / "out")
        assert not server.asked
        judge_files(Task("pair", *sides), settings_of(server), tmp_path / "out")
        assert len(server.asked) == told["to_send"]
        assert estimate_files(Task("pair", *sides), settings_of(server), tmp_path / "out")["to_send"] == 0
    assert (told["pairs"], told["identical"]) == (24, 6)
    assert told["prompt_tokens"] > 100 * told["to_send"]


def test_the_chosen_response_of_pairs_can_be_the_opponent(tmp_path):
    rows = [{"prompt": f"Say {i}.", "chosen": "a good answer", "rejected": "no"} for i in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ours = outputs(tmp_path / "ours.json", ["an even better answer"] * 12, "ours")
    with fault_server(length_judge()) as server:
        document = judge_files(
            Task("hh", ours, f"{tmp_path / 'pairs.jsonl'}::chosen"), settings_of(server), tmp_path / "out"
        )
    assert document["comparison"]["win_rate"] == 1.0
    first = [parts_of(body["messages"][-1]["content"])[0] for body in server.bodies]
    assert {"a good answer", "an even better answer"} == set(first)  # the order is drawn
    assert document["comparison"]["opponent"] == "pairs::chosen"


def test_one_response_a_row_is_read_under_its_own_name(tmp_path):
    def written(name, key, text):
        path = tmp_path / name
        rows = [{"id": f"p{i}", "prompt": f"Say {i}.", key: f"{text} {i}"} for i in range(3)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    sides = [read_side(written(f"{key}.jsonl", key, "red")) for key in ("response", "output")]
    assert sides[0].groups == sides[1].groups
    assert [group.responses[0].text for group in sides[0].groups] == ["red 0", "red 1", "red 2"]


def test_output_comes_before_response_and_the_first_readable_row_says_which_there_is(tmp_path):
    both = [{"instruction": f"Say {i}.", "response": "", "output": f"o {i}"} for i in range(2)]
    path = tmp_path / "both.json"
    path.write_text(json.dumps(both))
    assert [group.responses[0].text for group in read_side(str(path)).groups] == ["o 0", "o 1"]
    path.write_text(json.dumps([3, {"instruction": "Say 1.", "response": "r 1"}]))
    with pytest.raises(DataError, match="row 1"):
        read_side(str(path))
    path.write_text(json.dumps([["no row"], {"instruction": "Say 1.", "generator": "ours"}]))
    assert side_name(str(path)) == "ours"


def test_a_side_of_a_kind_that_is_not_read_is_refused_in_words(tmp_path):
    path = tmp_path / "o.txt"
    path.write_text("a response\n")
    for source in (str(path), f"{path}::output"):
        with pytest.raises(DataError, match=r"o\.txt: not a file of a known kind"):
            read_side(source)


def test_arena_hard_plays_both_games_and_reports_at_equal_style(tmp_path, sides):
    with fault_server(length_judge()) as server:
        document = judge_files(Task("arena-hard", *sides), settings_of(server), tmp_path / "out")
    check(document)
    assert document["games"]["requested"] == 36
    assert set(document["games"]["labels"]) == {"A>B", "B>A", "A>>B", "B>>A"}
    strong, plain = document["score_with_strong_verdicts_thrice"], document["comparison"]["win_rate"]
    assert strong > plain > 0.5
    # Too few games are lost to say what style is worth; that it is worth something shows in the rate without it.
    assert document["style_control"]["coefficients"] == {}
    assert document["style_control"]["win_rate"] < plain
    assert server.bodies[0]["messages"][0]["role"] == "system"


def test_a_template_of_ones_own_is_asked_and_its_hash_is_told(tmp_path, sides):
    own = tmp_path / "own.yaml"
    own.write_text(
        "user: |\n  {prompt}\n  <response A {nonce}>\n  {first}\n  </response A {nonce}>\n  <response B {nonce}>\n"
        "  {second}\n  </response B {nonce}>\n  Preferred:\nlabels: {A: 1.0, B: 0.0, same: 0.5}\nanswer: line\n"
        "prefix: Preferred\nlog_probs: false\n"
    )
    with fault_server(length_judge()) as server:
        document = judge_files(
            Task("own", *sides), settings_of(server, template=str(own), max_tokens=99), tmp_path / "out"
        )
    assert document["asked"]["template_sha256"][:12] in document["comparison"]["judge"]
    assert document["asked"]["max_tokens"] == server.bodies[0]["max_tokens"] == 99
    assert document["comparison"]["win_rate"] > 0.5


@pytest.mark.parametrize(
    ("protocol", "orders", "judge", "fault"),
    [
        ("own", "", {}, "needs one of your own"),
        ("alpaca-eval", "random", {}, "no orders `random`"),
        ("alpaca-eval", "", {"log_probs": False}, "its own template and reads log-probs"),
        ("alpaca-eval", "", {"template": "pair"}, "its own template and reads log-probs"),
        ("alpaka-eval", "", {}, "unknown protocol"),
        ("pair", "", {"template": "pear"}, "unknown template"),
    ],
)
def test_what_a_protocol_does_not_have_is_refused(tmp_path, sides, protocol, orders, judge, fault):
    with fault_server() as server:
        settings = settings_of(server, **judge)
        with pytest.raises(SettingsError, match=fault):
            judge_files(Task(protocol, *sides, orders), settings, tmp_path / "out")
    assert not server.asked


def test_files_without_a_common_prompt_or_with_one_twice_are_refused(tmp_path, sides):
    rows = json.loads((tmp_path / "ours.json").read_text())
    (tmp_path / "else.json").write_text(json.dumps([{**rows[0], "instruction": "Another."}]))
    several = {"prompt": "Say 0.", "responses": ["one", "two"]}
    (tmp_path / "several.jsonl").write_text(json.dumps(several) + "\n")
    with fault_server() as server:
        with pytest.raises(DataError, match="no prompt in common"):
            judge_files(Task("pair", str(tmp_path / "else.json"), sides[1]), settings_of(server), tmp_path / "out")
        several_sides = (str(tmp_path / "several.jsonl"),) * 2
        with pytest.raises(DataError, match="judges one response to a prompt"):
            judge_files(Task("alpaca-eval", *several_sides), settings_of(server), tmp_path / "out")


def test_rows_that_reading_leaves_out_are_told_with_the_reason(tmp_path, sides):
    rows = json.loads((tmp_path / "ours.json").read_text())
    (tmp_path / "twice.json").write_text(json.dumps([*rows, rows[3], {**rows[4], "output": "another"}]))
    with fault_server(length_judge()) as server:
        task = Task("pair", str(tmp_path / "twice.json"), sides[1])
        told = estimate_files(task, settings_of(server), tmp_path / "out")["left_out"]
        document = judge_files(task, settings_of(server), tmp_path / "out")
    check(document)
    assert document["left_out"] == told
    assert sum(told["policy"].values()) == 2
    assert all("duplicate" in reason for reason in told["policy"])
    assert told["opponent"] == {}
    assert document["comparison"]["n"] == 24


def test_another_question_is_refused_in_a_folder_with_results_and_the_same_one_is_answered_again(tmp_path, sides):
    out, there = tmp_path / "out", tmp_path / "there"
    with fault_server(length_judge()) as server:
        first = judge_files(Task("pair", *sides), settings_of(server), out)
        before, paid = (out / "results.json").read_bytes(), sum(server.asked.values())
        own = tmp_path / "own.yaml"
        own.write_text("user: '{prompt} {first} {second}'\nlabels: {A: 1.0, B: 0.0}\nanswer: token\nlog_probs: true\n")
        others = {
            "inputs.outputs: .*\n  inputs.baseline: ": (Task("pair", *reversed(sides)), {}),
            "protocol.name: 'pair' -> 'hh'": (Task("hh", *sides), {}),
            "asked.template_sha256": (Task("pair", *sides), {"template": str(own)}),
            "asked.model: 'judge-1106' -> 'other'": (Task("pair", *sides), {"server": {"model": "other"}}),
            "asked.seed: 0 -> 1": (Task("pair", *sides, seed=1), {}),
        }
        for named, (task, judge) in others.items():
            with pytest.raises(
                SettingsError, match=f"holds the results of another judging:\n(.*\n)*  {named}"
            ) as caught:
                judge_files(task, settings_of(server, **judge), out)
            assert "--out" in caught.value.hint
        assert (out / "results.json").read_bytes() == before
        assert sum(server.asked.values()) == paid
        moved = [str(Path(side).rename(tmp_path / f"moved-{Path(side).name}")) for side in sides]
        again = judge_files(Task("pair", *moved), settings_of(server, min_mass=0.6), out)
        assert (again["account"]["cached"], again["comparison"]) == (first["games"]["requested"], first["comparison"])
        there.mkdir()
        (there / "results.json").write_text("{damaged")
        judge_files(Task("pair", *moved), settings_of(server), there)


def test_a_folder_of_an_older_release_is_known_by_what_it_says(tmp_path, sides):
    out = tmp_path / "out"
    with fault_server(length_judge()) as server:
        told = judge_files(Task("pair", *sides), settings_of(server), out)
        del told["inputs"], told["asked"]["min_mass"], told["asked"]["identity"]
        (out / "results.json").write_text(json.dumps(told))
        with pytest.raises(SettingsError, match=r"protocol\.name"):
            judge_files(Task("hh", *sides), settings_of(server), out)
        (out / "results.json").write_text(json.dumps({**told, "kind": "run"}))
        with pytest.raises(SettingsError, match="kind: 'run' -> 'judging'"):
            judge_files(Task("pair", *sides), settings_of(server), out)
        (out / "results.json").write_text(json.dumps(told))
        assert judge_files(Task("pair", *sides), settings_of(server), out)["comparison"] == told["comparison"]


def test_ranking_leaves_out_and_counts_a_line_without_verdicts(tmp_path):
    lines = [{"prompt": f"Say {i}.", "responses": [text, "other"]} for i, text in enumerate(["one", "<<500>>", "two"])]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with fault_server(length_judge()) as server:
        oracle = LlmJudgeSettings(server=ServerSettings("judge", server.url, max_attempts=1))
        done = rank_file(
            tmp_path / "r.jsonl",
            tmp_path / "ranked.jsonl",
            oracle=oracle,
            rule="calibrated",
            opponents="leave-one-out",
            should_stop=lambda: False,
        )
    ranked = [json.loads(line) for line in (tmp_path / "ranked.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in ranked] == ["Say 0.", "Say 2."]
    assert (done["num_in"], done["num_out"], done["dropped"]) == (3, 2, {"server error": 1})
    assert ranked[0]["win_probs"][0][1] == pytest.approx(sigmoid(-0.2))
