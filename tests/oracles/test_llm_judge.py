"""The LLM judge as an oracle, against a real server on this machine."""

from dataclasses import dataclass
from math import log

import pytest

from fairplay.evaluation.judging import judge_groups
from fairplay.oracles.contract import split_judged
from fairplay.oracles.judge_settings import JudgeSettings, build_judge
from fairplay.oracles.judge_template import TEMPLATES
from fairplay.oracles.llm_judge import SURE_LOGIT, LlmJudgeOracle
from fairplay.oracles.settings import OracleSettings
from fairplay.oracles.table import oracle_identity
from fairplay.records import Dropped, Message, Prompt, Response, ResponseGroup
from fairplay.servers.settings import ServerSettings
from fairplay.storage.settings_file import build_settings
from servers.fault_server import fault_server
from servers.judges import length_judge, said


@dataclass(frozen=True)
class Holder:
    oracle: OracleSettings


def oracle_of(server, **settings):
    judge = JudgeSettings(ServerSettings("judge", server.url, timeout=2.0, max_attempts=1), **settings)
    return LlmJudgeOracle(build_judge(judge), temperature=1.0)


def group(*texts, name="p"):
    prompt = Prompt(name, (Message("user", f"Question {name}?"),))
    return ResponseGroup(prompt, tuple(Response(text) for text in texts))


def test_logits_are_the_servers_and_both_orders_are_kept():
    with fault_server(length_judge(bias=0.5)) as server:
        (judged,) = oracle_of(server).pair_logits([group("long response", "short", "short")])
    assert judged.pair_logits[0][1] == pytest.approx(0.8 + 0.5)
    assert judged.pair_logits[1][0] == pytest.approx(-0.8 + 0.5)
    assert judged.pair_logits[1][2] == judged.pair_logits[2][1] == 0.0
    assert sum(server.asked.values()) == 2  # equal texts are not compared, equal questions asked once


def test_a_failure_is_no_tie_and_no_loss_but_a_missing_pair_that_is_counted():
    bad = "<<500>> broken"
    with fault_server(length_judge()) as server:
        oracle = oracle_of(server)
        ours = [group("much longer", name="a"), group(bad, name="b")]
        theirs = [group("short", name="a"), group("short", name="b")]
        judged = judge_groups(oracle, ours, theirs)
    assert [item.prompt_id for item in judged.judgements] == ["a"]
    assert [(item.id, item.reason) for item in judged.dropped] == [("b", "server error")]


def test_without_log_probs_words_are_read_and_stay_finite():
    with fault_server(lambda body: said("A")) as server:
        (judged,) = oracle_of(server, log_probs=False).pair_logits([group("one", "two")])
    assert judged.pair_logits[0][1] == judged.pair_logits[1][0] == SURE_LOGIT
    assert "logprobs" not in server.bodies[0]


def test_a_server_without_log_probs_fails_every_question_unless_words_were_asked_for():
    with fault_server(lambda body: said("A")) as server:
        oracle = oracle_of(server)
        (judged,) = oracle.pair_logits([group("one", "two")])
    assert judged.pair_logits[0][1] is None
    assert judged.missing == ("no log-probs", "no log-probs")


def test_little_mass_is_a_failure():
    def talk(body):
        top = [{"token": "Well", "logprob": log(0.9)}, {"token": "A", "logprob": log(0.1)}]
        return {**said("Well"), "logprobs": [{**top[0], "top_logprobs": top}]}

    with fault_server(talk) as server:
        (judged,) = oracle_of(server).pair_logits([group("one", "two")])
    assert judged.missing == ("little probability on the verdicts",) * 2


def test_the_template_is_part_of_the_name():
    with fault_server() as server:
        names = {oracle_of(server, template=template).name for template in ("pair", "hh", "tldr-s", "tldr-c")}
    assert len(names) == 4


def test_a_group_with_a_pair_without_verdict_is_left_out_and_counted():
    with fault_server(length_judge()) as server:
        judged = oracle_of(server).pair_logits([group("long one", "b", name="a"), group("<<500>>", "b", name="b")])
    kept, dropped = split_judged(judged)
    assert [item.group.prompt.id for item in kept] == ["a"]
    assert dropped == [Dropped("b", "server error")]


def test_patience_and_cost_are_no_part_of_what_identifies_the_judge_and_wording_is(tmp_path):
    def identity(template="pair", **server):
        oracle = {"kind": "llm_judge", "server": {"model": "judge", "base_url": "http://127.0.0.1:1/v1", **server}}
        settings = build_settings(Holder, {"oracle": oracle | {"template": template}}, "test").oracle
        document, sources = oracle_identity(settings)
        return document, {name: source.digest() for name, source in sources.items()}

    own = tmp_path / "own.yaml"
    own.write_text((TEMPLATES / "pair.yaml").read_text())
    assert identity() == identity(timeout=5, max_cost=1, input_price=1, cache="elsewhere") == identity(str(own))
    own.write_text(own.read_text().replace("Which response is better?", "Which is worse?"))
    moved = [identity(model="other"), identity(base_url="http://127.0.0.1:2/v1"), identity(str(own)), identity("hh")]
    assert all(one != identity() for one in moved)
    assert identity(identity="a", base_url="http://127.0.0.1:2/v1") == identity(identity="a")


def test_a_structured_answer_is_asked_for_by_schema_and_read_as_json(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("user: '{prompt} {first} {second}'\nlabels: {A: 1.0, B: 0.0}\nanswer: json\nlog_probs: false\n")
    with fault_server(lambda body: said('{"verdict": "B"}')) as server:
        (judged,) = oracle_of(server, template=str(own)).pair_logits([group("one", "two")])
    wanted = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert wanted["properties"]["verdict"]["enum"] == ["A", "B"]
    assert judged.pair_logits[0][1] == judged.pair_logits[1][0] == -SURE_LOGIT
