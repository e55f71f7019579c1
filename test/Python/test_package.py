"""The Python package on a small random decoder, whose right answers come from numpy."""

import threading

import llama_oracle as oracle
import model_zoo as zoo
import numpy as np
import pytest

quench = pytest.importorskip("quench")
pytest.importorskip("quench._quench", reason="the extension is not built")
ort = pytest.importorskip("onnxruntime")

IDS = np.array([[5, 9, 33, 2, 47, 11, 8]], np.int64)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory, quench_driver):
    """An ONNX file, its compiled form and its weights."""
    folder = tmp_path_factory.mktemp("decoder")
    source, weights = zoo.make_decoder("made-past", folder)
    assert quench.compile(source, folder / "model.so", recipe="f32") == str(folder / "model.so")
    return source, folder / "model.so", weights


def inputs(ids=IDS, past=0):
    batch, sequence = ids.shape
    values = {"input_ids": ids, "attention_mask": np.ones((batch, past + sequence), np.int64),
              "position_ids": np.tile(np.arange(past, past + sequence), (batch, 1))}
    for layer in range(2):
        for part in ("key", "value"):
            values[f"past_key_values.{layer}.{part}"] = np.zeros((batch, 2, past, 16), np.float32)
    return values


def close(got, want):
    return zoo.distance(np.asarray(got), np.asarray(want)) < 1e-4


def test_call(decoder):
    _, path, weights = decoder
    model = quench.load(path)
    outputs = model(**inputs())
    assert sorted(outputs) == sorted(info.name for info in model.outputs)
    assert close(outputs["logits"][0], oracle.logits(weights, IDS[0]))
    assert model.has_state and model.vocabulary == 50


def test_arrays_are_not_copied(decoder):
    _, path, weights = decoder
    context = quench.load(path).context(threads=1, capacity=8)
    logits = np.zeros((1, IDS.shape[1], 50), np.float32)
    results = context.run(inputs(), {"logits": logits})
    assert results["logits"] is logits
    assert close(logits[0], oracle.logits(weights, IDS[0]))


def test_other_memory_orders_are_taken(decoder):
    _, path, weights = decoder
    twice = np.repeat(IDS, 2, axis=1)[:, ::2]
    assert not twice.flags.c_contiguous
    assert close(quench.load(path)(**inputs(twice))["logits"][0], oracle.logits(weights, IDS[0]))


def test_session_has_onnx_runtimes_shape(decoder):
    source, path, _ = decoder
    ours, theirs = quench.InferenceSession(str(path)), ort.InferenceSession(str(source))
    for a, b in ((ours.get_inputs(), theirs.get_inputs()), (ours.get_outputs(), theirs.get_outputs())):
        assert [(x.name, x.type, len(x.shape)) for x in a] == [(x.name, x.type, len(x.shape)) for x in b]
    for names in (None, ["logits"], ["present.1.value", "logits"]):
        for got, want in zip(ours.run(names, inputs()), theirs.run(names, inputs())):
            assert got.shape == want.shape and got.dtype == want.dtype and close(got, want)


def test_session_compiles_onnx_files(decoder):
    source, _, weights = decoder
    session = quench.InferenceSession(source, providers=["CPUExecutionProvider"])
    assert close(session.run(["logits"], inputs())[0][0], oracle.logits(weights, IDS[0]))


def test_steps_are_the_whole_text(decoder):
    _, path, weights = decoder
    want = oracle.logits(weights, IDS[0])
    context = quench.load(path).context(capacity=16)
    assert close(context.step(IDS[0, :3], all=True), want[:3])
    for i in range(3, IDS.shape[1]):
        assert close(context.step(IDS[0, i:i + 1]), want[i])
    assert (context.length, context.capacity) == (IDS.shape[1], 16)
    state = context.save()
    context.truncate(4)
    assert close(context.step(IDS[0, 4:]), want[-1])
    context.reset()
    context.load(state)
    assert context.length == IDS.shape[1]


