"""Runs and evaluations whose oracle and judge are a chat server: what it costs, and what its failures may do."""

import json
from zlib import crc32

import pytest

from fairplay.cli.main import run
from fairplay.cli.stage_pages import comparison_page
from fairplay.errors import ServiceError
from fairplay.oracles.kinds.llm_judge import LlmJudgeSettings
from fairplay.pipeline.loop import run_loop
from fairplay.pipeline.planning.plan import run_plan
from fairplay.pipeline.settings import run_identity
from fairplay.pipeline.single_evaluation import ComparisonSettings, evaluate_sides
from fairplay.pipeline.single_evaluation import Task as SidesTask
from fairplay.pipeline.single_stages import rank_file
from fairplay.pipeline.verifying import verify
from fairplay.servers.settings import ServerSettings
from fairplay.storage.run_directory import RunDirectory
from fairplay.storage.settings_file import settings_document
from servers.fault_server import fault_server
from servers.judges import length_judge, parts_of, said

from .schema import check


def never():
    return False


def contents(folder):
    found = RunDirectory(folder).manifests()
    return {str(place.relative_to(folder)): manifest.content for place, manifest in found}


def asking(server, *overrides):
    own = [f"model=judge base_url={server.url} max_attempts=1 identity=one".split()] * 2
    places = ("oracle", "evaluation.judge")
    servers = [f"{place}.server.{one}" for place, words in zip(places, own, strict=True) for one in words]
    return [*(f"{place}={{kind: llm_judge}}" for place in places), *servers, *overrides]


def mute_at_times(body):
    """Some questions are answered by neither label, the same ones every time."""
    question = body["messages"][-1]["content"]
    if crc32("".join(parts_of(question)).encode()) % 4:
        return length_judge()(body)
    top = [{"token": "Well", "logprob": -0.01}]
    return {**said("Well"), "logprobs": [{**top[0], "top_logprobs": top}]}


def test_a_run_that_was_capped_ends_with_the_bytes_of_one_that_never_was(settings_of, tmp_path, capsys):
    small = ["num_iterations=1", "evaluation.num_prompts=6", "evaluation.canaries=[empty]", "selection.kind=all"]
    with fault_server(mute_at_times) as server:
        run_loop(settings_of(*asking(server, *small)), RunDirectory(tmp_path / "whole"), should_stop=never)
        paid = server.asked.total()
        assert 0 < paid <= run_plan(settings_of(*asking(server, *small)))["questions"]
        server.asked.clear()
        for cap in ("oracle", "evaluation.judge"):
            capped = settings_of(*asking(server, *small, f"{cap}.server.max_total_tokens=450"))
            with pytest.raises(ServiceError, match="cost cap reached"):
                run_loop(capped, RunDirectory(tmp_path / "capped"), should_stop=never)
        run_loop(settings_of(*asking(server, *small)), RunDirectory(tmp_path / "capped"), should_stop=never)
    assert contents(tmp_path / "capped") == contents(tmp_path / "whole")
    results = [(tmp_path / name / "results.json").read_bytes() for name in ("capped", "whole")]
    assert results[0] == results[1]
    assert server.asked.total() == paid
    assert (tmp_path / "capped" / "replies.sqlite").is_file()
    told = json.loads(results[0])
    check(told)
    first = told["iterations"][0]
    assert first["headline"] is None
    assert "of the pairs have no verdict" in first["headline_withheld"]
    assert set(first["comparisons"][0]["dropped"]) == {"little probability on the verdicts"}
    assert (tmp_path / "capped" / "report" / "index.html").read_text().count("too many games have no verdict") == 3
    assert all(finding["agrees"] for finding in verify(tmp_path / "capped")["checks"])
    assert run(["report", str(tmp_path / "capped")]) == 0
    assert "% missing" in capsys.readouterr().out


