"""Whole models: compiled without quantization they compute what ONNX Runtime computes.

Language models are run as the ONNX graph stands (caches are inputs and outputs), and by `generate`, where the state
lies in a context: its tokens are those of ONNX Runtime's greedy choice.
"""

import llama_oracle
import model_zoo as zoo
import numpy as np
import pytest

ort = pytest.importorskip("onnxruntime")

SHARED = zoo.find_shared()
STORED = {**zoo.LANGUAGE_MODELS, **zoo.ENCODERS}
NAMES = zoo.MADE + ([*STORED] if (SHARED / "models").is_dir() else [])


@pytest.fixture(scope="module")
def models(tmp_path_factory, quench_driver):
    """name -> (ONNX file, its compiled form), each made once."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            if name in zoo.MADE:
                source, _ = zoo.make_decoder(name, folder)
            elif name in zoo.LARGE:
                source = zoo.make_large(name, quench_driver.path.parents[1] / "models", SHARED)
                if source is None:
                    pytest.skip("the package that holds this model is not installed (utils/fetch-models)")
            else:
                source = SHARED / "models" / STORED[name]
            quench_driver("compile", source, "-o", folder / "model.so", "--recipe", "f32", timeout=600)
            made[name] = source, folder / "model.so"
        return made[name]

    return get


def reference(source):
    """ONNX Runtime on a graph as it stands: its rewrites round activations to int8 where weights are integers."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def run_compiled(driver, binary, values, outputs, folder):
    arguments = []
    for name, value in values.items():
        np.save(folder / f"in.{name}.npy", value)
        arguments += ["--input", f"{name}={folder / f'in.{name}.npy'}"]
    for name in outputs:
        arguments += ["--output", f"{name}={folder / f'out.{name}.npy'}"]
    driver("run", binary, *arguments)
    return {name: np.load(folder / f"out.{name}.npy") for name in outputs}


def losses(logits, ids):
    """Nats per token and the most probable tokens."""
    logits = logits[0, :-1].astype(np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -log_probabilities[np.arange(len(logits)), ids[0, 1:]].mean(), logits.argmax(-1)


@pytest.mark.parametrize("name", NAMES + zoo.LARGE)
@pytest.mark.parametrize("past", [0, 5])
def test_outputs_are_those_of_onnx_runtime(models, quench_driver, tmp_path, name, past):
    source, binary = models(name)
    session = reference(source)
    if past and not any(i.name.startswith("past") for i in session.get_inputs()):
        pytest.skip("a model without cache inputs")
    values = zoo.feed(session, sequence=24, past=past)
    names = [o.name for o in session.get_outputs()]
    want = dict(zip(names, session.run(None, values)))
    got = run_compiled(quench_driver, binary, values, names, tmp_path)
    for output in names:
        assert got[output].shape == want[output].shape and got[output].dtype == want[output].dtype
    if name in zoo.ROUNDING:
        ours, theirs = (losses(x["logits"], values["input_ids"]) for x in (got, want))
        assert abs(ours[0] - theirs[0]) < 0.02
        assert (ours[1] == theirs[1]).mean() > 0.9
    else:
        worst = {output: zoo.distance(got[output], want[output]) for output in names}
        assert max(worst.values()) < 1e-4, worst


@pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="needs the shared folder of models")
def test_rounding_graph_keeps_its_loss(models, quench_driver, tmp_path):
    """A graph that rounds activations itself: the loss over many tokens, and nearly always the same top token."""
    source, binary = models("bitnet")
    ids = np.load(SHARED / "models" / "llm-bitnet-shakespeare" / "eval_ids.npy").reshape(-1)
    session = reference(source)
    sums, same = np.zeros(2), []
    for window in ids[:8 * 128].reshape(8, 1, 128).astype(np.int64):
        want = session.run(None, {"input_ids": window})[0]
        got = run_compiled(quench_driver, binary, {"input_ids": window}, ["logits"], tmp_path)["logits"]
        (ours, our_top), (theirs, their_top) = losses(got, window), losses(want, window)
        sums += ours, theirs
        same.append((our_top == their_top).mean())
    assert abs(sums[0] - sums[1]) / 8 < 0.002
    assert np.mean(same) > 0.99


