"""The ledger of interim analyses, on disk and in MLflow."""

import json
from pathlib import Path

import pytest

from hpo.compare.groups import group_studies
from hpo.compare.ledger import LEDGER_FILE, AnalysisLedger, InterimAnalysis, overlapping, question_keys
from hpo.errors import ConfigError
from unit.compare.toy_comparison import BEST, CURRENT, WORST, analysed, grouped, study

# As earlier versions recorded it.
RECORD = {
    "seeds": [0, 1],
    "levels": ["optuna", "random"],
    "spent": 0.05,
    "max_seeds": None,
    "min_effect": 0.01,
    "alpha": 0.05,
}


def test_analysis_is_recorded_with_the_names_of_earlier_versions() -> None:
    analysis = InterimAnalysis.from_record(RECORD)
    assert analysis == analysed((0, 1), 0.05, ("optuna", "random"))
    # MLflow runs of an analysis are found by the text of their tag.
    assert json.dumps(analysis.to_record()) == json.dumps(RECORD)


def test_analyses_of_earlier_versions_are_read(tmp_path: Path) -> None:
    (tmp_path / "looks.json").write_text(json.dumps({"key": [RECORD], "other": []}))
    ledger = AnalysisLedger(tmp_path, ["key"], [])
    assert ledger.analyses == [InterimAnalysis.from_record(RECORD)]


def test_analyses_on_disk_and_in_mlflow_are_joined(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_text(json.dumps({"key": [RECORD]}))
    only_logged = RECORD | {"seeds": [0, 1, 2], "spent": 0.0}
    ledger = AnalysisLedger(tmp_path, ["key"], [RECORD, only_logged])
    assert [analysis.seeds for analysis in ledger.analyses] == [(0, 1, 2), (0, 1)]


def test_added_analysis_is_kept_once(tmp_path: Path) -> None:
    ledger = AnalysisLedger(tmp_path, ["key"], [])
    first = analysed((0, 1), 0.01)
    ledger.add(first)
    ledger.add(analysed((1, 0), 0.02, "ba"))
    assert ledger.analyses == AnalysisLedger(tmp_path, ["key"], []).analyses == [first]
    assert AnalysisLedger(tmp_path, ["other"], []).analyses == []


def test_analysis_known_to_mlflow_is_not_added_again(tmp_path: Path) -> None:
    AnalysisLedger(tmp_path, ["key"], [RECORD]).add(InterimAnalysis.from_record(RECORD))
    assert not (tmp_path / LEDGER_FILE).exists()


def test_unreadable_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_text("{")
    with pytest.raises(ConfigError) as refused:
        AnalysisLedger(tmp_path, ["key"], [])
    assert "restore it" in refused.value.fix


def test_analyses_overlap_if_they_share_pair_and_seed() -> None:
    same, one_seed = analysed((0, 1), 0.01), analysed((1, 2), 0.01)
    other_seeds, one_level = analysed((5, 6), 0.01), analysed((0, 1), 0.01, "ac")
    found = overlapping([same, one_seed, other_seeds, one_level], (0, 1), ("a", "b"))
    assert found == [same, one_seed]


def test_question_is_the_same_for_other_levels_and_seeds() -> None:
    (key,) = question_keys(grouped({"a": BEST, "b": WORST}))
    assert question_keys(grouped({"b": BEST[:2], "c": WORST[:2]})) == [key]
    assert question_keys(grouped({"a": BEST, "b": WORST}, limits__n_trials="9")) != [key]


def test_group_of_two_formats_has_the_keys_of_both(tmp_path: Path) -> None:
    old = [study(level, seed) for level in ("a", "b") for seed in (0, 1)]
    new = [study(level, seed, base=CURRENT) for level in ("a", "b") for seed in (2, 3)]
    (old_key,) = question_keys(group_studies(old, "strategy"))
    (new_key,) = question_keys(group_studies(new, "strategy"))
    assert question_keys(group_studies([*new, *old], "strategy")) == [new_key, old_key]

    AnalysisLedger(tmp_path, [old_key], []).add(analysed((0, 1), 0.01))
    both = AnalysisLedger(tmp_path, [new_key, old_key], [])
    assert [each.seeds for each in both.analyses] == [(0, 1)]
    both.add(analysed((0, 1, 2, 3), 0.02))
    # Whichever studies are compared next, the analysis of both counts.
    assert [each.seeds for each in AnalysisLedger(tmp_path, [old_key], []).analyses] == [(0, 1), (0, 1, 2, 3)]
    assert [each.seeds for each in AnalysisLedger(tmp_path, [new_key], []).analyses] == [(0, 1, 2, 3)]