def test_a_cap_is_for_all_clients_of_a_run_together(settings_of, tmp_path):
    small = ["num_iterations=1", "evaluation.num_prompts=6", "evaluation.canaries=[empty]", "selection.kind=all"]
    with fault_server(length_judge()) as server:
        run_loop(settings_of(*asking(server, *small)), RunDirectory(tmp_path / "whole"), should_stop=never)
        spent = 12 * server.asked.total()  # as the server counts; a question's worst case is more than 350
        caps = [f"{place}.server.max_total_tokens={spent + 150}" for place in ("oracle", "evaluation.judge")]
        with pytest.raises(ServiceError, match="cost cap reached"):
            run_loop(settings_of(*asking(server, *small, *caps)), RunDirectory(tmp_path / "capped"), should_stop=never)


def test_a_ranking_pays_for_no_question_twice_and_leaves_no_cache_behind(tmp_path):
    lines = [{"prompt": f"Say {i}.", "responses": ["one", f"two {i}"]} for i in range(6)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def rank(**caps):
        oracle = LlmJudgeSettings(server=ServerSettings("judge", server.url, **caps))
        choices = {"rule": "calibrated", "opponents": "leave-one-out", "should_stop": never}
        return rank_file(tmp_path / "r.jsonl", tmp_path / "ranked.jsonl", oracle=oracle, **choices)

    with fault_server(length_judge()) as server:
        with pytest.raises(ServiceError, match=r"kept in .*replies\.sqlite"):
            rank(max_total_tokens=400)
        assert server.asked.total() > 0
        assert rank()["num_out"] == 6
    assert set(server.asked.values()) == {1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.jsonl", "ranked.jsonl"]


def evaluated(server, tmp_path, *overrides):
    for name, texts in (("ours", "word " * 3), ("theirs", "word ")):
        rows = [{"prompt": f"Say {i}.", "output": f"{texts}{i}"} for i in range(40)]
        rows[7]["output"] += "<<500>>"
        if name == "ours" and overrides:
            rows[8]["output"] += overrides[0]
            rows[9]["output"] += overrides[0]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = LlmJudgeSettings(server=ServerSettings("judge", server.url, max_attempts=1))
    settings = ComparisonSettings(judge, num_bootstrap=200, canaries=())
    task = SidesTask(str(tmp_path / "ours.jsonl"), str(tmp_path / "theirs.jsonl"))
    return evaluate_sides(task, settings, tmp_path / "out")[0]


def test_an_evaluation_counts_missing_verdicts_by_reason_and_bounds_the_win_rate(tmp_path):
    with fault_server(length_judge()) as server:
        told = evaluated(server, tmp_path)
    check(told)
    assert told["dropped"] == {"server error": 1}
    assert (told["missing_share"], told["missing_warning"]) == (0.025, True)
    assert told["headline"]["win_rate"] == told["win_rate"]
    assert told["worst_case"]["low"] == pytest.approx(39 / 40 * told["win_rate"])
    assert told["worst_case"]["high"] == pytest.approx(39 / 40 * told["win_rate"] + 1 / 40)


def test_an_evaluation_with_too_many_missing_has_no_headline_and_verify_follows_it(tmp_path, capsys):
    with fault_server(length_judge()) as server:
        told = evaluated(server, tmp_path, "<<filter>>")
    check(told)
    assert told["dropped"] == {"refused": 2, "server error": 1}
    assert (told["headline"], told["headline_withheld"]) == (None, "7.5 % of the pairs have no verdict")
    assert all(finding["agrees"] for finding in verify(tmp_path / "out")["checks"])
    comparison_page(told)
    table = capsys.readouterr().out
    assert "withheld: 7.5 % of the pairs have no verdict" in table
    assert "whatever the missing say" in table
    results = tmp_path / "out" / "results.json"
    results.write_text(results.read_text().replace('"low": ', '"low": 0.0'))
    assert not verify(tmp_path / "out")["agrees"]


def test_the_cap_of_an_ensembles_member_may_be_raised_when_a_run_goes_on_and_its_model_may_not_change(settings_of):
    def identity(**server):
        own = {"model": "judge", "base_url": "http://127.0.0.1:1/v1", **server}
        members = [{"kind": "llm_judge", "server": own}, {"kind": "rule", "function": "oracles.tiny:length_rule"}]
        ensemble = f"oracle={json.dumps({'kind': 'ensemble', 'members': members})}"
        return run_identity(settings_document(settings_of(ensemble)))

    assert identity() == identity(max_total_tokens=900, cache="elsewhere")
    assert identity() != identity(model="other")
