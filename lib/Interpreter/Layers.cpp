//===- Layers.cpp - The layer ops of the quench dialect ---------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Engine.h"
#include "quench/Quantization/Packing.h"
#include <cblas.h>
#include <cmath>
#include <cstring>

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

/// Stores an f32 result in the element type of the op's result.
static Error giveFloats(Step &step, const HostTensor &tensor) {
  Type type = step.op->getResult(0).getType();
  if (isa<qn::QTensorType>(type)) {
    step.results.push_back(tensor);
    return Error::success();
  }
  QUENCH_TRY(result, toTypeOf(tensor, type));
  step.results.push_back(std::move(result));
  return Error::success();
}

/// Numbers of operand i as f32; weights are evaluated.
static Expected<HostTensor> floats(Step &step, Value value, unsigned i) {
  HostTensor tensor = step.operands[i];
  if (!tensor) {
    QUENCH_TRY(evaluated, step.engine.weight(value));
    tensor = std::move(evaluated);
  }
  return toF32(tensor);
}

//===----------------------------------------------------------------------===//
// Products and tables
//===----------------------------------------------------------------------===//

/// A weight that is the transpose of stored f32 numbers is read where it lies.
static Expected<HostTensor> storedTranspose(Step &step, Value weight) {
  auto leaf = weight.getDefiningOp<qn::WeightOp>();
  if (!leaf || !leaf.getTranspose() || step.engine.replaced.contains(weight))
    return HostTensor();
  QUENCH_TRY(stored, step.engine.initializer(leaf.getInitializer()));
  if (stored.getKind() != ElementKind::F32 || stored.getRank() != 2)
    return HostTensor();
  return stored;
}

static Error linear(Step &step) {
  auto op = cast<qn::LinearOp>(step.op);
  QUENCH_TRY(x, floats(step, op.getInput(), 0));
  QUENCH_TRY(stored, storedTranspose(step, op.getWeight()));
  bool transposed = static_cast<bool>(stored);
  HostTensor w = stored;
  if (!transposed) {
    QUENCH_TRY(evaluated, floats(step, op.getWeight(), 1));
    w = std::move(evaluated);
  }
  int64_t n = w.dim(transposed ? 1 : 0), k = w.dim(transposed ? 0 : 1);
  if (x.getRank() < 1 || w.getRank() != 2 || x.dim(x.getRank() - 1) != k)
    return createStringError("x " + x.describe() + " for a weight of " +
                             Twine(n) + " x " + Twine(k));
  SmallVector<int64_t, 4> shape(x.getShape());
  shape.back() = n;
  QUENCH_TRY(y, HostTensor::allocate(ElementKind::F32, shape));
  float *to = y.mutableData<float>();
  int64_t rows = n ? y.getNumElements() / n : 0;
  float beta = 0;
  if (op.getBias()) {
    QUENCH_TRY(bias, floats(step, op.getBias(), 2));
    if (bias.getNumElements() != n)
      return createStringError("a bias of " + bias.describe() + " for " +
                               Twine(n) + " outputs");
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(to + r * n, bias.raw(), n * sizeof(float));
    beta = 1;
  }
  if (k == 0 && beta == 0)
    std::memset(to, 0, y.getNumBytes());
  if (rows > 0 && k > 0)
    cblas_sgemm(CblasRowMajor, CblasNoTrans,
                transposed ? CblasNoTrans : CblasTrans, rows, n, k, 1.0f,
                x.data<float>(), k, w.data<float>(), transposed ? n : k, beta,
                to, n);
  return giveFloats(step, y);
}

static Error embedding(Step &step) {
  auto op = cast<qn::EmbeddingOp>(step.op);
  HostTensor table = step.operands[1];
  if (!table) {
    QUENCH_TRY(evaluated, step.engine.weight(op.getTable()));
    table = std::move(evaluated);
  }
  if (table.getRank() != 2)
    return createStringError("a table of " + table.describe());
  const HostTensor &ids = step.operands[0];
  SmallVector<int64_t, 4> shape(ids.getShape());
  shape.push_back(table.dim(1));
  QUENCH_TRY(rows, HostTensor::allocate(table.getKind(), shape));
  int64_t bytes = table.dim(1) * elementBytes(table.getKind());
  char *to = rows.mutableData<char>();
  for (int64_t i = 0; i < ids.getNumElements(); ++i) {
    int64_t id = ids.intAt(i);
    if (id < 0 || id >= table.dim(0))
      return createStringError("id " + Twine(id) + " at " + Twine(i) +
                               " is outside of the vocabulary of " +
                               Twine(table.dim(0)));
    std::memcpy(to + i * bytes, table.data<char>() + id * bytes, bytes);
  }
  QUENCH_TRY(result, toTypeOf(rows, op.getType()));
  step.results.push_back(std::move(result));
  return Error::success();
}

//===----------------------------------------------------------------------===//
// Norm, rotary
//===----------------------------------------------------------------------===//

