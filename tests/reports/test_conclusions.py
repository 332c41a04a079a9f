"""The sentences of a report on invented runs whose differences are exact."""

import pytest
from support import invented

from blrobust.analysis.analysis import Analysis
from blrobust.reports import axes, tables
from blrobust.reports.attacks import gradient_notes
from blrobust.reports.conclusions import conclusions
from blrobust.reports.sentence_parts import where
from blrobust.runs.run import Run

LEVELS = [0.0, 0.5, 1.0, 1.5]
STD = [0.2023, 0.1994, 0.2010]
GAUSSIAN = axes.axis("gaussian", "normalized", STD)
END = "Without them a gain cannot be put down to the band limit."


def not_measured(*limited):
    low_passes = "".join(f"a low-pass in front of fp32 matched to {model}, " for model in limited)
    return f"{low_passes}fp32-early, fp32-noise, fp32-lowpass, fp32-narrow, fp16 or bf16. {END}"


def sentences(path, curves, levels=LEVELS, *, baseline=None, n=1000, **options):
    with Run.open(invented.run(path, curves, levels, n=n, is_exact=True, **options)) as run:
        found = conclusions(Analysis(run, "gaussian", baseline=baseline), GAUSSIAN)
    return [sentence.replace("\xa0", " ") for sentence in found]


def test_gain_loss_tie_and_nothing_left(tmp_path):
    curves = {
        "fp32": [0.93, 0.33, 0.15, 0.10],
        "fft50": [0.93, 0.53, 0.15, 0.10],
        "fft85": [0.84, 0.68, 0.36, 0.10],
        "fp16": [0.93, 0.33, 0.15, 0.10],
    }
    assert sentences(tmp_path / "run", curves, cards={"fp16": {"precision": "fp16"}}) == [
        "Best model: fft85 at 2 of 4 levels (sigma 0.5 to 1). At 2 of 4 levels (sigma 0, 1.5) no model is "
        "better than all others.",
        "Better than fp32: fft85 at 2 of 4 levels (sigma 0.5 to 1), most at sigma 0.5: +35.0 points "
        "(+32.0 to +37.9); fft50 at 1 of 4 levels (sigma 0.5): +20.0 points (+17.5 to +22.4).",
        "Worse than fp32: fft85 at 1 of 4 levels (sigma 0): −9.0 points (−10.8 to −7.2).",
        "No difference from fp32 found at any level: fp16 (95 % intervals within −0.2 to +0.2 points).",
        "Nothing is left at 1 of 4 levels (sigma 1.5): no model is measurably better than a guess (10.0 %).",
        # The mean of fp32 is (0.93 / 2 + 0.33 + 0.15 + 0.10 / 2) / 3, and fft85's 17.17 points more.
        "Band limits against the best model without them by mean accuracy, fp32 (33.2 %): fft85 is better "
        "at 2 of 4 levels (sigma 0.5 to 1), worse at 1 of 4 levels (sigma 0), mean +17.2 points (+15.9 to "
        "+18.5); fft50 is better at 1 of 4 levels (sigma 0.5), worse at no level, mean +6.7 points (+5.8 "
        "to +7.5).",
        "Band limits against other models without them: fft85 is better than fp16 at 2 of 4 levels (sigma "
        "0.5 to 1), worse at 1 of 4 levels (sigma 0); fft50 is better than fp16 at 1 of 4 levels (sigma "
        "0.5), worse at no level.",
        f"Not measured in this run: {not_measured('fft50', 'fft85')}".replace(", fp16 or bf16", ""),
    ]


def test_without_gains_the_loss_is_as_prominent(tmp_path):
    text = sentences(tmp_path / "run", {"fp32": [0.9, 0.5, 0.3, 0.2], "fft85": [0.8, 0.3, 0.3, 0.2]})
    assert text[:3] == [
        "Best model: fp32 at 2 of 4 levels (sigma 0 to 0.5). At 2 of 4 levels (sigma 1 to 1.5) no model is "
        "better than all others.",
        "No model is found to be better than fp32 at any level.",
        "Worse than fp32: fft85 at 2 of 4 levels (sigma 0 to 0.5), most at sigma 0.5: −20.0 points "
        "(−22.4 to −17.5).",
    ]


def test_equal_models_are_no_find(tmp_path):
    same = [0.9, 0.5, 0.3, 0.2]
    assert sentences(tmp_path / "run", {"fp32": same, "fp16": same}) == [
        "No model is found to be better than all others at any level.",
        "No model is found to be better than fp32 at any level.",
        "No model is found to be worse than fp32 at any level.",
        "No difference from fp32 found at any level: fp16 (95 % intervals within −0.2 to +0.2 points).",
    ]


