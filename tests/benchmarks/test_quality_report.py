"""Tables and plot of the quality benchmark from made-up numbers, and where they go in the page."""

import xml.etree.ElementTree as ElementTree

import pytest

from wan_gguf.benchmarks import quality_plot, quality_report
from wan_gguf.benchmarks.quality_plot import Box

SVG = "{http://www.w3.org/2000/svg}"
TYPES = {
    "Q2_K": (2.9, 19.0), "Q3_K_S": (3.44, 22.0), "IQ4_XS": (4.25, 27.5), "IQ4_NL": (4.5, 27.6), "Q4_0": (4.6, 27.4),
    "Q4_K_M": (5.0, 29.0), "Q6_K": (6.56, 35.0), "Q8_0": (8.5, 44.0), "BF16": (16.0, 46.0),
}  # fmt: skip


def value(mean, half_width=0.5):
    return {"mean": mean, "half_width": half_width, "min": mean - 5, "max": mean + 5}


def model(bits, db, identical=0):
    error = 0.0 if identical else 10 ** (-db / 20)
    followed = {"right": 63, "n": 64, "share": 63 / 64, "low": 0.917, "high": 0.997}
    return {
        "file": "a.gguf", "bytes": round(1e6 * bits), "share_of_f16": bits / 16, "bits_per_weight": bits,
        "psnr_db": value(db), "ssim": value(0.9, 0.01), "gmsd": value(0.05, 0.01),
        "latent_error": value(error, error / 9),
        "identical": identical, "followed": followed, "background": followed, "real_bytes": {"A14B": 1, "TI2V-5B": 2},
    }  # fmt: skip


@pytest.fixture
def results():
    models = {name: model(*numbers) for name, numbers in TYPES.items()} | {"F16": model(16.0, 101.3, identical=64)}
    measures = {"psnr_db": {"mean": 1.0, "half_width": 0.4, "is_real": True}, "latent_error": value(-0.01, 0.005)}
    unsure = {**measures, "psnr_db": {"mean": 0.1, "half_width": 0.4, "is_real": False}}
    return {
        "prompts": 64,
        "machine": {"cpu": "a CPU"},
        "settings": {
            "steps": 20, "solver": "euler", "cfg": 4.0, "shift": 3.0, "dtype": "fp32", "mode": "exact", "threads": 2,
            "torch": "2.11",
        },
        "models": models,
        "neighbours": [
            {"better": "Q3_K_S", "worse": "Q2_K", **measures}, {"better": "IQ4_NL", "worse": "IQ4_XS", **unsure}
        ],
        "weights": {
            "quantizer": "libgguf 0", "bits_per_weight": {"Q4_K": 4.5, "F16": 16.0},
            "sqnr_db": {"A14B, normal": {"Q4_K": 22.04, "F16": 73.0}, "reference model": {"Q4_K": 21.96, "F16": None}},
        },
    }  # fmt: skip


