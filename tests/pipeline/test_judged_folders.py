"""Folders of `fairplay judge` are compared pair by pair and verified from their verdicts; so are offline trainings."""

import json
import shutil

import pytest

from fairplay.cli.main import run
from fairplay.errors import DataError, SettingsError
from fairplay.pipeline.comparing import CompareSettings, compare
from fairplay.pipeline.grade_files import grade_files
from fairplay.pipeline.judge_files import JudgeFilesSettings, Task, judge_files
from fairplay.pipeline.verifying import verify
from fairplay.storage.digests import sha256_file
from fairplay.storage.settings_file import build_settings
from servers.fault_server import fault_server
from servers.judges import length_judge, said

from .schema import check
from .verified import wrong

FEW = CompareSettings(num_bootstrap=300)
BASE = "a response that says a good deal about what was asked, and then some more"


def settings_of(faults, **options):
    judge = {"server": {"model": "judge", "base_url": faults.url, "max_attempts": 1}, **options.pop("judge", {})}
    chosen = {"num_bootstrap": 200, "num_canary_prompts": 4, **options}
    return build_settings(JudgeFilesSettings, {"judge": judge, **chosen}, "test")


def outputs(path, texts):
    rows = [{"instruction": f"Say {i}.", "output": text, "generator": path.stem} for i, text in enumerate(texts)]
    path.write_text(json.dumps(rows))
    return str(path)