def test_nothing_left_of_either_is_no_gain(tmp_path):
    text = sentences(tmp_path / "run", {"fp32": [0.9, 0.0, 0.0, 0.0], "fp16": [0.9, 0.001, 0.0, 0.0]})
    assert text[0] == "No model is found to be better than all others at any level."
    assert text[-1] == (
        "Nothing is left at 3 of 4 levels (sigma 0.5 to 1.5): no model is measurably better than a guess "
        "(10.0 %)."
    )


def test_little_above_a_guess_is_not_said_to_be_as_low(tmp_path):
    """11 of 100 are no more than 10 by chance, but more than 10."""
    text = sentences(tmp_path / "run", {"fp32": [0.9, 0.11], "fp16": [0.9, 0.11]}, [0.0, 1.0], n=100)
    assert text[-1] == (
        "Nothing is left at 1 of 2 levels (sigma 1): no model is measurably better than a guess (10.0 %)."
    )


@pytest.mark.parametrize(
    ("n", "levels", "warning"),
    [
        (
            20,
            LEVELS,
            "Too few images: with 20 images and 3 levels above 0 a test between two models finds no "
            "difference at these levels unless 7 or more images favour one of them. Use 100 or more.",
        ),
        (
            5,
            LEVELS[:2],
            "Too few images: with 5 images and 1 level above 0 a test between two models finds no "
            "difference at this level. Use 100 or more.",
        ),
        (
            1,
            [0.0],
            "Too few images: with 1 image a test between two models finds no difference. Use 100 or more.",
        ),
    ],
)
def test_few_images_are_warned_of_with_what_they_can_show(n, levels, warning, tmp_path):
    curves = {"fp32": [0.3] * len(levels), "fp16": [0.55] * len(levels)}
    text = sentences(tmp_path / "run", curves, levels, n=n)
    assert text[1] == warning
    assert text[0] == "No model is found to be better than all others at any level."
    alone = sentences(tmp_path / "alone", {"fp32": curves["fp32"]}, levels, n=n)
    assert alone[1].endswith(" the intervals are wide. Use 100 or more.")
    assert ("of the clean images right." in alone[0]) == (len(levels) == 1)
    assert not any("few" in sentence for sentence in sentences(tmp_path / "many", curves, levels, n=100))


@pytest.mark.parametrize(("images", "found"), [(7, "all 4 levels (sigma 0 to 1.5)"), (6, "1 of 4 levels")])
def test_seven_of_twenty_images_are_enough(images, found, tmp_path):
    """Exact McNemar: 2 / 2^7, by Holm times 3 levels above 0, is 0.047; of 6 it is 0.031 at level 0."""
    enough = {"fp32": [0.3] * 4, "fp16": [0.3 + images / 20] * 4}
    text = sentences(tmp_path / "run", enough, n=20)
    assert text[0].startswith(f"Best model: fp16 at {found}")


def test_the_claim_is_against_the_best_model_without_band_limits(tmp_path):
    curves = {
        "fp32": [0.9, 0.4, 0.2, 0.1],
        "lowpass-fft85+fp32": [0.8, 0.6, 0.3, 0.1],
        "fp32-noise": [0.9, 0.8, 0.7, 0.6],
        "fft85": [0.8, 0.7, 0.3, 0.1],
    }
    cards = {"lowpass-fft85+fp32": {"channels": ["lowpass-fft85"]}}
    text = sentences(tmp_path / "run", curves, cards=cards)
    assert text[-3:] == [
        "Band limits against the best model without them by mean accuracy, fp32-noise (75.0 %): fft85 is "
        "better at no level, worse at all 4 levels (sigma 0 to 1.5), mean −26.7 points (−27.8 to −25.5).",
        "Band limits against a low-pass in front of fp32 matched to fft85, lowpass-fft85+fp32: fft85 is "
        "better at 1 of 4 levels (sigma 0.5), worse at no level, mean +3.3 points (+2.7 to +4.0).",
        "Not measured in this run: fp32-early, fp32-lowpass, fp32-narrow, fp16 or bf16. Without them a gain "
        "cannot be put down to the band limit.",
    ]
    # The best one may be fp32 itself, a low-pass, half precision or a model of the user's own.
    for best in ("fp32", "lowpass-fft85+fp32", "fp32-noise", "mine"):
        others = {m: [0.5] * 4 for m in ("fp32", "lowpass-fft85+fp32", "fp32-noise", "mine", "fft85")}
        text = sentences(tmp_path / best, {**others, best: [0.6] * 4}, cards=cards)
        assert any(
            f"without them by mean accuracy, {best} (60.0 %): fft85 is better at no" in s for s in text
        )