static Error norm(Step &step) {
  auto op = cast<qn::NormOp>(step.op);
  bool layer = op.getKind() == "layer";
  unsigned next = 1;
  QUENCH_TRY(x, floats(step, op.getInput(), 0));
  if (x.getRank() < 1)
    return createStringError("a norm of " + x.describe());
  int64_t width = x.dim(x.getRank() - 1);
  HostTensor gain, bias;
  if (op.getGain()) {
    QUENCH_TRY(numbers, floats(step, op.getGain(), next++));
    gain = numbers;
  }
  if (op.getBias()) {
    QUENCH_TRY(numbers, floats(step, op.getBias(), next++));
    bias = numbers;
  }
  for (const HostTensor &side : {gain, bias})
    if (side && side.getNumElements() != width)
      return createStringError("a gain or bias of " + side.describe() +
                               " for a width of " + Twine(width));
  const float *g = gain ? gain.data<float>() : nullptr;
  const float *b = bias ? bias.data<float>() : nullptr;
  double epsilon = op.getEpsilon().convertToDouble();
  QUENCH_TRY(y, HostTensor::allocate(ElementKind::F32, x.getShape()));
  const float *from = x.data<float>();
  float *to = y.mutableData<float>();
  int64_t rows = width ? x.getNumElements() / width : 0;
  for (int64_t r = 0; r < rows; ++r, from += width, to += width) {
    double mean = 0, square = 0;
    if (layer) {
      for (int64_t i = 0; i < width; ++i)
        mean += from[i];
      mean /= width;
    }
    for (int64_t i = 0; i < width; ++i)
      square += (from[i] - mean) * (from[i] - mean);
    double scale = 1 / std::sqrt(square / width + epsilon);
    for (int64_t i = 0; i < width; ++i) {
      float value = static_cast<float>((from[i] - mean) * scale);
      if (g)
        value *= g[i];
      to[i] = b ? value + b[i] : value;
    }
  }
  return giveFloats(step, y);
}

static Error rotary(Step &step) {
  auto op = cast<qn::RotaryOp>(step.op);
  QUENCH_TRY(x, floats(step, op.getInput(), 0));
  const HostTensor &positions = step.operands[1];
  ArrayRef<float> frequencies = op.getFrequencies();
  int64_t pairs = frequencies.size(), size = op.getHeadSize();
  bool adjacent = op.getPairs() == "adjacent";
  if (!adjacent && op.getPairs() != "half")
    return createStringError("pairs '" + op.getPairs() +
                             "', accepted are half and adjacent");
  if (x.getRank() != 3 || x.dim(2) % size != 0 || 2 * pairs > size)
    return createStringError("heads of " + Twine(size) + " numbers with " +
                             Twine(2 * pairs) + " of them turned in " +
                             x.describe());
  int64_t batch = x.dim(0), sequence = x.dim(1), heads = x.dim(2) / size;
  bool shared = positions.getNumElements() == sequence;
  if (!shared && positions.getNumElements() != batch * sequence)
    return createStringError("positions " + positions.describe() + " for " +
                             x.describe());
  QUENCH_TRY(y, HostTensor::allocate(ElementKind::F32, x.getShape()));
  const float *from = x.data<float>();
  float *to = y.mutableData<float>();
  std::vector<float> cosines(pairs), sines(pairs);
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t s = 0; s < sequence; ++s) {
      float position =
          static_cast<float>(positions.intAt((shared ? 0 : b * sequence) + s));
      for (int64_t i = 0; i < pairs; ++i) {
        float angle = position * frequencies[i];
        cosines[i] = std::cos(angle);
        sines[i] = std::sin(angle);
      }
      for (int64_t h = 0; h < heads; ++h, from += size, to += size) {
        std::memcpy(to, from, size * sizeof(float));
        for (int64_t i = 0; i < pairs; ++i) {
          int64_t first = adjacent ? 2 * i : i;
          int64_t second = adjacent ? 2 * i + 1 : i + pairs;
          float u = from[first], v = from[second];
          to[first] = u * cosines[i] - v * sines[i];
          to[second] = v * cosines[i] + u * sines[i];
        }
      }
    }
  return giveFloats(step, y);
}

//===----------------------------------------------------------------------===//
// Maps and formats of activations
//===----------------------------------------------------------------------===//

static Error mapActivation(Step &step) {
  auto op = cast<qn::MapOp>(step.op);
  QUENCH_TRY(instance, step.engine.map(op.getMap()));
  const HostTensor &x = step.operands[0];
  QUENCH_TRY(numbers, toDoubles(x));
  QUENCH_TRY(mapped, applyMap(*instance, std::move(numbers), x.getShape(),
                              op.getAxis()));
  SmallVector<int64_t, 4> shape(x.getShape());
  shape[op.getAxis()] = instance->out();
  QUENCH_TRY(kind, elementKindOf(op.getResult().getType()));
  QUENCH_TRY(y, fromDoubles(mapped, kind, shape));
  step.results.push_back(std::move(y));
  return Error::success();
}