def rows(text, first):
    """The cells of the lines that begin with that cell."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line] for line in lines]


def test_a_type_s_row_has_means_with_their_intervals(results):
    (row, sizes) = rows(quality_report.tables(results), "Q4_K_M")
    assert row[1:5] == ["5,000,000", "31.2 %", "5.00", "29.00 ± 0.50"]
    assert row[8:] == ["63 of 64 (92 to 100 %)", "0"]
    assert sizes[1:] == ["0.00", "0.00"]


def test_the_f16_row_says_that_it_is_what_the_others_are_compared_with(results):
    assert rows(quality_report.tables(results), "F16")[0][4:8] == ["equal", "1", "0", "0"]


def test_differences_that_may_be_chance_are_called_so(results):
    text = quality_report.tables(results)
    assert rows(text, "Q3_K_S over Q2_K")[0][1:] == ["+1.00 ± 0.40", "-1.00 ± 0.50", "yes"]
    assert rows(text, "IQ4_NL over IQ4_XS")[0][-1] == "no"


def test_matrices_that_lose_nothing_are_exact(results):
    (row,) = (row for row in rows(quality_report.tables(results), "F16") if row[1] == "16")
    assert row[2:] == ["73.0", "exact"]


def test_writing_replaces_what_is_between_the_markers_and_nothing_else(results, tmp_path):
    (tmp_path / "images").mkdir()
    page = tmp_path / quality_report.PAGE
    page.write_text(f"before\n\n{quality_report.BEGIN}\nold\n{quality_report.END}\n\nafter\n")
    quality_report.write(results, tmp_path)
    once = page.read_text()
    assert once.startswith("before\n\n") and once.endswith("\n\nafter\n") and "old" not in once
    assert "| Q4_K_M |" in once
    quality_report.write(results, tmp_path)
    assert page.read_text() == once
    assert ElementTree.parse(tmp_path / quality_report.PICTURE).getroot().tag == f"{SVG}svg"


def test_a_page_without_markers_is_left_as_it_is(results, tmp_path):
    page = tmp_path / quality_report.PAGE
    page.write_text("by hand\n")
    with pytest.raises(ValueError, match="measured: begin"):
        quality_report.write(results, tmp_path)
    assert page.read_text() == "by hand\n"


def test_the_page_that_ships_has_its_tables_and_its_plot(root):
    """Every type of the benchmark is in the tables, more than 64 prompts are behind them, and the plot is there."""
    text = (root / "docs" / quality_report.PAGE).read_text(encoding="utf-8")
    _, begin, rest = text.partition(quality_report.BEGIN)
    measured, end, _ = rest.partition(quality_report.END)
    assert begin and end and quality_report.PICTURE in text
    from wan_gguf.benchmarks.quality import TYPES as ALL

    assert [name for name in (*ALL, "F16") if not rows(measured, name)] == []
    assert int(measured.split(" prompts")[0].split()[-1]) >= 64
    picture = ElementTree.parse(root / "docs" / quality_report.PICTURE).getroot()
    labels = {text.text for text in picture.iter(f"{SVG}text")}
    assert set(ALL) - {"BF16"} <= labels


def drawn(models):
    return ElementTree.fromstring(quality_plot.plot(models))


def test_the_plot_has_a_labelled_point_for_each_type(results):
    root = drawn(results["models"])
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert set(TYPES) - {"BF16"} <= set(texts) and "BF16, 16 bits" in texts and "F16" not in texts
    legend = len(quality_plot.FAMILIES)
    assert len(list(root.iter(f"{SVG}circle"))) == len(TYPES) - 1 + legend


def test_points_lie_where_their_numbers_are(results):
    axes = quality_plot._axes(results["models"].values(), results["models"].values())
    assert axes.x(axes.low) == quality_plot.LEFT and axes.y(axes.top) == quality_plot.TOP
    points = list(drawn({"Q2_K": model(2.5, 20.0), "Q8_0": model(8.5, 40.0)}).iter(f"{SVG}circle"))[-2:]
    (x1, y1), (x2, y2) = ((float(p.get("cx")), float(p.get("cy"))) for p in points)
    per_bit = (quality_plot.WIDTH - quality_plot.LEFT - quality_plot.RIGHT) / 7  # from 2 to 9 bits
    assert x2 - x1 == pytest.approx(6 * per_bit, abs=0.11) and y1 > y2


def test_labels_cover_neither_points_nor_one_another():
    """Nine types at nearly the same place."""
    boxes = []
    for i in range(9):
        boxes.append(quality_plot._free_place("Q4_K_M", 400 + i, 300 + i, boxes))
    assert not any(a.meets(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_boxes_meet_when_they_share_a_point():
    box = Box(0, 0, 10, 10)
    assert box.meets(Box(5, 5, 6, 6)) and box.meets(Box(10, 10, 20, 20))
    assert not box.meets(Box(11, 0, 20, 10)) and not box.meets(Box(0, 11, 10, 20))


def test_the_dotted_line_leaves_out_what_a_smaller_type_beats(results):
    models = {"A": model(3.0, 20.0), "B": model(4.0, 30.0), "C": model(5.0, 25.0), "D": model(6.0, 35.0)}
    axes = quality_plot.Axes(2, 9, 15, 45)
    (line,) = quality_plot._front(models, axes)
    assert line.count("L") == 2 and f"{axes.x(5.0):.1f} " not in line