def test_a_low_pass_in_front_of_another_model_is_not_that_control(tmp_path):
    curves = {model: [0.9, 0.5, 0.3, 0.2] for model in ("fp32", "lowpass0.84+fp32-noise", "fft85")}
    cards = {"lowpass0.84+fp32-noise": {"channels": ["lowpass0.84"], "checkpoint": "w/a-b-fp32-noise.st"}}
    text = sentences(tmp_path / "run", curves, cards=cards)
    assert text[-1] == f"Not measured in this run: {not_measured('fft85')}"


@pytest.mark.parametrize(
    ("channels", "is_matched"),
    [
        (["lowpass-fft85"], True),
        (["lowpass0.42"], True),  # the recorded cut
        (["lowpass0.48"], True),  # the same filter of 32 x 32 pixels, by rounding
        (["lowpass-fft50"], False),
        (["lowpass0.12"], False),
        (["lowpass0.95"], False),
        (["lowpass0.42", "depth3"], False),
    ],
)
def test_only_the_recorded_filter_is_the_matched_control(channels, is_matched, tmp_path):
    trained = {"dataset": "cifar10", "arch": "resnet20"}
    cards = {
        "cut": {"channels": channels, "checkpoint": "w/cifar10-resnet20-fp32.st", **trained},
        "fft85": trained,
    }
    curves = {"fp32": [0.9, 0.4], "cut": [0.8, 0.3], "fft85": [0.8, 0.6]}
    text = sentences(tmp_path / "run", curves, [0.0, 1.0], cards=cards)
    missing = "a low-pass in front of fp32 matched to fft85 (lowpass-fft85+fp32), "
    assert (missing in text[-1]) == (not is_matched)
    which = "matched to fft85, cut: " if is_matched else "that is not matched to fft85, cut: "
    assert any(s.startswith(f"Band limits against a low-pass in front of fp32 {which}") for s in text)


def test_a_seed_that_was_measured_alone_is_its_control(tmp_path):
    curves = {"fp32-seed1": [0.9, 0.4], "lowpass-fft85+fp32-seed1": [0.8, 0.3], "fft85-seed2": [0.8, 0.6]}
    cards = invented.trained(curves, nominal_compression=0.0, effective_compression=0.0)
    cards["fft85-seed2"] |= {"nominal_compression": 0.84, "effective_compression": 0.86}
    text = sentences(tmp_path / "run", curves, [0.0, 1.0], cards=cards)
    assert text[-1] == f"Not measured in this run: {not_measured()}"
    low_pass = (
        "Band limits against a low-pass in front of fp32 matched to fft85-seed2, lowpass-fft85+fp32-seed1"
    )
    assert any(sentence.startswith(low_pass) for sentence in text)


def test_a_calibrated_model_is_no_control(tmp_path, monkeypatch):
    monkeypatch.setitem(invented.COMPRESSION, "mine", (0.0, 0.5))
    curves = {"fp32": [0.9, 0.4, 0.1, 0.1], "mine": [0.9, 0.7, 0.5, 0.1], "fp16": [0.9, 0.41, 0.1, 0.1]}
    text = sentences(tmp_path / "run", curves)
    assert any(
        s.startswith("Band limits against the best model without them") and " fp16 (" in s for s in text
    )


def test_only_band_limited_models_leave_their_part_unknown(tmp_path):
    text = sentences(tmp_path / "run", {"fft50": [0.9, 0.5, 0.3, 0.2], "fft85": [0.8, 0.7, 0.3, 0.2]})
    assert text[-2] == (
        "No model without band-limited layers was measured in this run, so their part in this is unknown."
    )
    assert text[-1] == f"Not measured in this run: fp32, {not_measured('fft50', 'fft85')}"
    assert text[1].startswith("Better than fft50: fft85 at 1 of 4 levels (sigma 0.5): +20.0 points ")


