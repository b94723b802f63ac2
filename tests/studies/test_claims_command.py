"""`sideways claims`: the command lists the claims, keeps their findings, and refuses in a line what it cannot do."""

import json

import pytest

from sideways.commands.claims import verdicts
from sideways.commands.main import main
from sideways.data.videos.make import make
from sideways.errors import Interrupted
from sideways.studies.claims import recognition
from sideways.studies.claims.check import CLAIMS, check_claims
from sideways.studies.claims.claim import OURS, Claim, Finding, Lab, recipe
from sideways.studies.claims.verdict import HOLDS, NOT_HERE, NOT_RUN, Check, at_chance, judged


def test_claims_are_listed_with_their_source(capsys):
    assert main(["claims"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[: len(CLAIMS)]] == list(CLAIMS)
    assert "CVPR 2021" in out


def test_an_unknown_claim_is_refused_in_one_line(capsys):
    assert main(["claims", "magic"]) == 2
    assert "no claim is called 'magic'" in capsys.readouterr().err


def test_one_experiment_that_fails_loses_no_other_and_the_report_says_so(tmp_path, monkeypatch, capsys):
    def fails(lab):
        raise ZeroDivisionError("no ticks")

    def holds(lab):
        return Finding(judged(at_chance("it", [0.25], 0.25, 10)), "0.250", "nothing", [{"arm": "a|b", "x": "1"}], "")

    monkeypatch.setitem(CLAIMS, "smooth", Claim("It fails.", OURS, fails))
    monkeypatch.setitem(CLAIMS, "stable", Claim("It holds.", OURS, holds))
    arguments = ["claims", "smooth", "stable", "--quick", "--out", str(tmp_path / "claims")]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 1
    text = (tmp_path / "claims" / "report.md").read_text()
    assert f"**{NOT_RUN}**" in text and "ZeroDivisionError: no ticks" in text
    assert f"**{HOLDS}**" in text and "a\\|b" in text
    out = f"--quick --out {tmp_path / 'claims'}`, on "
    assert f"`sideways claims smooth {out}" in text and f"`sideways claims stable {out}" in text
    assert "fails" in (tmp_path / "claims" / "smooth" / "error.txt").read_text()


def holds(lab):
    assert [path.name for path in lab.directory.iterdir()] == ["finding.json"]
    (lab.directory / "picture.png").touch()
    return Finding(judged(at_chance("it", [0.25], 0.25, 10)), "0.250", "nothing", [{"arm": "a"}], "")


def test_a_claim_that_is_checked_again_is_replaced_and_others_stay_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setitem(CLAIMS, "stable", Claim("It holds.", OURS, holds))
    monkeypatch.setitem(CLAIMS, "temporal", Claim("It holds, too.", OURS, holds))
    check_claims(["temporal"], tmp_path, "quick")
    for _ in range(2):
        check_claims(["stable"], tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert f"`sideways claims temporal --quick --out {tmp_path}`" in text and f"claims stable --out {tmp_path}`" in text
    assert text.index("## temporal") < text.index("## stable") and text.count(f"**{HOLDS}**") == 2


def test_a_folder_of_something_else_is_not_replaced(tmp_path, capsys):
    (tmp_path / "stable").mkdir()
    (tmp_path / "stable" / "thesis.tex").touch()
    assert main(["claims", "temporal", "stable", "--quick", "--out", str(tmp_path)]) == 2
    assert "stable was not written by `sideways claims`" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["stable", "thesis.tex"]  # nothing was begun


def test_a_damaged_finding_is_refused_before_anything_runs(tmp_path, capsys):
    (tmp_path / "future").mkdir()
    (tmp_path / "future" / "finding.json").write_text("{")
    assert main(["claims", "temporal", "--quick", "--out", str(tmp_path)]) == 2
    assert "finding.json is damaged" in capsys.readouterr().err and not (tmp_path / "temporal").exists()


def test_ctrl_c_keeps_the_findings_and_names_the_command_for_the_rest(tmp_path, monkeypatch, capsys):
    def stops(lab):
        raise KeyboardInterrupt

    monkeypatch.setitem(CLAIMS, "temporal", Claim("It holds.", OURS, holds))
    monkeypatch.setitem(CLAIMS, "stable", Claim("It stops.", OURS, stops))
    assert main(["claims", "temporal", "stable", "smooth", "--quick", "--out", str(tmp_path)]) == 130
    rest = f"to go on: sideways claims temporal stable smooth --quick --out {tmp_path} --resume"
    assert rest in capsys.readouterr().err
    text = (tmp_path / "report.md").read_text()
    assert f"**{HOLDS}**" in text and f"**{NOT_RUN}**" in text and "the run was stopped before its end" in text


def test_a_stopped_claim_goes_on_after_its_last_finished_run(tmp_path, monkeypatch):
    def trained(lab):
        small = {"clips": 1, "batch": 2, "evaluation_clips": 1}
        arms = {name: recipe(name, **small) for name in ("bands-chain", "bands-delayed")}
        lab.train({"bands-chain": arms["bands-chain"]}, range(1, 3))
        if not lab.resume:
            lab.train({"bands-delayed": recipe("bands-delayed", **small | {"clips": 2})}, range(1, 2))  # other settings
            raise KeyboardInterrupt
        results = lab.train(arms, range(1, 3))
        return Finding(judged(Check(True, "it runs", str(results["bands-delayed"].count))), "", "", [], "")

    monkeypatch.setitem(CLAIMS, "stable", Claim("It is stopped once.", OURS, trained))
    monkeypatch.setitem(CLAIMS, "temporal", Claim("It holds.", OURS, holds))
    with pytest.raises(Interrupted):
        check_claims(["temporal", "stable"], tmp_path)
    monkeypatch.setitem(CLAIMS, "temporal", Claim("It is not run again.", OURS, lambda lab: 1 / 0))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    assert len(written) == 3
    findings = check_claims(["temporal", "stable"], tmp_path, resume=True)
    assert [finding.verdict.word for finding in findings.values()] == [HOLDS, HOLDS]
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("results.json")}
    assert len(after) == 4 and sum(after[path] == written.get(path) for path in after) == 2
    monkeypatch.setitem(CLAIMS, "temporal", Claim("It holds.", OURS, lambda lab: 1 / 0))
    assert check_claims(["temporal"], tmp_path, "quick", resume=True)["temporal"].verdict.word == NOT_RUN


def test_the_report_says_how_long_each_claim_took(tmp_path, monkeypatch):
    clock = iter([0.0, 90.0])
    monkeypatch.setattr("sideways.studies.claims.check.time.monotonic", lambda: next(clock, 90.0))
    monkeypatch.setitem(CLAIMS, "stable", Claim("It holds.", OURS, holds))
    assert check_claims(["stable"], tmp_path)["stable"].minutes == 1.5
    text = (tmp_path / "report.md").read_text()
    assert "| 1.5 |" in text and "Together 2 minutes;" in text


def test_the_list_of_claims_shows_the_last_verdict_of_those_that_were_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(CLAIMS, "stable", Claim("It holds.", OURS, holds))
    check_claims(["stable"], tmp_path)
    assert main(["claims", "--out", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"It holds. ({OURS}) Last: {HOLDS}, 0 minutes." in out and out.count("Last:") == 1


def test_the_verdict_for_the_exact_rule_is_kept_and_shown(tmp_path, monkeypatch):
    def run(lab):
        checks = [judged(Check(true, f"it is {true}", "1")) for true in (False, True)]
        return Finding(checks[0], "", "", [], "", exact=checks[1])

    monkeypatch.setitem(CLAIMS, "stable", Claim("It holds for one rule.", OURS, run))
    check_claims(["stable"], tmp_path)
    check_claims(["stable"], tmp_path, resume=True)  # read again from its file
    text = (tmp_path / "report.md").read_text()
    assert f"**{NOT_HERE}**; exact rule: {HOLDS}" in text and f"For the exact rule, `Delayed`: {HOLDS}." in text
    assert "it is True" in text and "it is False" in text
    path = tmp_path / "stable" / "finding.json"
    entries = json.loads(path.read_text())
    del entries["exact"]  # as findings were written before
    path.write_text(json.dumps(entries))
    check_claims(["stable"], tmp_path, resume=True)
    assert "exact rule" not in (tmp_path / "report.md").read_text()


def test_data_that_is_not_there_is_refused_before_anything_runs(tmp_path, capsys):
    out = tmp_path / "claims"
    for data in ("nosuch", "ucf101:/nowhere"):
        assert main(["claims", "all", "--quick", "--data", data, "--out", str(out)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["claims", "stable", "--data", "ucf101:/nowhere", "--out", str(out)]) == 2
    assert "--data is for recognition" in capsys.readouterr().err and not out.exists()


def test_stable_with_a_single_seed_says_what_it_needs(tmp_path):
    finding = check_claims(["stable"], tmp_path, "quick", seeds=1)["stable"]
    assert finding.verdict.word == NOT_RUN and "--seeds must be at least 3" in finding.what


def test_a_made_set_is_not_real_even_if_the_user_names_it(tmp_path):
    make("ucf101", tmp_path / "made", "motion", groups=2, each=1)
    data = f"ucf101:{tmp_path / 'made'}"
    recognition.check_data([data])
    assert not recognition.is_real(data)
    (tmp_path / "made" / "made.txt").unlink()
    assert recognition.is_real(data)


def test_a_claim_that_was_stopped_finds_its_made_set_again_and_makes_anew_what_was_not_finished(tmp_path, monkeypatch):
    made = []

    def begins_and_may_stop(kind, out, *_, **__):
        made.append(out)
        assert not out.exists()
        out.mkdir(parents=True)
        if len(made) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(recognition, "make", begins_and_may_stop)
    lab = Lab(tmp_path, "quick")
    with pytest.raises(KeyboardInterrupt):
        recognition.made_set(lab)
    assert recognition.made_set(lab) == recognition.made_set(lab) == f"ucf101:{tmp_path / 'sets' / 'ucf101'}"
    assert len(made) == 2 and (tmp_path / "sets" / "ucf101").is_dir()


def test_the_help_lists_every_claim_with_its_verdict_and_the_minutes_of_its_last_check(tmp_path, monkeypatch, capsys):
    clock = iter([0.0, 150.0])
    monkeypatch.setattr("sideways.studies.claims.check.time.monotonic", lambda: next(clock, 150.0))
    monkeypatch.setitem(CLAIMS, "stable", Claim("It holds.", OURS, holds))
    monkeypatch.chdir(tmp_path)
    check_claims(["stable"], tmp_path / "runs" / "claims")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["claims", "--help"])
    table = capsys.readouterr().out.partition("\nclaim ")[2].splitlines()[1:]
    rows = {line.split()[0]: line for line in table}
    assert sorted(rows) == sorted(CLAIMS)
    assert rows["stable"].split()[1:3] == [HOLDS, "2"]
    assert rows["stable"].endswith("does not hold here; exact rule: does not hold here")
    assert all(row.split()[1:3] == ["–", "–"] for name, row in rows.items() if name != "stable")
    assert "holds in part; exact rule: holds" in rows["converges"]


def test_a_finding_that_cannot_be_read_does_not_stop_the_help(tmp_path):
    (tmp_path / "stable").mkdir()
    (tmp_path / "stable" / "finding.json").write_text("[1")
    assert [line.split()[1] for line in verdicts(tmp_path).splitlines() if line.startswith("stable")] == ["–"]