@pytest.mark.parametrize("name", [n for n in NAMES if n in zoo.ENCODERS] + ["minilm-14", "minilm-17"])
def test_encoders_leave_out_padding(models, quench_driver, tmp_path, name):
    source, binary = models(name)
    session = reference(source)
    values = zoo.pad(zoo.feed(session, batch=3, sequence=17), "attention_mask", 6)
    output = session.get_outputs()[0].name
    want = session.run([output], values)[0]
    got = run_compiled(quench_driver, binary, values, [output], tmp_path)[output]
    assert zoo.distance(got, want) < 1e-4


def greedy(session, prompt, count):
    """The most probable tokens after a prompt, one by one, without a cache, and the smallest lead of a first token
    over the second."""
    ids, lead = list(prompt), np.inf
    for _ in range(count):
        values = zoo.feed(session, sequence=len(ids), past=0)
        values["input_ids"] = np.array([ids], np.int64)
        logits = session.run(["logits"], values)[0][0, -1]
        first, second = np.sort(logits)[[-1, -2]]
        lead = min(lead, first - second)
        ids.append(int(logits.argmax()))
    return ids[len(prompt):], lead


@pytest.mark.parametrize("name", [n for n in NAMES if n not in zoo.ENCODERS and n not in zoo.ROUNDING])
def test_generated_tokens_are_onnx_runtimes(models, quench_driver, name):
    source, binary = models(name)
    prompt = [1, 40, 7, 23]
    want, lead = greedy(reference(source), prompt, 20)
    assert lead > 1e-4, "the oracle itself is undecided; choose another prompt"
    done = quench_driver("generate", binary, "--tokens", ",".join(map(str, prompt)), "-n", len(want))
    got = [int(word) for word in done.stdout.replace(",", " ").split()]
    assert got[-len(want):] == want


def test_made_decoder_is_the_numpy_decoder(quench_driver, tmp_path):
    """Without ONNX Runtime in between."""
    source, weights = zoo.make_decoder("made-past", tmp_path)
    quench_driver("compile", source, "-o", tmp_path / "m.so", "--recipe", "f32")
    values = zoo.feed(reference(source), sequence=9)
    got = run_compiled(quench_driver, tmp_path / "m.so", values, ["logits"], tmp_path)["logits"]
    want = llama_oracle.logits(weights, values["input_ids"][0])
    assert zoo.distance(got[0], want) < 1e-4


@pytest.mark.parametrize("recipe", ["f32", "w8", "w4a8"])
def test_bytes_repeat(models, quench_driver, tmp_path, recipe):
    source, _ = models("made-past")
    for name, threads in (("a", 1), ("b", 2)):
        quench_driver("compile", source, "-o", tmp_path / name, "--recipe", recipe, "--threads", threads)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