def test_the_baseline_can_be_named(tmp_path):
    curves = {"fp32": [0.9, 0.5, 0.3, 0.2], "fft85": [0.8, 0.7, 0.3, 0.2], "mine": [0.9, 0.5, 0.3, 0.2]}
    text = sentences(tmp_path / "run", curves, baseline="fft85")
    assert text[1] == (
        "Better than fft85: fp32 at 1 of 4 levels (sigma 0): +10.0 points (+8.1 to +11.8); mine at 1 of 4 "
        "levels (sigma 0): +10.0 points (+8.1 to +11.8)."
    )
    assert "fp32" not in " ".join(s for s in text if s.startswith("Worse than fp32"))


def test_an_unfinished_baseline_is_not_compared_with(tmp_path):
    curves = {model: [0.9, 0.5, 0.3, 0.2] for model in ("mine", "fp16", "fp32")}
    text = sentences(tmp_path / "run", curves, cells=10)
    assert text[1] == "fp32, with which the others are compared, does not have all its levels yet."
    assert len(text) == 2


def test_one_model(tmp_path):
    (text, *_) = sentences(tmp_path / "a", {"fp32": [0.9, 0.7, 0.3, 0.1]})
    assert text == (
        "fp32 gets 90.0 % (88.0 to 91.7) of the clean images right and 50.0 % on average over the grid; it "
        "falls to 50 % at sigma 0.75."
    )
    (text, *_) = sentences(tmp_path / "b", {"fp32": [0.9, 0.8, 0.8, 0.7]})
    assert text.endswith("it stays above 50 % on the whole grid.")
    (text, *_) = sentences(tmp_path / "c", {"fp32": [0.4, 0.3, 0.3, 0.2]})
    assert text.endswith("it is below 50 % from the start.")
    limited = sentences(tmp_path / "d", {"fft85": [0.4, 0.3, 0.3, 0.2]})
    assert limited[1] == f"Not measured in this run: fp32, {not_measured('fft85')}"


def test_levels_with_gaps_are_named_one_by_one_or_summed_up(tmp_path):
    high, low = 0.8, 0.3
    base = [0.55] * 9
    few = [high, high, low, high, low, low, low, low, low]
    text = sentences(tmp_path / "few", {"fp32": base, "fp16": few}, levels=list(range(9)))
    assert "fp16 at 3 of 9 levels (sigma 0 to 1, 3)" in text[0]
    many = [high, low, high, low, high, low, high, low, high]
    text = sentences(tmp_path / "many", {"fp32": base, "fp16": many}, levels=list(range(9)))
    assert "fp16 at 5 of 9 levels (from sigma 0 on, with gaps)" in text[0]


def test_more_than_four_models_are_counted(tmp_path):
    curves = {"fp32": [0.9, 0.3, 0.2, 0.2], **{f"m{i}": [0.9, 0.5, 0.2, 0.2] for i in range(7)}}
    text = sentences(tmp_path / "run", curves)
    assert text[1].endswith("; and 3 more (see the tables).")


@pytest.mark.parametrize(
    ("curve", "n", "wanted"),
    [
        (
            [0.8, 0.6, 0.3],
            1000,
            [
                "Unlike the published result, band limits are better than fp32 under this gradient attack: "
                "fft85 at 1 of 3 levels (strength 1/255). Before trusting this, rule out masked gradients "
                "and too few steps."
            ],
        ),
        (
            [0.8, 0.6, 0.2],
            1000,
            [
                "Unlike the published result, band limits are better than fp32 under this gradient attack: "
                "fft85 at 1 of 3 levels (strength 1/255). Worse, as published: fft85 at 1 of 3 levels "
                "(strength 2/255). Before trusting this, rule out masked gradients and too few steps."
            ],
        ),
        (
            [0.8, 0.4, 0.3],
            1000,
            [
                "As published, band limits do not help against this gradient attack: where accuracy is "
                "better than a guess, every band-limited model is worse than fp32 at some strength and "
                "better at none: fft85 at 1 of 3 levels (strength 1/255)."
            ],
        ),
        ([0.8, 0.5, 0.3], 1000, []),  # a loss on clean images alone is no attack's
        ([0.8, 0.6, 0.3], 20, []),  # two images are chance
    ],
)
def test_the_published_sign_of_a_gradient_attack_takes_a_test(curve, n, wanted, tmp_path):
    levels = [0.0, 1 / 255, 2 / 255]
    curves = {"fp32": [0.9, 0.5, 0.3], "fft85": curve}
    options = {"kind": "fgsm", "space": "pixel", "n": n, "is_exact": True}
    with Run.open(invented.run(tmp_path / "run", curves, levels, **options)) as run:
        assert gradient_notes(Analysis(run, "fgsm"), axes.axis("fgsm", "pixel", STD)) == wanted