def test_contexts_are_independent(decoder):
    _, path, weights = decoder
    model = quench.load(path)
    texts = [IDS[0, i:] for i in range(4)]
    got = [None] * len(texts)

    def talk(i):
        context = model.context(threads=1, capacity=16)
        got[i] = np.stack([context.step([token]) for token in texts[i]])

    threads = [threading.Thread(target=talk, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for text, logits in zip(texts, got):
        assert close(logits, oracle.logits(weights, text))


def test_results_do_not_depend_on_threads(decoder):
    _, path, _ = decoder
    model = quench.load(path)
    one, two = (model.context(threads=n, capacity=1).run(inputs())["logits"] for n in (1, 2))
    assert np.array_equal(one, two)


WRONG = {
    "unknown name": (lambda v: v.update(more=IDS), "no input is named 'more'"),
    "missing": (lambda v: v.pop("position_ids"), "'position_ids' is missing"),
    "type": (lambda v: v.update(input_ids=IDS.astype(np.int32)), "takes int64, not int32"),
    "rank": (lambda v: v.update(input_ids=IDS[0]), "rank 1"),
    "fixed size": (lambda v: v.update({"past_key_values.0.key": np.zeros((1, 3, 0, 16), np.float32)}), "3"),
    "sizes that disagree": (lambda v: v.update(attention_mask=np.ones((1, 3), np.int64)), "attention_mask"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs_are_refused(decoder, case):
    change, message = WRONG[case]
    values = inputs()
    change(values)
    model = quench.load(decoder[1])
    with pytest.raises(quench.Error) as error:
        model(**values)
    assert message in str(error.value)
    model(**inputs())


def test_wrong_steps_are_refused(decoder):
    context = quench.load(decoder[1]).context(capacity=4)
    for tokens in ([50], [-1], [1, 2, 3, 4, 5], []):
        with pytest.raises(quench.Error):
            context.step(tokens)
    assert context.length == 0
    for state in (b"", b"nonsense", context.save()[:-1]):
        with pytest.raises(quench.Error):
            context.load(state)


def test_broken_files_are_refused(decoder, tmp_path):
    whole = decoder[1].read_bytes()
    middle = len(whole) // 2
    cases = {"empty": b"", "cut": whole[:middle], "text": b"\x7fELF but no model",
             "altered": whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1:]}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(quench.Error, match=name):
            quench.load(tmp_path / name)
    with pytest.raises(quench.Error, match="absent"):
        quench.load(tmp_path / "absent")


def test_compile_errors_carry_the_message(decoder, tmp_path):
    with pytest.raises(quench.Error, match="absent.onnx"):
        quench.compile(tmp_path / "absent.onnx", tmp_path / "m.so")
    with pytest.raises(quench.Error, match="no-such-recipe"):
        quench.compile(decoder[0], tmp_path / "m.so", recipe="no-such-recipe")


def test_evaluate_is_the_perplexity(decoder, tmp_path):
    _, path, weights = decoder
    ids = np.random.default_rng(0).integers(0, 50, 96)
    np.save(tmp_path / "ids.npy", ids.astype(np.int64))
    result = quench.evaluate(path, tmp_path / "ids.npy", context=32)
    # Windows of 32, of which the second half is scored: each token there but the last says the next.
    nats = []
    for window in ids.reshape(-1, 32):
        logits = oracle.logits(weights, window)
        log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        nats += [-log_probabilities[i, window[i + 1]] for i in range(16, 31)]
    assert result["tokens"] == len(nats)
    assert result["perplexity"] == pytest.approx(np.exp(np.mean(nats)), rel=1e-4)


def test_generate_takes_the_most_probable_tokens(decoder):
    _, path, weights = decoder
    ids = [3, 14, 15]
    for token in quench.generate(path, ids, n=12):
        assert token == oracle.logits(weights, ids)[-1].argmax()
        ids.append(token)
    assert len(ids) == 15
    stop = ids[-1]  # perhaps drawn before: it ends at its first appearance
    assert list(quench.generate(path, ids[:3], n=12, stop=[stop])) == ids[3:ids.index(stop, 3)]


def test_generate_draws_from_the_distribution(decoder):
    _, path, weights = decoder
    model = quench.load(path)
    draws = [next(quench.generate(model, [3, 14], temperature=1.5, seed=s, threads=1)) for s in range(400)]
    logits = oracle.logits(weights, [3, 14])[-1] / 1.5
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    counts = np.bincount(draws, minlength=50)
    assert np.abs(counts / 400 - probabilities).max() < 5 * np.sqrt(0.25 / 400)
    order = np.argsort(-probabilities)
    likely = set(order[:np.searchsorted(np.cumsum(probabilities[order]), 0.5) + 1].tolist())
    some = {next(quench.generate(model, [3, 14], temperature=1.5, top_p=0.5, seed=s, threads=1)) for s in range(100)}
    assert some <= likely


def test_generate_refuses(decoder):
    for arguments in (dict(temperature=-1), dict(top_p=0), dict(top_p=2)):
        with pytest.raises(quench.Error):
            quench.generate(decoder[1], [1], **arguments)
    with pytest.raises(quench.Error, match="tokenizer"):
        quench.generate(decoder[1], "text")