def graded(folder, server, name, rating_of, questions):
    def talk(body):
        told = body["messages"][-1]["content"]
        return said(f"[[{rating_of(told)}]]" if BASE in told else "[[1]]")

    server.talk = talk
    rows = [{"question_id": i, "model_id": name, "choices": [{"turns": [f"{BASE} {i}"] * 2}]} for i in range(20)]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    grade_files(questions, folder / f"{name}.jsonl", settings_of(server), folder / name)
    return str(folder / name)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Name -> folder: two policies against one baseline, one on fewer prompts, one asked otherwise; two gradings."""
    folder = tmp_path_factory.mktemp("judged")
    theirs = outputs(folder / "theirs.json", [BASE + "!" * (i % 5) for i in range(20)])
    sides = {
        "one": outputs(folder / "ours-1.json", [BASE + " word" * (i % 3) for i in range(20)]),
        "two": outputs(folder / "ours-2.json", [BASE + " word" * (1 + i % 4) for i in range(20)][::-1]),
        "few": outputs(folder / "ours-3.json", [BASE + " word" * (i % 4) for i in range(17)]),
    }
    made = {}
    with fault_server(length_judge()) as server:
        for name, side in sides.items():
            judge_files(Task("pair", side, theirs), settings_of(server), folder / name)
            made[name] = str(folder / name)
        words = settings_of(server, judge={"min_mass": 0.9})
        judge_files(Task("pair", sides["two"], theirs), words, folder / "words")
        judge_files(Task("hh", sides["two"], theirs), settings_of(server), folder / "hh")
    made |= {"words": str(folder / "words"), "hh": str(folder / "hh")}
    questions = folder / "questions.jsonl"
    rows = [{"question_id": i, "category": "math" if i % 2 else "art", "turns": ["Q?", "More?"]} for i in range(20)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with fault_server(lambda body: said("[[5]]")) as server:
        made["grades one"] = graded(folder, server, "first", lambda told: 5, questions)
        made["grades two"] = graded(folder, server, "second", lambda told: 6 + (f"{BASE} 1" in told), questions)
    return made


@pytest.fixture
def copy(judged, tmp_path):
    def make(name):
        shutil.copytree(judged[name], tmp_path / name.replace(" ", "-"))
        return tmp_path / name.replace(" ", "-")

    return make


def test_two_judgings_are_compared_on_their_common_prompts(judged):
    done = compare([judged["one"], judged["two"], judged["one"]], FEW)
    check(done)
    there, same = done["differences"]
    verdicts = there["verdicts"]
    change = verdicts["win_rate_change"]
    assert change["difference"] == pytest.approx(verdicts["win_rate_after"] - verdicts["win_rate_before"])
    low, high = change["difference_ci"]
    assert low <= change["difference"] <= high
    assert (there["n"], there["opponent"]) == (20, "theirs")
    assert done["family_size"] == 2
    assert change["p_value_holm"] == min(1.0, 2 * change["p_value"])
    assert same["verdicts"]["win_rate_change"]["difference"] == 0
    (back,) = compare([judged["two"], judged["one"]], FEW)["differences"]
    assert back["verdicts"]["win_rate_change"]["difference"] == pytest.approx(-change["difference"])


def test_what_was_asked_otherwise_or_of_other_prompts_is_refused(judged):
    with pytest.raises(DataError, match="Say 17"):
        compare([judged["one"], judged["few"]], FEW)
    (told,) = compare([judged["one"], judged["few"]], CompareSettings(intersection=True, num_bootstrap=300))[
        "differences"
    ]
    assert (told["n"], told["only_before"]) == (17, 3)
    with pytest.raises(DataError, match=r"asked in two ways \(min_mass: 0.5 and 0.9\)"):
        compare([judged["one"], judged["words"]], FEW)
    with pytest.raises(DataError, match="two judges"):
        compare([judged["one"], judged["hh"]], FEW)
    with pytest.raises(SettingsError, match="verdicts can't be compared with ratings"):
        compare([judged["one"], judged["grades one"]], FEW)


def test_two_gradings_are_compared_question_by_question(judged, capsys):
    assert run(["compare", judged["grades one"], judged["grades two"], "--format", "json"]) == 0
    done = json.loads(capsys.readouterr().out)
    check(done)
    (told,) = done["differences"]
    found = told["ratings"]
    assert (found["rating_before"], told["n"]) == (5, 40)
    assert found["rating_change"]["difference"] == pytest.approx(found["rating_after"] - 5)
    assert found["rating_change"]["difference"] > 1
    assert found["rating_change"]["num_prompts"] == 20  # two turns of one question are no independent evidence
    assert found["counts"]["wins"] == 20
    assert run(["compare", judged["grades one"], judged["grades two"]]) == 0
    assert "grade" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["one", "hh", "grades two"])
def test_what_was_judged_follows_from_its_verdicts(judged, name, capsys):
    assert run(["verify", judged[name]]) == 0
    assert "DIFFERS" not in capsys.readouterr().out


def rewrite(path, change):
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def sign(folder, name):
    """Say in the results that the file is what it now is."""
    rewrite(folder / "results.json", lambda told: told["files"].__setitem__(name, sha256_file(folder / name)))


def test_a_tampered_verdict_is_found_even_where_the_hash_was_mended_too(copy, capsys):
    folder = copy("one")
    rewrite(folder / "annotations.json", lambda rows: rows[4]["games"][0].__setitem__("win_prob", 0.999))
    found = wrong(folder)
    assert found["annotations.json: file"] == "is not what was written (sha256)"
    assert "headline.win_rate: written" in found["results.json: win rates, intervals and counts"]
    with pytest.raises(DataError, match=r"annotations\.json is not what was written"):
        compare([str(folder), str(folder)], FEW)
    sign(folder, "annotations.json")
    found = wrong(folder)
    assert "annotations.json: file" not in found
    assert found["annotations.json: preferences"].startswith("[4]: written")
    assert run(["verify", str(folder)]) == 3
    assert "DIFFERS" in capsys.readouterr().out


def test_a_tampered_headline_canary_or_preference_is_found(copy):
    folder = copy("two")
    rewrite(folder / "results.json", lambda told: told["headline"].__setitem__("win_rate", 0.9))
    (told,) = wrong(folder).values()
    assert told.startswith("headline.win_rate: written 0.9")
    folder = copy("few")
    rewrite(folder / "results.json", lambda told: told["gates"]["canaries"][0].__setitem__("win_rate", 0.3))
    assert list(wrong(folder)) == ["results.json: canaries"]
    rewrite(
        folder / "canaries.json",
        lambda rows: [one.__setitem__("win_prob", 0.9) for row in rows for one in row["games"]],
    )
    sign(folder, "canaries.json")
    assert "results.json: win rates, intervals and counts" in wrong(folder)  # the headline would have been withheld
    (folder / "annotations.json").unlink()
    assert wrong(folder)["annotations.json: file"] == "is missing"


@pytest.mark.parametrize(("name", "key"), [("one", "win_rate_ci"), ("grades two", "rating_ci")])
def test_a_version_of_the_statistics_that_was_taken_out_excuses_no_interval(copy, name, key):
    folder = copy(name)

    def forge(told):
        del told["statistics_version"]
        told["headline"][key][0] += 0.01

    rewrite(folder / "results.json", forge)
    (found,) = wrong(folder).values()
    assert found.startswith(f"headline.{key}[0]: written")


def test_a_tampered_grade_is_found(copy):
    folder = copy("grades two")
    lines = (folder / "grades.jsonl").read_text().splitlines()
    first = json.loads(lines[0]) | {"rating": 10.0}
    (folder / "grades.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    sign(folder, "grades.jsonl")
    found = wrong(folder)
    assert found["grades.jsonl: what the replies say"].startswith("[0]: written 10.0")
    assert "headline.rating: written" in found["results.json: grades, intervals and counts"]


def test_a_folder_of_an_older_release_is_told_to_be_judged_again(copy):
    folder = copy("one")
    rewrite(folder / "results.json", lambda told: told.pop("files"))
    for read in (verify, lambda path: compare([str(path), str(path)], FEW)):
        with pytest.raises(DataError, match="older release"):
            read(folder)


@pytest.mark.parametrize("key", ["comparison", "asked", "num_bootstrap", "pairs"])
def test_results_in_which_something_is_missing_are_no_traceback(copy, key, capsys):
    folder = copy("one")
    rewrite(folder / "results.json", lambda told: told.pop(key))
    assert run(["verify", str(folder)]) == 3
    assert key in "".join(capsys.readouterr())
