"""Runs and evaluations whose oracle and judge are a chat server: what it costs, and what its failures may do."""

import json

import pytest

from fairplay.errors import ServiceError
from fairplay.oracles.kinds.llm_judge import LlmJudgeSettings
from fairplay.pipeline.loop import run_loop
from fairplay.pipeline.single_stages import rank_file
from fairplay.servers.settings import ServerSettings
from fairplay.storage.run_directory import RunDirectory
from servers.fault_server import fault_server
from servers.judges import length_judge


def never():
    return False


def contents(folder):
    run = RunDirectory(folder)
    return {str(place.relative_to(folder)): manifest.content for place, manifest in run.manifests()}


def asking(server, *overrides):
    own = [f"model=judge base_url={server.url} max_attempts=1 identity=one".split()] * 2
    places = ("oracle", "evaluation.judge")
    servers = [f"{place}.server.{one}" for place, words in zip(places, own, strict=True) for one in words]
    return [*(f"{place}={{kind: llm_judge}}" for place in places), *servers, *overrides]


def test_a_run_that_was_capped_ends_with_the_bytes_of_one_that_never_was(settings_of, tmp_path):
    small = ["num_iterations=1", "evaluation.num_prompts=6", "evaluation.canaries=[empty]", "selection.kind=all"]
    with fault_server(length_judge()) as server:
        run_loop(settings_of(*asking(server, *small)), RunDirectory(tmp_path / "whole"), should_stop=never)
        paid = server.asked.total()
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
