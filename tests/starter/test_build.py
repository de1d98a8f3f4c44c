"""Building the embedded world: ordinary folders and files, the same bytes whatever interrupts it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from fairplay.data.reading import read_examples, read_prompts
from fairplay.errors import Preempted, SettingsError
from fairplay.oracles.kinds.pair_model import PairModelSettings
from fairplay.oracles.kinds.rule import RuleSettings
from fairplay.oracles.table import build_oracle
from fairplay.records import Message, Prompt, Response, ResponseGroup, TrainingExample
from fairplay.starter.build import Starter, build_starter
from fairplay.starter.corpus import prompt_of
from fairplay.starter.policy import fit_starter
from fairplay.starter.settings import JUDGE_FUNCTION, PRESETS, StarterPolicySettings, StarterSettings
from fairplay.storage.digests import sha256_files

POLICY = StarterPolicySettings(hidden_size=32, num_attention_heads=2, max_steps=12, batch_size=4, vocab_size=400)
SETTINGS = StarterSettings(
    policy=POLICY,
    num_prompts=40,
    num_held_out_prompts=20,
    num_annotated_prompts=9,
    num_sampled_responses=2,
    oracle_steps=4,
)


@pytest.fixture(scope="module")
def starter(tmp_path_factory) -> Starter:
    return build_starter(tmp_path_factory.mktemp("world") / "starter", SETTINGS, seed=7)


def texts_of(rows) -> set[str]:
    return {row.messages[-1].content for row in rows}


def test_the_parts_are_read_by_the_same_code_as_any_data_and_model(starter: Starter):
    assert len(read_prompts(starter.prompts).items) == 40
    assert len(read_prompts(starter.held_out_prompts).items) == 20
    assert len(read_examples(starter.oracle_pairs).items) == starter.results["num_oracle_pairs"]
    assert read_examples(starter.sft).items[0].responses[0].text
    assert AutoModelForCausalLM.from_pretrained(starter.policy).config.tie_word_embeddings
    assert AutoTokenizer.from_pretrained(starter.policy).chat_template
    assert {path.name for path in starter.folder.iterdir() if not path.name.startswith(".")} == {
        *("settings.yaml", "sft.jsonl", "prompts.jsonl", "held_out_prompts.jsonl"),
        *("policy", "oracle_pairs.jsonl", "oracle", "starter.json"),
    }


def test_no_held_out_text_occurs_anywhere_else(starter: Starter):
    held_out = texts_of(read_prompts(starter.held_out_prompts).items)
    for source in (starter.sft, starter.oracle_pairs):
        assert held_out.isdisjoint(texts_of(example.prompt for example in read_examples(source).items))
    assert held_out.isdisjoint(texts_of(read_prompts(starter.prompts).items))


def test_oracle_and_judge_are_ordinary_oracles(starter: Starter):
    texts = ("The fox is red.", "red", "The fox is blue.")
    group = ResponseGroup(prompt_of("What color is the fox?"), tuple(map(Response, texts)))
    learned = build_oracle(PairModelSettings(model=str(starter.oracle))).pair_logits([group])
    exact = build_oracle(RuleSettings(function=JUDGE_FUNCTION)).pair_logits([group])
    assert len(learned[0].pair_logits) == 3
    assert exact[0].pair_logits[0] == (0.0, 1.0, 2.0)


def test_a_finished_world_is_kept_and_one_of_other_settings_refused(starter: Starter):
    before = sha256_files(starter.folder)
    again = build_starter(starter.folder, SETTINGS, seed=7)
    assert again == starter
    with pytest.raises(SettingsError, match="seed: 7 -> 8"):
        build_starter(starter.folder, SETTINGS, seed=8)
    with pytest.raises(SettingsError, match=r"length_love: 0\.0 -> 0\.5"):
        build_starter(starter.folder, replace(SETTINGS, length_love=0.5), seed=7)
    assert sha256_files(starter.folder) == before


def test_stopping_at_every_commit_ends_with_the_same_bytes(starter: Starter, tmp_path: Path):
    folder, num_stops = tmp_path / "stopped", 0
    for patience in (3, 5, 1, 10**6):
        asked = iter(range(10**6))
        try:
            build_starter(folder, SETTINGS, seed=7, should_stop=lambda: next(asked) >= patience)  # noqa: B023
        except Preempted:
            num_stops += 1
    assert num_stops == 3
    assert sha256_files(folder) == sha256_files(starter.folder)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_build import SETTINGS
from fairplay.starter.build import build_starter
build_starter(Path(sys.argv[1]), SETTINGS, seed=7)
"""


@pytest.mark.slow
def test_killing_anywhere_ends_with_the_same_bytes(starter: Starter, tmp_path: Path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT, str(folder), str(Path(__file__).parent)]
    for share in (0.2, 0.4, 0.6, 0.8, 0.9):
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + 60
        while process.poll() is None and not (folder / "settings.yaml").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(2.0 * share)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert sha256_files(folder) == sha256_files(starter.folder)


def test_the_summary_has_no_times(starter: Starter):
    results = json.loads((starter.folder / "starter.json").read_text())
    assert results["schema_version"] == 1
    assert results["num_sft_examples"] == 48
    assert not [key for key in [*results, *results["oracle"]] if "second" in key or "time" in key]


def test_fitting_learns_the_chosen_responses_of_someone_elses_conversations(tmp_path: Path):
    turns = (Message("user", "Xyzzy?"), Message("assistant", "Plugh."), Message("user", "Plover?"))
    responses = (Response("Plover plover it is."), Response("never learnt zzzzz zzzzz"))
    pairs = [TrainingExample(f"{i}", Prompt(f"{i}", turns), responses, pairs=((0, 1),)) for i in range(6)]
    folder = fit_starter(tmp_path, pairs, replace(POLICY, max_steps=3), seed=0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer(" plover")["input_ids"]) == 1
    assert len(tokenizer(" zzzzz")["input_ids"]) > 1
    record = json.loads((tmp_path / "sft" / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["step"] == 3
    with pytest.raises(SettingsError, match="conversations"):
        fit_starter(tmp_path, pairs[:1], replace(POLICY, max_steps=3), seed=0)


def test_settings_out_of_range_are_all_named():
    with pytest.raises(SettingsError, match=r"(?s)num_prompts.*oracle_steps"):
        StarterSettings(num_prompts=0, oracle_steps=0)
    with pytest.raises(SettingsError, match="2 responses or more"):
        StarterSettings(num_sampled_responses=1, num_corpus_responses=0)
    with pytest.raises(SettingsError, match="261"):
        StarterPolicySettings(vocab_size=200)
    assert PRESETS["short"].policy.max_steps < PRESETS["full"].policy.max_steps