/// One row in int8, as kernels do it: both factors are rounded to f32.
static void quantizeRow(const float *x, int64_t n, float *y) {
  float greatest = 0;
  for (int64_t i = 0; i < n; ++i)
    greatest = std::max(greatest, std::fabs(x[i]));
  if (!(greatest > 0)) {
    std::memset(y, 0, n * sizeof(float));
    return;
  }
  float inverse = 127.0f / greatest, scale = greatest / 127.0f;
  for (int64_t i = 0; i < n; ++i) {
    float code = std::nearbyint(x[i] * inverse);
    code = std::max(-127.0f, std::min(127.0f, code));
    y[i] = code * scale;
  }
}

static Error quantizeActivation(Step &step) {
  auto op = cast<qn::QuantizeOp>(step.op);
  QUENCH_TRY(format, getFormat(op.getType().getFormat().getSpec()));
  QUENCH_TRY(x, floats(step, op.getInput(), 0));
  if (step.engine.getOptions().floatActivations) {
    step.results.push_back(std::move(x));
    return Error::success();
  }
  int64_t width = x.getRank() ? x.dim(x.getRank() - 1) : 1;
  int64_t rows = width ? x.getNumElements() / width : 0;
  QUENCH_TRY(y, HostTensor::allocate(ElementKind::F32, x.getShape()));
  const float *from = x.data<float>();
  float *to = y.mutableData<float>();
  if (format->spec() == "int<8>") {
    for (int64_t r = 0; r < rows; ++r)
      quantizeRow(from + r * width, width, to + r * width);
  } else if (rows > 0) {
    decodeRows(*format, encodeNearest(*format, from, rows, width, {}), to);
  }
  step.results.push_back(std::move(y));
  return Error::success();
}

static Error dequantize(Step &step) {
  return giveFloats(step, step.operands[0]);
}

//===----------------------------------------------------------------------===//
// Sequences and dimensions
//===----------------------------------------------------------------------===//

static Error extend(Step &step) {
  const HostTensor &past = step.operands[0], &rows = step.operands[1];
  if (past.getRank() != 4 || rows.getRank() != 3 ||
      past.dim(0) != rows.dim(0) || rows.dim(2) != past.dim(1) * past.dim(3) ||
      past.getKind() != rows.getKind())
    return createStringError("a cache " + past.describe() +
                             " cannot be extended by " + rows.describe());
  int64_t batch = past.dim(0), heads = past.dim(1), before = past.dim(2),
          size = past.dim(3), count = rows.dim(1), total = before + count;
  QUENCH_TRY(result,
             HostTensor::allocate(past.getKind(), {batch, heads, total, size}));
  int64_t bytes = size * elementBytes(past.getKind());
  char *to = result.mutableData<char>();
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < heads; ++h) {
      char *head = to + (b * heads + h) * total * bytes;
      std::memcpy(head, past.data<char>() + (b * heads + h) * before * bytes,
                  before * bytes);
      for (int64_t s = 0; s < count; ++s)
        std::memcpy(head + (before + s) * bytes,
                    rows.data<char>() + ((b * count + s) * heads + h) * bytes,
                    bytes);
    }
  step.results.push_back(std::move(result));
  return Error::success();
}

static Error lastRows(Step &step) {
  const HostTensor &x = step.operands[0];
  int64_t count = step.operands[1].intAt(0);
  if (x.getRank() != 3 || count < 0 || count > x.dim(1))
    return createStringError("the last " + Twine(count) + " rows of " +
                             x.describe());
  QUENCH_TRY(result,
             HostTensor::allocate(x.getKind(), {x.dim(0), count, x.dim(2)}));
  int64_t row = x.dim(2) * elementBytes(x.getKind());
  for (int64_t b = 0; b < x.dim(0); ++b)
    std::memcpy(result.mutableData<char>() + b * count * row,
                x.data<char>() + ((b + 1) * x.dim(1) - count) * row,
                count * row);
  step.results.push_back(std::move(result));
  return Error::success();
}

static Error namedDim(Step &step) {
  StringRef name = cast<qn::DimOp>(step.op).getName();
  auto found = step.engine.dims.find(name);
  if (found == step.engine.dims.end())
    return createStringError("dimension '" + name +
                             "' is not one of the inputs' quench.dims");
  step.results.push_back(HostTensor::scalar(ElementKind::I64, found->second));
  return Error::success();
}

void quench::addLayerHandlers(Handlers &handlers) {
  handlers["quench.linear"] = linear;
  handlers["quench.embedding"] = embedding;
  handlers["quench.norm"] = norm;
  handlers["quench.rotary"] = rotary;
  handlers["quench.map"] = mapActivation;
  handlers["quench.quantize"] = quantizeActivation;
  handlers["quench.dequantize"] = dequantize;
  handlers["quench.extend"] = extend;
  handlers["quench.last_rows"] = lastRows;
  handlers["quench.dim"] = namedDim;
  handlers["quench.attention"] = runAttention;
}