GRAPHS = {
    # A mask read both by a sum over it and by a product: fusion makes one loop that sums and stores.
    "masked-mean": """<ir_version: 8, opset_import: ["" : 17]>
g (float[b, s, 5] x, int64[b, s] mask) => (float[b, 5] y) <int64[1] two = {2}, int64[1] one = {1}, float lo = {0.5}> {
  m = Cast<to = 1>(mask)  m3 = Unsqueeze(m, two)  p = Mul(x, m3)  sum = ReduceSum<keepdims = 0>(p, one)
  n = ReduceSum<keepdims = 1>(m, one)  n1 = Max(n, lo)  y = Div(sum, n1) }""",
    # A slice of a constant as long as the input, then flattened: its size is a product through two views.
    "positions": """<ir_version: 8, opset_import: ["" : 17]>
g (float[b, s, 3] x, int64[b, s] mask) => (float[b, s, 3] y)
<int64[1, 16] ids = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, int64[1] zero = {0}, int64[1] one = {1},
 int64[1] two = {2}, float[16, 3] table = {0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47}> {
  shape = Shape(mask)  end = Slice(shape, one, two, zero)  cut = Slice(ids, zero, end, one)
  rows = Gather(table, cut)  m = Cast<to = 1>(mask)  m3 = Unsqueeze(m, two)  r = Mul(rows, m3)  y = Add(x, r) }""",
    # Rounding to steps of each row's largest number.
    "row-steps": """<ir_version: 8, opset_import: ["" : 17]>
g (float[b, s, 40] x, int64[b, s] mask) => (float[b, s, 40] y)
<float c = {127.0}, float lo = {0.00001}, float least = {-128.0}> {
  a = Abs(x)  m = ReduceMax<axes = [-1], keepdims = 1>(a)  m1 = Max(m, lo)  k = Div(c, m1)  t = Mul(x, k)
  r = Round(t)  q = Clip(r, least, c)  y = Div(q, k) }""",
}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 7), (2, 16)])
def test_small_graphs(quench_driver, tmp_path, graph, shape):
    """Graphs whose loops, sizes and barriers have their own cases; on 1 to 3 threads."""
    onnx, quench = pytest.importorskip("onnx"), package()
    onnx.save(onnx.parser.parse_model(GRAPHS[graph]), tmp_path / "g.onnx")
    quench_driver("compile", tmp_path / "g.onnx", "-o", tmp_path / "g.so", "--recipe", "f32")
    session = reference(tmp_path / "g.onnx")
    rng = np.random.default_rng(sum(shape))
    values = {"x": rng.standard_normal((*shape, session.get_inputs()[0].shape[2])).astype(np.float32)}
    if len(session.get_inputs()) > 1:
        values["mask"] = rng.integers(0, 2, shape)
    want = session.run(None, values)[0]
    model = quench.load(str(tmp_path / "g.so"))
    for threads in (1, 2, 3):
        got = model.context(threads=threads).run(values)["y"]
        assert zoo.distance(got, want) < 1e-6


def package():
    """The Python package with its extension, or a skip where that is not built."""
    pytest.importorskip("quench._quench")
    import quench

    return quench


def feeds_of(session, batch, sequence=11, past=0):
    """Inputs whose rows differ, the last one padded where the model is an encoder."""
    if not any(i.name.startswith("past") for i in session.get_inputs()):
        past = 0
    values = zoo.feed(session, batch=batch, sequence=sequence, past=past)
    names = {i.name for i in session.get_inputs()}
    if "attention_mask" in names and not any(n.startswith("past") for n in names):
        values = zoo.pad(values, "attention_mask", 4)
    return values


@pytest.mark.parametrize("name", NAMES + zoo.LARGE)
def test_threads_give_the_same_bits(models, name):
    quench = package()
    source, binary = models(name)
    values = feeds_of(reference(source), batch=2, past=3)
    model = quench.load(str(binary))
    want = model.context(threads=1).run(values)
    for threads in (2, 3):
        context = model.context(threads=threads)
        for _ in range(3):
            got = context.run(values)
            assert all(np.array_equal(got[output], want[output]) for output in want)


@pytest.mark.parametrize("name", NAMES + zoo.LARGE)
def test_rows_do_not_see_each_other(models, name):
    quench = package()
    source, binary = models(name)
    values = feeds_of(reference(source), batch=3, past=3)
    model = quench.load(str(binary))
    want = model(**values)
    for row in range(3):
        alone = model(**{key: value[row:row + 1] for key, value in values.items()})
        assert all(np.array_equal(alone[output][0], want[output][row]) for output in want)


CHUNKS = [[50], [1] * 50, [5, 1, 30, 1, 1, 12], [16, 16, 16, 2], [49, 1]]