def gradient_sentences(path, curves, levels, **options):
    options = {"kind": "fgsm", "space": "pixel", "n": 1000, "is_exact": True} | options
    with Run.open(invented.run(path, curves, levels, **options)) as run:
        analysis, axis = Analysis(run, "fgsm"), axes.axis("fgsm", "pixel", STD)
        return gradient_notes(analysis, axis), conclusions(analysis, axis)


def test_a_gain_below_a_guess_is_marked_and_is_no_sign(tmp_path):
    """9 % against 0 % is a difference, but neither model is better than a guess of 10 %."""
    curves = {"fp32": [0.9, 0.0], "fft85": [0.9, 0.09]}
    notes, text = gradient_sentences(tmp_path / "run", curves, [0.0, 2 / 255])
    assert notes == []
    (gain,) = [sentence for sentence in text if sentence.startswith("Better than fp32")]
    assert gain.endswith(", though fft85 is no better than a guess.")
    assert (
        "fft85 is better at 1 of 2 levels (strength 2/255), though fft85 is no better than a guess, worse at"
        in " ".join(text)
    )


def test_a_loss_below_a_guess_names_the_better_model(tmp_path):
    curves = {"fp32": [0.9, 0.0], "fft85": [0.9, 0.09], "fft50": [0.9, 0.0]}
    path = invented.run(tmp_path / "run", curves, [0.0, 1.0], n=1000, is_exact=True)
    with Run.open(path) as run:
        analysis = Analysis(run, "gaussian", baseline="fft85")
        text = conclusions(analysis, GAUSSIAN)
        against, tested = tables.against_controls(analysis), tables.tests(analysis, GAUSSIAN, "fft85")
        overall = tables.summary({"run": analysis}, GAUSSIAN)
    (loss,) = [sentence for sentence in text if sentence.startswith("Worse than fft85")]
    assert loss.count(", though fft85 is no better than a guess") == 2
    limits = "fft85 is better at 1 of 2 levels (sigma 1), though fft85 is no better than a guess, worse at no"
    assert limits in " ".join(text)
    caveat = "; at 1 of these no better than a guess"
    details = [cell.detail for _, cells in against.rows for cell in cells]
    assert [caveat in detail for detail in details] == [True, False]
    assert tested.rows[1][1][0].detail.endswith("; p\xa0<\xa00.001; no better than a guess")
    assert dict(overall.rows)["fp32"][-1].detail == caveat.removeprefix("; ")


def test_a_caveat_is_in_the_sentence_about_other_models_too(tmp_path):
    curves = {"fp32": [0.9, 0.0], "fft85": [0.9, 0.09], "fp16": [0.9, 0.0], "bf16": [0.9, 0.5]}
    text = sentences(tmp_path / "run", curves, [0.0, 1.0])
    (others,) = [sentence for sentence in text if sentence.startswith("Band limits against other models")]
    assert others == (
        "Band limits against other models without them: fft85 is better than fp16 at 1 of 2 levels (sigma "
        "1), though fft85 is no better than a guess, worse at no level."
    )


def test_of_equal_differences_the_first_is_the_largest(tmp_path):
    """47 of 60 is the difference at each level, but 59 / 60 - 12 / 60 is a smaller float than the others."""
    curves = {"fp32": [59 / 60, 57 / 60, 56 / 60], "fp16": [12 / 60, 10 / 60, 9 / 60]}
    text = sentences(tmp_path / "run", curves, LEVELS[:3], n=60)
    (loss,) = [sentence for sentence in text if sentence.startswith("Worse than fp32")]
    assert "most at sigma 0: \u221278.3 points" in loss


def test_a_gain_over_fp32_names_the_better_control(tmp_path):
    curves = {"fp32": [0.9, 0.2], "fft85": [0.9, 0.5], "fp32-noise": [0.9, 0.8]}
    notes, _ = gradient_sentences(tmp_path / "run", curves, [0.0, 2 / 255])
    assert " But they are worse than fp32-noise, without band limits: fft85 at 1 of 2 levels" in notes[0]


