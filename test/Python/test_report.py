"""Reports and bit budgets of the driver: files that others read."""

import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy
import pytest


class Checker(HTMLParser):
    """Every tag is closed where it belongs, and nothing is fetched or run."""

    void = {"meta"}

    def __init__(self):
        super().__init__()
        self.open, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link", "img", "iframe"), tag
        for name, value in attributes:
            assert not name.startswith("on") and name not in ("src", "href"), name
            assert "://" not in (value or ""), value
        self.tags.append(tag)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag


def check_page(path):
    text = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert not checker.open
    # Numbers of pictures are numbers.
    for element in ElementTree.fromstring(text).iter():
        for name in ("x", "y", "cx", "cy", "width", "height", "x1", "y1", "x2", "y2"):
            if name in element.attrib and element.tag in ("rect", "circle", "line", "text"):
                assert numpy.isfinite(float(element.attrib[name]))
    assert "prefers-color-scheme: dark" in text
    return checker.tags


@pytest.fixture(scope="module")
def stories(shared):
    folder = shared / "models" / "llm-stories260k"
    if not folder.is_dir():
        pytest.skip("no small language model")
    return folder


def test_report_without_budget(quench_driver, stories, tmp_path):
    quench_driver("compile", stories / "model.onnx", "-o", tmp_path / "m.so", "--recipe", "w4",
                  "--report", tmp_path / "r.json", "--report", tmp_path / "r.html")
    assert check_page(tmp_path / "r.html").count("svg") >= 4
    report = json.loads((tmp_path / "r.json").read_text())
    linear = [w for w in report["weights"] if w["role"] not in ("head", "embedding")]
    assert len(linear) == 35
    for weight in linear:
        # int4: at most four bits of entropy, and not much less for searched or plain ranges.
        assert 2.5 < weight["entropy"] <= 4
        assert 0 < weight["error"] < 0.02
        assert 0 < weight["error_bound"] < 1
        assert weight["db_above_limit"] == pytest.approx(
            10 * numpy.log10(weight["error"] * 4 ** weight["bits_per_weight"]), abs=1e-6)
        assert weight["next_bit_gain"] == pytest.approx(0.75 * weight["loss"])
    assert "budget" not in report


def test_budget(quench_driver, stories, tmp_path):
    ids = numpy.load(stories / "ref" / "in.input_ids.npy").reshape(1, -1)[:, :128]
    numpy.save(tmp_path / "ids.npy", ids)
    recipe = tmp_path / "base.yaml"
    recipe.write_text("name: base\nrules:\n  - format: int<4, group = 32>\n    quantizer: rtn<search>\n")
    formats = [x for b in (2, 3, 4, 5, 6, 8) for x in ("--bits-formats", f"int<{b}, group = 32>")]
    common = ["compile", stories / "model.onnx", "--recipe", recipe, "--calib", tmp_path / "ids.npy", *formats]
    quench_driver(*common, "-o", tmp_path / "m.so", "--bits", "4.5", "--save-recipe", tmp_path / "solved.yaml",
                  "--report", tmp_path / "r.json", "--report", tmp_path / "r.html")
    check_page(tmp_path / "r.html")
    report = json.loads((tmp_path / "r.json").read_text())
    bits = sum(w["bits"] for w in report["weights"]) / sum(w["rows"] * w["cols"] for w in report["weights"])
    assert 4.4 < bits <= 4.5
    assert report["budget"]["bits_per_weight"] == pytest.approx(bits)
    assert len({w["format"] for w in report["weights"]}) > 1
    curve = numpy.array(report["budget"]["curve"])
    assert (numpy.diff(curve[:, 0]) > 0).all() and (numpy.diff(curve[:, 1]) < 0).all()
    for weight in report["weights"]:
        assert weight["predicted_kl"] > 0
        if weight["next"]:
            assert weight["next"]["bits_per_weight"] > weight["bits_per_weight"]
            assert weight["next"]["predicted_kl"] < weight["predicted_kl"]

    # The recipe alone gives the same formats.
    quench_driver("compile", stories / "model.onnx", "-o", tmp_path / "n.so", "--recipe", tmp_path / "solved.yaml",
                  "--report", tmp_path / "s.json")
    again = json.loads((tmp_path / "s.json").read_text())
    assert [w["format"] for w in again["weights"]] == [w["format"] for w in report["weights"]]

    # The limit that was predicted is kept with about as many bits.
    limit = report["budget"]["predicted_kl"]
    quench_driver(*common, "-o", tmp_path / "o.so", "--max-kl", limit, "--report", tmp_path / "t.json")
    limited = json.loads((tmp_path / "t.json").read_text())["budget"]
    assert limited["predicted_kl"] <= limit * (1 + 1e-9)
    assert limited["bits_per_weight"] == pytest.approx(bits, abs=0.25)


@pytest.mark.parametrize("options, message", [
    (["--bits", "4"], "--calib"),
    (["--bits", "-1", "--calib", "x.npy"], "--bits"),
    (["--bits", "4", "--max-kl", "1", "--calib", "x.npy"], "either"),
    (["--bits", "4", "--bits-of", "head", "--calib", "x.npy"], "all or linear"),
])
def test_wrong_usage(quench_driver, tmp_path, options, message):
    done = quench_driver("compile", tmp_path / "model.onnx", *options, ok=False)
    assert done.returncode == 2 and message in done.stderr