@pytest.mark.parametrize("recipe", ["f32", "w8", "w4a8"])
@pytest.mark.parametrize("name", ["made-past", *(n for n in ("babyllama-past",) if n in NAMES)])
def test_step_by_step_is_all_at_once(models, quench_driver, tmp_path, name, recipe):
    """One token at a time, in pieces and in one go: the same bits, on any number of threads."""
    quench = package()
    source, binary = models(name)
    if recipe != "f32":
        binary = tmp_path / "model.so"
        quench_driver("compile", source, "-o", binary, "--recipe", recipe)
    model = quench.load(str(binary))
    tokens = np.random.default_rng(3).integers(1, model.vocabulary, 50)
    want = model.context(threads=1).step(tokens, all=True)
    for threads in (1, 2, 3):
        for chunks in CHUNKS:
            context = model.context(threads=threads)
            pieces = np.split(tokens, np.cumsum(chunks)[:-1])
            got = np.concatenate([context.step(piece, all=True) for piece in pieces])
            assert np.array_equal(got, want), (threads, chunks)


@pytest.mark.parametrize("form", ["past", "gqa"])
def test_large_model_continues_as_onnx_runtime(models, form):
    """Decoding with a state against ONNX Runtime without caches, over 40 tokens."""
    quench = package()
    prompt = [504, 3575, 282, 4649, 314]
    want, lead = greedy(reference(models("smollm2-plain")[0]), prompt, 40)
    assert lead > 1e-3, "the oracle itself is undecided; choose another prompt"
    context = quench.load(str(models(f"smollm2-{form}")[1])).context(threads=2)
    logits, got = context.step(prompt), []
    for _ in want:
        got.append(int(logits.argmax()))
        logits = context.step(got[-1:])
    assert got == want


@pytest.mark.parametrize("low,high,zero", [(-1, 2, None), (-8, 8, None), (-128, 128, None), (0, 256, 131), (-128, 128, 5)])
@pytest.mark.parametrize("scale", [0.0625, -0.0625, None])
@pytest.mark.parametrize("recipe", ["f32", "a8"])
def test_stored_codes_stay(quench_driver, tmp_path, low, high, zero, scale, recipe):
    """Weights in codes, with scales that are halves: the same numbers in every recipe, but for int8 activations."""
    onnx, quench = pytest.importorskip("onnx"), package()
    rng = np.random.default_rng(low + high + (zero or 0))
    kind = np.uint8 if low == 0 else np.int8
    codes = rng.integers(low, high, (64, 48)).astype(kind)
    scales = np.float32(scale) if scale else (2.0 ** rng.integers(-8, -3, 48) * rng.choice([-1, 1], 48)).astype(np.float32)
    constants = {"codes": codes, "scale": scales}
    if zero is not None:
        constants["zero"] = np.full(scales.shape, zero, kind)
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("DequantizeLinear", list(constants), ["w"], axis=1),
         onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g", [make("x", 1, ["rows", 64])], [make("y", 1, ["rows", 48])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
              tmp_path / "g.onnx")
    quench_driver("compile", tmp_path / "g.onnx", "-o", tmp_path / "g.so", "--recipe", recipe)
    x = rng.standard_normal((9, 64)).astype(np.float32)
    want = x.astype(np.float64) @ ((codes.astype(np.float64) - (zero or 0)) * scales)
    got = quench.load(str(tmp_path / "g.so"))(x=x)["y"]
    assert zoo.distance(got, want) < (0.02 if recipe == "a8" else 1e-6)


@pytest.mark.parametrize("name", [n for n in ("bitnet", "bitnet-past", "babyllama-gqa-int4", "use-lite-int4")
                                  if n in NAMES])
@pytest.mark.parametrize("recipe", ["w8", "a8", "w4a8"])
def test_models_of_codes_stay_small(models, quench_driver, tmp_path, name, recipe):
    source, binary = models(name)
    quench_driver("compile", source, "-o", tmp_path / "m.so", "--recipe", recipe)
    assert (tmp_path / "m.so").stat().st_size < 0.3 * binary.stat().st_size
    session = reference(source)
    values = zoo.feed(session, batch=2, sequence=20)
    output = session.get_outputs()[0].name
    want = session.run([output], values)[0]
    got = run_compiled(quench_driver, tmp_path / "m.so", values, [output], tmp_path)[output]
    assert (got * want).sum() > 0.998 * np.sqrt((got ** 2).sum() * (want ** 2).sum())