def test_a_loss_of_one_band_limited_model_is_not_one_of_all(tmp_path):
    """fft50 has 4 points more than fp32, which is no find among 50 images: it may help or not."""
    curves = {"fp32": [0.9, 0.5], "fft50": [0.9, 0.54], "fft85": [0.9, 0.2]}
    notes, _ = gradient_sentences(tmp_path / "run", curves, [0.0, 2 / 255], n=50)
    assert notes == [
        "Where accuracy is better than a guess, these band-limited models are worse than fp32 under this "
        "gradient attack, as published: fft85 at 1 of 2 levels (strength 2/255). No difference is found "
        "there for fft50."
    ]
    curves["fft50"] = [0.9, 0.1]
    (note,), _ = gradient_sentences(tmp_path / "both", curves, [0.0, 2 / 255], n=50)
    assert note.startswith("As published, band limits do not help against this gradient attack: ")
    curves["fft50"], curves["fft85"] = [0.9, 0.9], [0.9, 0.54]
    (note,), _ = gradient_sentences(tmp_path / "gain", curves, [0.0, 2 / 255], n=50)
    assert "(strength 2/255). No difference found: fft85. Before" in note


def test_a_gain_below_a_guess_is_marked_level_by_level_and_for_the_best_model(tmp_path):
    """At sigma 1 and 1.5 both models are below 10 %, and 9 % against 0 % is a difference."""
    curves = {"fp32": [0.9, 0.3, 0.0, 0.0], "fp16": [0.9, 0.6, 0.09, 0.09]}
    text = sentences(tmp_path / "run", curves)
    end = ", though fp16 is no better than a guess at 2 of 4 levels (sigma 1 to 1.5)"
    assert text[0].startswith(f"Best model: fp16 at 3 of 4 levels (sigma 0.5 to 1.5){end}. At 1 of 4")
    assert text[1].endswith(f"{end}.")


def test_a_difference_too_small_for_one_decimal_has_more(tmp_path):
    """9 of 20,000 images are 0.045 points; p = 2 / 2^9 by McNemar, times 2 levels."""
    curves = {"fp32": [0.5, 0.5], "fp16": [0.5, 0.49955]}
    text = sentences(tmp_path / "run", curves, [0.0, 1.0], n=20_000)
    # Agresti and Min by hand: 9 / 20,002 with 1.96 sqrt(10 - 81 / 20,002) / 20,002 to both sides.
    assert text[2] == "Worse than fp32: fp16 at 1 of 2 levels (sigma 1): −0.05 points (−0.08 to −0.01)."


def test_each_model_is_compared_with_its_own_low_pass(tmp_path):
    curves = {
        "fp32-noise": [0.9, 0.9, 0.9, 0.9],
        "lowpass-fft50+fp32": [0.8, 0.5, 0.3, 0.1],
        "lowpass0.7+fp32": [0.8, 0.6, 0.3, 0.1],
        "fft50": [0.9, 0.5, 0.3, 0.1],
        "fft85": [0.8, 0.7, 0.3, 0.1],
    }
    channels = {"lowpass-fft50+fp32": "lowpass-fft50", "lowpass0.7+fp32": "lowpass0.7"}
    cards = {name: {"channels": [channel]} for name, channel in channels.items()}
    text = " ".join(sentences(tmp_path / "run", curves, cards=cards))
    low_pass = "Band limits against a low-pass in front of fp32"
    assert f"{low_pass} matched to fft50, lowpass-fft50+fp32: fft50 is better at 1 of 4 levels" in text
    choice = "lowpass0.7+fp32 (the best of 2 by mean accuracy)"
    assert f"{low_pass} that is not matched to fft85, {choice}: fft85 is better at 1 of 4 levels" in text
    assert "fft85 is better than lowpass-fft50+fp32" in text
    assert "fft50 is better than lowpass-fft50+fp32" not in text


def test_a_mean_without_a_find_is_called_no_test(tmp_path):
    """5 of 20 images at each level: no find, but the bootstrap interval of the mean excludes 0."""
    curves = {"fp32": [0.5, 0.5, 0.5, 0.5], "fft85": [0.75, 0.75, 0.75, 0.75]}
    text = sentences(tmp_path / "run", curves, n=20)
    assert "mean +25.0 points (+5.0 to +45.0)" in " ".join(text)
    assert (
        "The interval of a difference in mean accuracy is no test, and it is unreliable with fewer than 100 "
        "images."
    ) in text
    curves["fft85"] = [1.0, 1.0, 1.0, 1.0]
    assert not any("is no test" in sentence for sentence in sentences(tmp_path / "found", curves, n=20))


def test_gaps_in_pixels_have_the_unit_beside_the_number():
    axis = axes.axis("pixel", "legacy", STD)
    grid = [float(level) for level in range(0, 90, 10)]
    assert where(grid[1::2], grid, axis) == "4 of 9 levels (from 10 pixels on, with gaps)"
